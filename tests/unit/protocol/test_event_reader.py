from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.protocol.events import MAX_EVENT_BYTES, MAX_EVENTS, EventReader
from perdure.protocol.ids import is_ulid, new_ulid, ulid_time_ms
from tests.unit.protocol.event_bodies import FIRST, NOW, SECOND, SEED, bodies, good_event, outcome, read


class TestBatches:
    def test_order_and_ids_follow_the_input(self) -> None:
        reader = read(b'[{"name":"js/zero","data":{"k":0}},{"name":"js/zero","data":{"k":1}}]')
        assert reader.error is None
        assert [event.internal_id for event in reader.events] == [FIRST, SECOND]
        assert [json.loads(event.body)["data"] for event in reader.events] == [{"k": 0}, {"k": 1}]

    def test_the_same_seed_gives_the_same_ids_and_the_clients_own_are_not_echoed(self) -> None:
        body = b'[{"name":"a","id":"mine"},{"name":"b"}]'
        assert [event.internal_id for event in read(body).events] == [FIRST, SECOND]
        assert [event.id for event in read(body).events] == ["mine", SECOND]

    def test_without_a_seed_entropy_is_asked_for_once(self) -> None:
        asked: list[int] = []

        def entropy(size: int) -> bytes:
            asked.append(size)
            return b"\xfe" * size

        reader = EventReader(None, NOW, entropy, "")
        assert asked == []
        reader.feed(b'[{"name":"a"},{"name":"b"},{"name":"c"}]')
        reader.finish()
        ids = [event.internal_id for event in reader.events]
        assert asked == [10]
        assert len(set(ids)) == 3
        assert all(is_ulid(ulid) and ulid_time_ms(ulid) == NOW for ulid in ids)
        assert ids[0] == new_ulid(NOW, b"\xfe" * 9 + b"\xff")

    @pytest.mark.parametrize(
        ("body", "names", "message"),
        [
            (b'[{"name":"a/ok"},{"name":""},{"name":"a/after"}]', ["a/ok"], "event name is empty"),
            (b'[{"name":"a"},{"name":"b"},{"name":"inngest/x"}]', ["a", "b"], "reserved"),
            (b'[{"name":"a"},{"name":tru}]', ["a"], "invalid character"),
            (b'[{"name":"a"}', ["a"], "ends too early"),
            (b'[{"name":"a"},', ["a"], "ends too early"),
            (b'[{"name":"a"},{"name":"b"', ["a"], "truncated"),
            (b'[{"name":"a"},]', ["a"], "']' stands where an object was expected"),
            (b'[{"name":"a"} {"name":"b"}]', ["a"], "'{' stands where a comma"),
            (b'[{"name":"a"}}', ["a"], "'}' stands where a comma"),
            (b'[{"name":"a"}] x', ["a"], "text follows after the end, beginning with 'x'"),
            (b'[{"name":"a"}][]', ["a"], "text follows after the end, beginning with '['"),
            (b'[{"name":"a"},{"name":"b","data":{"x":"\xff"}},{"name":"c"}]', ["a"], "not UTF-8"),
            (b'[{"name":"a"},{"name":"b","data":{"x":1e999}},{"name":"c"}]', ["a"], "too large"),
            (
                b'[{"name":"a"},{"name":"b","x":' + b"[" * 600 + b"]" * 600 + b'},{"name":"c"}]',
                ["a"],
                "nested",
            ),
        ],
    )
    def test_events_ahead_of_the_first_bad_one_stand(
        self, body: bytes, names: list[str], message: str
    ) -> None:
        for cuts in ([], list(range(len(body)))):
            reader = read(body, cuts)
            assert [event.name for event in reader.events] == names
            assert [event.internal_id for event in reader.events] == [FIRST, SECOND][: len(names)]
            assert reader.error is not None
            assert reader.error.status == 400
            assert message in reader.error.message

    def test_after_an_error_nothing_more_is_read(self) -> None:
        reader = EventReader(SEED, NOW, bytes, "")
        reader.feed(b'[{"name":""},' + b" " * 70_000)
        error = reader.error
        assert error is not None
        reader.feed(b'{"name":"a"}]')
        reader.finish()
        assert reader.error is error
        assert reader.events == []

    def test_5000_events_and_no_more(self) -> None:
        for element in (b"{}", b'{"name":"a"}', b'{"name":"a","data":{"x":"' + b"x" * 100 + b'"}}'):
            body = b"[" + b",".join([b'{"name":"a"}'] * MAX_EVENTS + [element]) + b"]"
            for cuts in ([], list(range(0, len(body), 8192))):
                events, status, message = outcome(read(body, cuts))
                assert (len(events), status) == (MAX_EVENTS, 400)
                assert message == "Cannot have more than 5000 events in a batch"
        reader = read(b"[" + b",".join([b'{"name":"a"}'] * MAX_EVENTS) + b"]")
        assert (len(reader.events), reader.error) == (MAX_EVENTS, None)
        assert len({event.internal_id for event in reader.events}) == MAX_EVENTS


