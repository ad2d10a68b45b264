from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from perdure.errors import RequestError
from perdure.protocol.events import (
    MAX_EVENT_BYTES,
    IncomingEvent,
    InvokeRequest,
    event_response,
    internal_event,
    read_invoke,
)
from perdure.protocol.signing import canonicalize
from tests.unit.protocol.event_bodies import FIRST, NOW, SECOND, bodies, outcome, read

NOT_EVENTS = "Request body must contain an event object or an array of event objects"


def only(body: bytes) -> IncomingEvent:
    reader = read(body)
    assert reader.error is None
    assert len(reader.events) == 1
    assert outcome(read(body, list(range(len(body))))) == outcome(reader)
    return reader.events[0]


def delivered(body: bytes) -> Any:
    return json.loads(only(body).body)


def refusal(body: bytes) -> str:
    """The error text of a body none of whose events is accepted."""
    events, status, message = outcome(read(body))
    assert (events, status) == ([], 400)
    assert outcome(read(body, list(range(len(body))))) == ([], 400, message)
    return message


class TestDelivery:
    def test_the_least_event(self) -> None:
        event = only(b'{"name":"a/b"}')
        assert event == IncomingEvent(FIRST, "a/b", FIRST, False, NOW, event.body)
        assert event.body == b'{"data":{},"id":"%b","name":"a/b","ts":%d,"user":{}}' % (FIRST.encode(), NOW)

    def test_every_field(self) -> None:
        event = only(
            b'{"v":"2","user":{"e": 1.0},"ts":1690000000000,"name":"a/b","id":"mine","extra":[1],'
            b'"meta":{"sessions":{"s":5}},"data":{ "z":1,"a":2}}'
        )
        assert event == IncomingEvent(FIRST, "a/b", "mine", True, 1690000000000, event.body)
        assert event.body == (
            b'{"data":{ "z":1,"a":2},"id":"mine","meta":{"sessions":{"s":"5"}},"name":"a/b",'
            b'"ts":1690000000000,"user":{"e": 1.0},"v":"2"}'
        )

    def test_keys_are_in_canonical_order(self) -> None:
        body = only(b'{"name":"a","v":"1","meta":{"sessions":{"s":"x"}},"user":{"a":1},"data":{"b":1}}').body
        assert canonicalize(body) == body

    def test_payloads_are_never_written_anew(self) -> None:
        data = rb'{"big":1152921504606846976,"one":1.0,"e":1E+2,"u":"\u00e9\/","twice":1,"twice":2, "s":[ ] }'
        assert only(b'{"name":"a","data":' + data + b',"user":' + data + b"}").body.count(data) == 2

    def test_names_and_ids_are_kept_as_they_are(self) -> None:
        event = only('{"name":"caf\u00e9/\\u20ac\\n","id":" \\"x\\" \\ud83d\\ude00"}'.encode())
        assert (event.name, event.id) == ("caf\u00e9/\u20ac\n", ' "x" \U0001f600')
        assert json.loads(event.body)["name"] == event.name
        assert json.loads(event.body)["id"] == event.id

    @pytest.mark.parametrize("field", ["data", "user"])
    @pytest.mark.parametrize("value", ["null", "{}", " null ", " {} "])
    def test_no_data_and_no_user_are_empty_objects(self, field: str, value: str) -> None:
        assert delivered(b'{"name":"a","%b":%b}' % (field.encode(), value.encode()))[field] == {}

    @pytest.mark.parametrize(
        "fields", ['"ts":0,"id":""', '"ts":null,"id":null,"v":null,"meta":null', '"v":"","meta":{}']
    )
    def test_zero_empty_and_null_are_absent(self, fields: str) -> None:
        event = only(f'{{"name":"a/b",{fields}}}'.encode())
        assert event == only(b'{"name":"a/b"}')

    def test_of_repeated_fields_the_last_stands(self) -> None:
        assert delivered(b'{"name":"a","data":{"x":1},"name":"b","data":{"y":2}}') == delivered(
            b'{"name":"b","data":{"y":2}}'
        )

    def test_half_surrogate_pairs_become_the_replacement_character(self) -> None:
        event = only(rb'{"name":"a\ud800","id":"\udc00","data":{"x":"cut \ud83d","y":"\ud83d\ude00"}}')
        assert (event.name, event.id) == ("a\ufffd", "\ufffd")
        assert rb'{"x":"cut \ufffd","y":"\ud83d\ude00"}' in event.body

    def test_a_nul_within_data_is_passed_on(self) -> None:
        assert delivered(rb'{"name":"a","data":{"x":"\u0000"}}')["data"] == {"x": "\0"}

    def test_sessions_are_folded(self) -> None:
        # Recorded.
        meta = (
            b'{"sessions":{"a":1,"b":"x","c":null},"propagated_sessions":{"a":"old","c":"gone","d":"kept"}}'
        )
        assert delivered(b'{"name":"a/meta","meta":' + meta + b"}")["meta"] == {
            "sessions": {"a": "1", "b": "x", "d": "kept"}
        }
        assert "meta" not in delivered(b'{"name":"a","meta":{"sessions":{"a":null}}}')

    @pytest.mark.parametrize("ts", [315532800000, 4102444800000])
    def test_the_first_and_last_times(self, ts: int) -> None:
        assert only(b'{"name":"a","ts":%d}' % ts).ts == ts


