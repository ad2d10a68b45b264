"""Every way in which a call can end, against answers recorded from official SDKs and from servers that are none."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.calls import CallAnswer, CallFailure
from perdure.protocol.failures import ErrorInfo
from perdure.protocol.replies import Finished, FunctionError, OpsReply, read_reply

NOW = 1_795_515_117_377
JS = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-req-version": "2"}
PY = {"x-inngest-sdk": "inngest-py:v0.5.19", "x-inngest-req-version": "2"}
GO = {"x-inngest-sdk": "inngest-go:v0.13.0", "x-inngest-req-version": "2"}
UNREADABLE = "error reading generator opcode response: expected JSON object or array"


def answer(status, body, headers=JS, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    extra = {name.replace("_", "-"): value for name, value in more.items()}
    return read_reply(CallAnswer(status, {**headers, **extra}, raw), NOW)


def loaded(reply):
    return json.loads(reply.output)


# What a function returned


@pytest.mark.parametrize(
    ("body", "output"),
    [
        (b'{"a":{"v":1},"b":2,"c":null}', b'{"a":{"v":1},"b":2,"c":null}'),
        (b'"ok@2"', b'"ok@2"'),
        (b"null", b"null"),
        (b"", b"null"),
        (b" \n ", b"null"),
        (b"  [1, 2] \n", b"[1, 2]"),
        (b"not json", b'"not json"'),
        (b"<html>hi</html>", b'"<html>hi</html>"'),
        (b"1152921504606846976", b"1152921504606846976"),
        (b"1.0", b"1.0"),
        (b"1e21", b"1e21"),
        ('"\u2028é😀"'.encode(), '"\u2028é😀"'.encode()),
        (rb'"\ud83d\ude00"', rb'"\ud83d\ude00"'),
        (rb'{"half":"\ud83d!"}', rb'{"half":"\ufffd!"}'),
        (b'"\xff"', b'"\xef\xbf\xbd"'),
        (b"NaN", b'"NaN"'),
    ],
)
def test_a_returned_value_is_kept_byte_for_byte_and_anything_else_becomes_json(body, output):
    assert answer(200, body) == Finished(output, 2)


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_every_success_but_206_and_201_is_a_return(status):
    assert answer(status, b"1") == Finished(b"1", 2)


def test_output_that_nests_deeper_than_can_be_checked_fails_the_attempt_instead_of_becoming_text():
    reply = answer(200, b"[" * 5000 + b"]" * 5000)
    assert isinstance(reply, FunctionError)
    assert "nests too deeply" in reply.error.message


# Ops


def test_a_step_that_ran_in_a_javascript_app():
    reply = answer(
        206,
        [
            {
                "id": "0612bcf5b16a1ec368ef4ebb92d6be2f7040260b",
                "op": "StepRun",
                "name": "flaky",
                "opts": {},
                "displayName": "flaky",
                "userland": {"id": "flaky"},
                "data": "ok@2",
                "timing": {"a": 1795515067310000000, "b": 0},
            }
        ],
    )
    assert isinstance(reply, OpsReply)
    assert (reply.version, reply.no_retry, reply.retry_at) == (2, None, None)
    (op,) = reply.ops
    assert (op.op, op.id, op.name, op.display_name) == (
        "StepRun",
        "0612bcf5b16a1ec368ef4ebb92d6be2f7040260b",
        "flaky",
        "flaky",
    )
    assert (op.data, op.timing, op.userland_id, op.opts) == (
        b'"ok@2"',
        (1795515067310000000, 0),
        "flaky",
        b"{}",
    )


@pytest.mark.parametrize(
    ("headers", "no_retry", "retry_at"),
    [
        ({}, None, None),
        ({"x_inngest_no_retry": "false"}, False, None),
        ({"x_inngest_no_retry": "true"}, True, None),
        ({"x_inngest_no_retry": "TRUE"}, True, None),
        ({"x_inngest_no_retry": "false", "retry_after": "3"}, False, 1_795_515_120_000),
        ({"retry_after": "2026-11-24T10:12:00.374Z"}, None, 1_795_515_120_374),
        ({"retry_after": "nonsense"}, None, None),
    ],
)
def test_headers_say_whether_and_when_a_failed_step_is_tried_again(headers, no_retry, retry_at):
    op = {"op": "StepError", "id": "aa", "error": {"name": "E", "message": "m"}}
    reply = answer(206, [op], JS, **headers)
    assert isinstance(reply, OpsReply)
    assert (reply.no_retry, reply.retry_at) == (no_retry, retry_at)


@pytest.mark.parametrize(
    ("text", "version"), [("2", 2), ("1", 1), ("0", 0), ("-1", None), ("", None), ("two", None), ("²", None)]
)
def test_the_version_to_pin(text, version):
    assert answer(206, [], {**JS, "x-inngest-req-version": text}) == OpsReply([], version)


@pytest.mark.parametrize("body", [b"<html>sdk 206</html>", b"", b"null", b'"text"', b"12"])
@pytest.mark.parametrize("headers", [JS, {"content-type": "text/html"}])
def test_a_206_that_holds_no_ops(body, headers):
    reply = answer(206, body, headers)
    assert isinstance(reply, FunctionError)
    assert loaded(reply) == {"error": {"error": UNREADABLE, "name": "Error", "message": UNREADABLE}}
    assert reply.error == ErrorInfo(UNREADABLE, "Error", UNREADABLE)
    assert not reply.no_retry


def test_an_unknown_op():
    reply = answer(206, [{"op": "Bogus", "id": "0a"}])
    message = "error reading generator opcode response: Bogus does not belong to Opcode values"
    assert loaded(reply) == {"error": {"error": message, "name": "Error", "message": message}}
    assert not reply.no_retry


def test_an_output_over_the_limit():
    reply = answer(206, [{"op": "StepRun", "id": "aa", "displayName": "big", "data": "x" * 4_194_303}])
    message = "error validating generator opcode aa: step output size is greater than the limit"
    assert loaded(reply) == {"error": {"error": message, "name": "Error", "message": message}}
    assert reply.error.error == message
    assert not reply.no_retry
    at_the_limit = answer(206, [{"op": "StepRun", "id": "aa", "data": "x" * 4_194_302}])
    assert isinstance(at_the_limit, OpsReply)


def test_the_number_of_ops_is_bounded_by_a_setting():
    ops = [{"op": "StepPlanned", "id": f"{n}"} for n in range(1001)]
    assert isinstance(answer(206, ops[:1000]), OpsReply)
    assert "1001 ops in one answer, at most 1000" in answer(206, ops).error.message
    raw = CallAnswer(206, JS, json.dumps(ops).encode())
    assert isinstance(read_reply(raw, NOW, max_ops=10_000), OpsReply)


# Answers that no SDK gave


def test_a_success_page_of_a_proxy_fails_the_attempt_and_is_the_output():
    reply = answer(200, b"<html><body>hello</body></html>", {"content-type": "text/html"})
    assert reply == FunctionError(
        b'"<html><body>hello</body></html>"',
        ErrorInfo(
            "The response did not come from an Inngest SDK", "Error", "<html><body>hello</body></html>"
        ),
    )


def test_ops_without_the_sdk_header_are_not_trusted():
    reply = answer(206, [{"op": "StepRun", "id": "aa", "data": 1}], {})
    assert isinstance(reply, FunctionError)
    assert reply.error.error == "The response did not come from an Inngest SDK"


def test_a_json_success_that_no_sdk_gave():
    reply = answer(200, {"status": "up"}, {})
    assert loaded(reply) == {"status": "up"}
    assert reply.error == ErrorInfo(
        "The response did not come from an Inngest SDK",
        "Error",
        "The response did not come from an Inngest SDK",
    )


def test_an_error_page_of_a_proxy():
    reply = answer(502, b"<html><body>Bad gateway</body></html>", {"content-type": "text/html"})
    output = loaded(reply)
    message = "Your server returned HTTP 502 before the SDK responded."
    assert list(output) == ["error", "name", "message", "stack"]
    assert output["error"] == output["message"] == message
    assert output["name"] == "Server returned a fatal error"
    assert output["stack"].startswith("No step output was produced before the request failed")
    assert "(text/html)" in output["stack"]
    assert "<html><body>Bad gateway</body></html>" in output["stack"]
    assert reply.error == ErrorInfo(message, output["name"], message, output["stack"])
    assert not reply.no_retry


def test_a_long_error_page_is_cut_and_a_wait_that_it_asks_for_is_kept():
    reply = answer(503, b"x" * 1_000_000, {"retry-after": "5"})
    assert len(loaded(reply)["stack"]) < 5_000
    assert reply.retry_at == 1_795_515_122_000


@pytest.mark.parametrize("status", [300, 304, 401, 404, 429, 500, 504, 599])
def test_every_other_status_without_the_sdk_header_names_itself(status):
    assert f"HTTP {status}" in answer(status, b"", {}).error.message


@pytest.mark.parametrize("code", ["http_unreachable", "timeout", "too_many_redirects", "something new"])
def test_no_answer_at_all(code):
    reply = read_reply(CallFailure(code, "connection refused by app:3000"), NOW)
    text = "Unable to reach SDK URL"
    assert loaded(reply) == {"error": {"error": text, "name": "Error", "message": text}}
    assert reply.error == ErrorInfo(text, "Error", text, "connection refused by app:3000")
    assert not reply.no_retry


def test_a_call_that_was_given_up():
    reply = read_reply(CallFailure("cancelled", "the run was cancelled"), NOW)
    assert reply.error.message == "The call was given up"


def test_an_answer_over_the_limit():
    reply = read_reply(CallFailure("output_too_large", "more than 8388608 bytes"), NOW)
    message = "Your function's response body exceeds the maximum size limit"
    assert loaded(reply) == {
        "error": {"error": f"output_too_large: {message}", "name": "output_too_large", "message": message}
    }


# What a function threw

THROWN = {"name": "RangeError", "message": "fn failed", "stack": "RangeError: fn failed\n    at x"}


@pytest.mark.parametrize(
    ("status", "headers", "more", "no_retry", "error"),
    [
        (500, JS, {"x_inngest_no_retry": "false"}, False, "invalid status code: 500"),
        (400, JS, {"x_inngest_no_retry": "true"}, True, "NonRetriableError"),
        (500, PY, {}, False, "invalid status code: 500"),
        (500, PY, {"x_inngest_no_retry": "true"}, True, "NonRetriableError"),
        (400, JS, {}, False, "invalid status code: 400"),
        (429, JS, {}, False, "invalid status code: 429"),
        (400, {"x-inngest-sdk": "inngest-js:v1.10.0"}, {}, True, "invalid status code: 400"),
        (400, {"x-inngest-sdk": "inngest-js:v1.10.1"}, {}, False, "invalid status code: 400"),
        (404, {"x-inngest-sdk": "js:v2.4.1"}, {}, True, "invalid status code: 404"),
        (404, {"x-inngest-sdk": "js:v2.4.2"}, {}, False, "invalid status code: 404"),
        (500, {"x-inngest-sdk": "js:v2.4.1"}, {}, False, "invalid status code: 500"),
    ],
)
def test_whether_a_function_is_tried_again(status, headers, more, no_retry, error):
    reply = answer(status, THROWN, headers, **more)
    assert isinstance(reply, FunctionError)
    assert reply.no_retry is no_retry
    assert reply.error == ErrorInfo(error, "RangeError", "fn failed", THROWN["stack"])
    assert loaded(reply) == THROWN


def test_the_body_is_the_output_with_all_that_the_sdk_put_into_it():
    body = b'{"name":"Error","message":"uncaught step","stack":"s","__serialized":true}'
    assert answer(400, body, x_inngest_no_retry="true").output == body


def test_a_cause_is_told_in_the_events():
    cause = {"name": "Error", "message": "root cause", "__serialized": True}
    reply = answer(
        400, {"name": "NonRetriableError", "message": "m", "cause": cause}, x_inngest_no_retry="true"
    )
    assert json.loads(reply.error.json()) == {
        "cause": cause,
        "error": "NonRetriableError",
        "message": "m",
        "name": "NonRetriableError",
    }
    assert reply.error.json().startswith(b'{"cause":')


@pytest.mark.parametrize(
    ("body", "output", "info"),
    [
        (
            json.dumps(json.dumps({"name": "E", "message": "dbl", "stack": "s"})).encode(),
            {"name": "E", "message": "dbl", "stack": "s"},
            ErrorInfo("invalid status code: 500", "E", "dbl", "s"),
        ),
        (
            b"<html>sdk err</html>",
            "<html>sdk err</html>",
            ErrorInfo("invalid status code: 500", "Error", "<html>sdk err</html>"),
        ),
        (
            b'"plain"',
            "plain",
            ErrorInfo("invalid status code: 500", "Error", "plain"),
        ),
        (b"", None, ErrorInfo("invalid status code: 500", "Error", "invalid status code: 500")),
        (b"[1]", [1], ErrorInfo("invalid status code: 500", "Error", "invalid status code: 500")),
        (b"{}", {}, ErrorInfo("invalid status code: 500", "Error", "invalid status code: 500")),
        (b'{"message":"go"}', {"message": "go"}, ErrorInfo("invalid status code: 500", "Error", "go")),
        (b'{"error":"go"}', {"error": "go"}, ErrorInfo("go", "Error", "invalid status code: 500")),
        (
            b'{"error":{"name":"N","message":"M","error":"E"}}',
            {"error": {"name": "N", "message": "M", "error": "E"}},
            ErrorInfo("E", "N", "M"),
        ),
        (
            b'{"body":"{\\"name\\":\\"N\\",\\"message\\":\\"M\\"}"}',
            {"body": '{"name":"N","message":"M"}'},
            ErrorInfo("invalid status code: 500", "N", "M"),
        ),
        (
            b'{"name":1,"message":"","stack":null,"cause":null}',
            {"name": 1, "message": "", "stack": None, "cause": None},
            ErrorInfo("invalid status code: 500", "Error", "invalid status code: 500"),
        ),
    ],
)
def test_error_bodies_of_all_shapes(body, output, info):
    reply = answer(500, body, PY)
    assert loaded(reply) == output
    assert reply.error == info


def test_the_events_error_is_exactly_what_the_python_suite_demands():
    body = {"code": "unknown", "message": "fn failed 1", "name": "ValueError", "stack": "Traceback"}
    assert answer(500, body, PY).error.json() == (
        b'{"error":"invalid status code: 500","message":"fn failed 1","name":"ValueError","stack":"Traceback"}'
    )


def test_a_very_long_text_is_shortened_as_message_but_kept_as_output():
    reply = answer(500, b"x" * 100_000, PY)
    assert len(reply.output) == 100_002
    assert len(reply.error.message) < 33_000
    assert "100000 characters" in reply.error.message


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("3", 1_795_515_120_000),
        ("2026-11-24T10:12:01.460Z", 1_795_515_121_460),
        ("Tue, 24 Nov 2026 10:13:35 GMT", 1_795_515_215_000),
        ("0", NOW + 1_000),
        ("9999999", NOW + 86_400_000),
    ],
)
def test_when_a_function_asks_to_be_called_again(text, at):
    assert answer(500, THROWN, PY, retry_after=text).retry_at == at


# The wrapper of streamed answers


def wrapped(outer=JS, /, **wrapper):
    return answer(201, b"   \n " + json.dumps(wrapper).encode(), outer)


def test_a_streamed_answer_of_javascript_has_its_body_in_a_string():
    body = '[{"op":"StepRun","id":"aa","displayName":"streamed","data":1}]'
    reply = wrapped(status=206, headers={"X-Inngest-Req-Version": "1"}, body=body)
    assert isinstance(reply, OpsReply)
    assert (reply.version, reply.ops[0].data) == (1, b"1")
    assert wrapped(status=200, headers={}, body='"w"') == Finished(b'"w"', 2)
    assert wrapped(status=200, headers=None, body="") == Finished(b"null", 2)


def test_a_streamed_answer_of_go_has_its_body_as_a_value():
    assert wrapped(GO, status=200, body={"a": 1}) == Finished(b'{"a": 1}', 2)
    assert wrapped(GO, status=200, body="123") == Finished(b'"123"', 2)
    assert wrapped(GO, status=200, body=None) == Finished(b"null", 2)
    reply = wrapped(GO, status=206, body=[{"op": "Sleep", "id": "aa", "opts": {"duration": "1s"}}])
    assert isinstance(reply, OpsReply)


def test_a_streamed_error_of_go_says_itself_whether_it_is_final():
    body = {"name": "E", "message": "m"}
    reply = wrapped(GO, status=500, body=body, noRetry=True, retryAt=None)
    assert (reply.no_retry, reply.error.error) == (True, "NonRetriableError")
    reply = wrapped(GO, status=500, body=body, noRetry=False, retryAt="2026-11-24T10:12:00Z")
    assert (reply.no_retry, reply.retry_at) == (False, 1_795_515_120_000)


def test_headers_of_the_wrapper_win_and_may_prove_the_sdk():
    inner = {"x-inngest-sdk": "inngest-js:v4.24.0", "X-Inngest-No-Retry": True, "retry-after": 10}
    reply = wrapped({"content-type": "application/json"}, status=500, headers=inner, body='{"message":"m"}')
    assert (reply.no_retry, reply.error.message) == (True, "m")
    assert reply.retry_at == 1_795_515_127_000


@pytest.mark.parametrize("body", [b"", b"   ", b"<html>", b"[]", b'{"id":1}', b'{"status":"200","body":"1"}'])
def test_a_201_that_is_no_wrapper(body):
    reply = answer(201, body)
    assert isinstance(reply, FunctionError)
    assert reply.error.message.startswith("error reading response body to check for status code")
    assert answer(201, body, {}).error.error == "The response did not come from an Inngest SDK"


def test_a_wrapper_that_only_carries_an_error():
    assert wrapped(status=500, error="the stream broke").error.message == "the stream broke"


def test_half_surrogates_inside_the_wrapper_do_not_make_it_unreadable():
    reply = answer(201, rb'{"status":200,"body":"\"\\ud800\""}')
    assert reply == Finished(rb'"\ufffd"', 2)
    assert answer(201, rb'{"status":200,"body":"\"\ud800\""}') == Finished('"\ufffd"'.encode(), 2)


# Nothing that comes over the network raises

JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    [
        "op",
        "id",
        "name",
        "displayName",
        "opts",
        "data",
        "error",
        "userland",
        "timing",
        "metadata",
        "status",
        "headers",
        "body",
        "noRetry",
        "retryAt",
        "message",
        "stack",
        "cause",
    ]
)
OPISH = st.dictionaries(FIELDS, JSONISH | st.sampled_from(["StepRun", "StepError", "Sleep", "None"]))
BODIES = st.one_of(
    st.binary(max_size=200),
    JSONISH.map(lambda value: json.dumps(value).encode()),
    OPISH.map(lambda value: json.dumps(value).encode()),
    st.lists(OPISH, max_size=4).map(lambda value: json.dumps(value).encode()),
    OPISH.map(lambda value: json.dumps(json.dumps(value)).encode()),
)
HEADERS = st.dictionaries(
    st.sampled_from([*JS, "x-inngest-no-retry", "retry-after", "content-type", "x-inngest-framework"]),
    st.text(max_size=20) | st.sampled_from(["true", "false", "2", "3", "inngest-js:v1.0.0"]),
)


@given(status=st.integers(0, 999) | st.sampled_from([200, 201, 206, 500]), headers=HEADERS, body=BODIES)
def test_no_answer_raises_and_whatever_is_kept_is_json(status, headers, body):
    reply = read_reply(CallAnswer(status, headers, body), NOW)
    if isinstance(reply, OpsReply):
        for op in reply.ops:
            for raw in (op.data, op.error, op.opts, op.input, op.metadata):
                if raw is not None:
                    msgspec.json.decode(raw, type=msgspec.Raw)
                    raw.decode()
    else:
        msgspec.json.decode(reply.output)
        if isinstance(reply, FunctionError):
            assert msgspec.json.decode(reply.error.json())["message"] == reply.error.message


@given(code=st.text(), message=st.text())
def test_no_failure_raises(code, message):
    reply = read_reply(CallFailure(code, message), NOW)
    msgspec.json.decode(reply.output)
    msgspec.json.decode(reply.error.json())