class TestSizes:
    @staticmethod
    def event_of(size: int) -> bytes:
        start, end = b'{"name": "a/big", "data": {"b": "', b'"}}'
        return start + b"x" * (size - len(start) - len(end)) + end

    def test_an_event_may_have_3_mib(self) -> None:
        event = self.event_of(MAX_EVENT_BYTES)
        for body in (event, b"[" + event + b"]", b" \n" + event + b"\n "):
            reader = read(body, list(range(0, len(body), 65536)))
            assert reader.error is None
            assert len(json.loads(reader.events[0].body)["data"]["b"]) > MAX_EVENT_BYTES - 100

    @pytest.mark.parametrize("step", [4096, 1_000_000, 10**8])
    def test_a_larger_one_is_refused_with_its_size(self, step: int) -> None:
        # The size is that of a recorded exchange.
        event = self.event_of(3145764)
        message = "Event is over the max size: Max 3145728 bytes / Size 3145764 bytes"
        assert outcome(read(event, list(range(0, len(event), step)))) == ([], 400, message)
        body = b'[{"name":"a"},' + event + b',{"name":"b"}]'
        events, status, text = outcome(read(body, list(range(0, len(body), step))))
        assert ([each.name for each in events], status, text) == (["a"], 400, message)

    @pytest.mark.parametrize("max_body", [100, 100_000])
    @pytest.mark.parametrize("step", [1, 1000, 10**6])
    def test_events_before_the_cut_of_a_body_are_kept(self, max_body: int, step: int) -> None:
        event = b'{"name":"a","data":{"x":1}}'  # with its comma 28 bytes
        body = b"[" + b",".join([event] * (max_body // 28 + 3)) + b"]"
        reader = read(body, list(range(0, len(body), step)), max_body=max_body)
        assert len(reader.events) == (max_body - len("[") + len(",")) // 28
        assert reader.error is not None
        assert reader.error.status == 413
        assert reader.error.message == f"Request body is over the max size: Max {max_body} bytes"

    def test_a_body_of_exactly_the_limit_is_read(self) -> None:
        body = b'[{"name":"a"}]'
        for step in (1, 5, 100):
            cuts = list(range(0, len(body), step))
            assert outcome(read(body, cuts, max_body=len(body)))[1] == 200
            events, status, _ = outcome(read(body + b" ", cuts, max_body=len(body)))
            assert (len(events), status) == (1, 413)

    def test_an_earlier_error_wins_over_the_cut(self) -> None:
        body = b'[{"name":"a"},{"name":""}' + b" " * 100
        assert outcome(read(body, max_body=50))[1:] == (400, "event name is empty")

    def test_one_object_that_is_followed_by_too_much_is_not_kept(self) -> None:
        assert outcome(read(b'{"name":"a"}' + b" " * 100, max_body=50))[:2] == ([], 413)


cuts = st.lists(st.integers(0, 5000), max_size=20)


@settings(max_examples=400)
@given(bodies, cuts, st.integers(1, 400), st.sampled_from(["", "application/x-www-form-urlencoded"]))
def test_pieces_make_no_difference_whatever_the_bytes(
    body: bytes, places: list[int], limit: int, kind: str
) -> None:
    whole = outcome(read(body, content_type=kind))
    assert outcome(read(body, places, kind)) == whole
    assert outcome(read(body, list(range(len(body))), kind)) == whole
    cut = outcome(read(body, content_type=kind, max_body=limit))
    assert outcome(read(body, places, kind, max_body=limit)) == cut
    assert cut == whole or (cut[1] == 413 and len(body) > limit and cut[0] == whole[0][: len(cut[0])])


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_body_is_the_same_in_pieces(data: st.DataObject) -> None:
    items = data.draw(st.lists(good_event, min_size=1, max_size=4))
    body = bytearray(json.dumps(items).encode())
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from(b'{}[]",:\\ x0\x00\xff'))
    damaged = bytes(body)
    assert outcome(read(damaged, data.draw(cuts))) == outcome(read(damaged))
    assert outcome(read(damaged, list(range(len(damaged))))) == outcome(read(damaged))


@given(st.lists(good_event, max_size=5), st.booleans())
def test_what_is_accepted_is_delivered_with_the_same_meaning(
    items: list[dict[str, Any]], large: bool
) -> None:
    body = json.dumps(items).encode() + b" " * (70_000 if large else 0)
    reader = read(body)
    assert reader.error is None
    for item, event in zip(items, reader.events, strict=True):
        expected = {key: value for key, value in item.get("data", {}).items() if key != "_inngest"}
        assert json.loads(event.body) == {
            "data": expected,
            "id": event.internal_id,
            "name": item["name"],
            "ts": item.get("ts", NOW),
            "user": {},
        }
        msgspec.json.decode(event.body)