class TestOwnKey:
    @pytest.mark.parametrize(
        "key", ["_inngest", r"\u005finngest", r"_inng\u0065st", r"_inn\u0067est", r"\u005Finngest"]
    )
    def test_it_is_taken_out_of_data(self, key: str) -> None:
        event = only(f'{{"name":"a","data":{{"k":1.0, "{key}":{{"fn_id":"x"}} ,"z":[ 1 ]}}}}'.encode())
        assert b'"data":{"k":1.0,"z":[ 1 ]}' in event.body

    def test_every_one_of_them(self) -> None:
        assert delivered(b'{"name":"a","data":{"_inngest":1,"k":1,"_inngest":2}}')["data"] == {"k": 1}
        assert delivered(b'{"name":"a","data":{"_inngest":null}}')["data"] == {}

    @pytest.mark.parametrize(
        "data",
        [
            b'{"a": {"_inngest":1}}',
            b'{"a": "_inngest"}',
            b'{"_Inngest" :1}',
            b'{"_inngest_" :1}',
            rb'{"a" :"\u0061"}',
        ],
    )
    def test_nothing_else_is_touched(self, data: bytes) -> None:
        assert data in only(b'{"name":"a","data":' + data + b"}").body

    def test_in_a_body_that_is_too_large_to_be_read_at_once(self) -> None:
        body = b'[{"name":"a","data":{"k":1,"_inngest":2}}' + b" " * 70_000 + b"]"
        assert [json.loads(event.body)["data"] for event in read(body).events] == [{"k": 1}]

    def test_user_is_not_touched(self) -> None:
        assert b'"user":{"_inngest": 1}' in only(b'{"name":"a","user":{"_inngest": 1}}').body


class TestRefusals:
    # The first group of texts is what the reference server answers, word for word.
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b"{}", "event name is empty"),
            (b"[{}]", "event name is empty"),
            (b'{"name":""}', "event name is empty"),
            (b'{"name":null}', "event name is empty"),
            (b'{"name":"inngest/x"}', "event name is reserved for internal use: inngest/x"),
            (b'{"name":"INNGEST/x"}', "event name is reserved for internal use: INNGEST/x"),
            (b'{"name":"iNNgest/"}', "event name is reserved for internal use: iNNgest/"),
            (rb'{"name":"\u0069nngest/x"}', "event name is reserved for internal use: inngest/x"),
            (b'{"name":"a/b","ts":1}', "timestamp is before Jan 1, 1980"),
            (b'{"name":"a/b","ts":315532799999}', "timestamp is before Jan 1, 1980"),
            (b'{"name":"a/b","ts":-1}', "timestamp is before Jan 1, 1980"),
            (b'{"name":"a/b","ts":4102444800001}', "timestamp is after Jan 1, 2100"),
            (b"null", NOT_EVENTS),
            (b"true", NOT_EVENTS),
            (b'"str"', NOT_EVENTS),
            (b"123", NOT_EVENTS),
            (b"hello", NOT_EVENTS),
            (b"name=a%2Fb&data=1", NOT_EVENTS),
            (b"\xef\xbb\xbf{}", NOT_EVENTS),
            (b"\x1f\x8b\x08\x00", NOT_EVENTS),
            (
                b'{"name":"a","meta":{"sessions":{"0":"x","1":"x","2":"x","3":"x","4":"x","5":"x"}}}',
                "event sessions can include at most 5 entries",
            ),
        ],
    )
    def test_known_texts(self, body: bytes, message: str) -> None:
        assert refusal(body) == message

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("name", "5", 'event field "name" must be a string, not a number'),
            ("name", "{}", 'event field "name" must be a string, not an object'),
            ("data", "[1]", 'event field "data" must be an object, not an array'),
            ("data", '"s"', 'event field "data" must be an object, not a string'),
            ("data", "5", 'event field "data" must be an object, not a number'),
            ("data", "true", 'event field "data" must be an object, not a boolean'),
            ("id", "5", 'event field "id" must be a string, not a number'),
            ("ts", '"2020"', 'event field "ts" must be a number, not a string'),
            ("ts", "1.5", 'event field "ts" must be a whole number of milliseconds, not 1.5'),
            (
                "ts",
                "1690000000000.0",
                'event field "ts" must be a whole number of milliseconds, not 1690000000000.0',
            ),
            ("ts", "1e12", 'event field "ts" must be a whole number of milliseconds, not 1e12'),
            ("ts", "9" * 30, "timestamp is after Jan 1, 2100"),
            ("ts", "9" * 300, "timestamp is after Jan 1, 2100"),
            ("ts", "-" + "9" * 300, "timestamp is before Jan 1, 1980"),
            ("user", '"x"', 'event field "user" must be an object, not a string'),
            ("v", "1", 'event field "v" must be a string, not a number'),
            ("meta", "[]", 'event field "meta" must be an object, not an array'),
            ("meta", '{"sessions":5}', 'event field "meta.sessions" must be an object or null, not a number'),
        ],
    )
    def test_wrong_types_name_the_field(self, field: str, value: str, message: str) -> None:
        others = {
            key: text for key, text in (("name", '"a"'), ("data", "{}"), ("ts", "null")) if key != field
        }
        pairs = [*others.items(), (field, value)]
        assert (
            refusal("{{{}}}".format(",".join(f'"{key}":{text}' for key, text in pairs)).encode()) == message
        )

    @pytest.mark.parametrize(
        "body",
        [
            b'[{"name":"a/ok"}, "", ""]',
            b'[{"name":"a/ok"}, 5]',
            b'[{"name":"a/ok"}, null]',
            b'[{"name":"a/ok"},[]]',
            b'[{"name":"a/ok"},5,{"name":"a"},{"name":"b"}]',
        ],
    )
    def test_elements_must_be_objects(self, body: bytes) -> None:
        events, status, message = outcome(read(body))
        assert (len(events), status) == (1, 400)
        assert message.startswith("an event must be an object, not ")

    @pytest.mark.parametrize("field", ["name", "id"])
    def test_names_and_ids_are_bounded_and_without_nul(self, field: str) -> None:
        other = b'"name":"a",' if field == "id" else b""
        for good in (b"x" * 1024, "\u00e9".encode() * 512):
            only(b'{%b"%b":"%b"}' % (other, field.encode(), good))
        for bad in (b"x" * 1025, "\u00e9".encode() * 513):
            assert "over the max size: Max 1024 bytes" in refusal(
                b'{%b"%b":"%b"}' % (other, field.encode(), bad)
            )
        assert "NUL" in refusal(b'{%b"%b":"a\\u0000b"}' % (other, field.encode()))

    @pytest.mark.parametrize(
        "body",
        [
            b"{bad",
            b"{",
            b'{"name":"a"',
            b'{"name":"a",}',
            b'{"name":"a"}}',
            b'{"name":"a"}{"name":"b"}',
            b'{"name":"a"} x',
            b"{'name':'a'}",
            b'{"name":5,"data"}',
            b'{"name":"a","data":{"x":01}}',
            b'{"name":"a","data":{"x":NaN}}',
            b'{"name":"a","data":{"x":"\n"}}',
            b'{"name":"a","data":{"x":"\x00"}}',
            b'{"name":"a","data":{"x":[}]}}',
            rb'{"name":"a","data":{"x":"\x"}}',
            rb'{"name":"a","data":{"x":"\u12"}}',
            b'{"name":"a","data":{"x":1e999}}',
            b'{"name":"a","data":{"x":"\xff"}}',
            b'{"name":"a","x\xff":1}',
            b'{"name":"\xed\xa0\x80"}',
            b'{"name":"a"}\x00',
            b'{"name":"a","x":' + b"[" * 500 + b"]" * 500 + b"}",
            b'{"name":"a","data":' + b'{"x":' * 600 + b"1" + b"}" * 601,
            b'{"name":"a","x":' + b"[" * 100_000,
            b"[ ,]",
            b"[}",
        ],
    )
    def test_malformed_bodies(self, body: bytes) -> None:
        assert refusal(body).startswith("Request body is not readable JSON: ")

    def test_nesting_up_to_500_levels_is_accepted(self) -> None:
        data = b'{"x":' * 498 + b"{}" + b"}" * 498
        assert data in only(b'{"name":"a","data":' + data + b"}").body

    @pytest.mark.parametrize(
        "content_type", ["application/x-www-form-urlencoded", "Multipart/Form-Data; boundary=x"]
    )
    def test_forms(self, content_type: str) -> None:
        events, status, message = outcome(read(b"name=a%2Fb&data=1", content_type=content_type))
        assert (events, status, message) == ([], 400, f"{NOT_EVENTS}; a form cannot carry events")

    @pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
    def test_the_content_type_of_json_is_not_consulted(self, content_type: str) -> None:
        assert read(b'{"name":"a"}', content_type=content_type).error is None

    @pytest.mark.parametrize("body", [b"", b" \n", b"[]", b" [ ] \n"])
    def test_nothing_is_no_error(self, body: bytes) -> None:
        for content_type in ("application/json", "application/x-www-form-urlencoded"):
            assert outcome(read(body, content_type=content_type)) == ([], 200, "")


class TestResponse:
    def test_all_is_well(self) -> None:
        assert event_response([FIRST, SECOND], None) == (
            200,
            b'{"ids":["%b","%b"],"status":200}' % (FIRST.encode(), SECOND.encode()),
        )
        assert event_response([], None) == (200, b'{"ids":[],"status":200}')

    def test_something_is_wrong(self) -> None:
        status, body = event_response([FIRST], RequestError(400, "event name is empty"))
        assert (status, json.loads(body)) == (
            400,
            {"ids": [FIRST], "status": 400, "error": "event name is empty"},
        )
        status, body = event_response([], RequestError(413, 'too "large"'))
        assert (status, json.loads(body)) == (413, {"ids": [], "status": 413, "error": 'too "large"'})


class TestInternalEvents:
    def test_reserved_names_are_allowed(self) -> None:
        event = internal_event("inngest/function.finished", b'{"run_id":"r"}', FIRST, "run-1", NOW)
        assert event == IncomingEvent(FIRST, "inngest/function.finished", "run-1", True, NOW, event.body)
        assert event.body == (
            b'{"data":{"run_id":"r"},"id":"run-1","name":"inngest/function.finished","ts":%d,"user":{}}' % NOW
        )

    def test_with_what_an_invoking_step_gives(self) -> None:
        event = internal_event(
            "inngest/x", b"{}", FIRST, FIRST, NOW, user=b'{"u":1.0}', meta=b'{"sessions":{"a":"1"}}', v="2"
        )
        assert not event.client_id
        assert event.body == (
            b'{"data":{},"id":"%b","meta":{"sessions":{"a":"1"}},"name":"inngest/x","ts":%d,'
            b'"user":{"u":1.0},"v":"2"}' % (FIRST.encode(), NOW)
        )


class TestInvoke:
    def test_every_field(self) -> None:
        body = (
            b' {"data":{"direct": 1.0,"_inngest":{"fn_id":"x"}},"user":{"u":1},"ts":1690000000000,'
            b'"v":"2","name":"ignored","meta":{"sessions":{"s":1}}} '
        )
        assert read_invoke(body) == InvokeRequest(
            data=b'{"direct":1.0}', user=b'{"u":1}', ts=1690000000000, v="2", meta=b'{"sessions":{"s":"1"}}'
        )

    @pytest.mark.parametrize(
        "body", [b"{}", b'{"data":null,"user":null,"ts":null,"v":null,"meta":null}', b'{"ts":0,"v":""}']
    )
    def test_nothing_given(self, body: bytes) -> None:
        assert read_invoke(body) == InvokeRequest(b"{}", b"{}", None, None, None)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"x",
            b"[]",
            b"null",
            b"5",
            b'"x"',
            b"{",
            b"{}x",
            b'{"data":{"x":1e999}}',
            b'{"data":{"x":"\xff"}}',
            b'{"data":' + b"[" * 100_000,
            b'{"x":' + b"[" * 600 + b"]" * 600 + b"}",
        ],
    )
    def test_unreadable(self, body: bytes) -> None:
        with pytest.raises(RequestError, match=r"^Unable to read post data request$") as raised:
            read_invoke(body)
        assert raised.value.status == 400

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"data":[1]}', 'event field "data" must be an object, not an array'),
            (b'{"ts":1.5}', 'event field "ts" must be a whole number of milliseconds, not 1.5'),
            (b'{"ts":1}', "timestamp is before Jan 1, 1980"),
            (b'{"v":1}', 'event field "v" must be a string, not a number'),
            (b'{"meta":{"sessions":{"":1}}}', "event session keys cannot be empty"),
            (b'{"data":{"x":"' + b"x" * MAX_EVENT_BYTES + b'"}}', "Event is over the max size"),
        ],
    )
    def test_wrong_fields_are_named(self, body: bytes, message: str) -> None:
        with pytest.raises(RequestError) as raised:
            read_invoke(body)
        assert raised.value.status == 400
        assert raised.value.message.startswith(message)

    @given(bodies)
    def test_any_bytes_raise_nothing_else(self, body: bytes) -> None:
        try:
            invoke = read_invoke(body)
        except RequestError as error:
            assert error.status == 400  # noqa: PT017
        else:
            assert isinstance(json.loads(invoke.data), dict)
