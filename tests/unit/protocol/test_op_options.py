"""What sleeps, waits, invokes and requests ask for, in the dialects of the three official SDKs."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.failures import OpError
from perdure.protocol.op_options import (
    GatewayOptions,
    InferOptions,
    InvokeOptions,
    SignalOptions,
    WaitOptions,
    gateway_options,
    infer_options,
    invoke_options,
    signal_options,
    sleep_until,
    wait_options,
)
from perdure.protocol.ops import Op

NOW = 1_795_515_117_377
DAY = 86_400_000


def make(op, name="", **opts):
    return Op(op, "aa", name, opts=json.dumps(opts).encode() if opts else None)


# Sleeps


@pytest.mark.parametrize(
    ("op", "until"),
    [
        (make("Sleep", "1s"), NOW + 1_000),
        (make("Sleep", "2026-11-24T10:14:03.916Z"), 1_795_515_243_916),
        (make("Sleep", "my nap", duration="1d12h"), NOW + 36 * 3_600_000),
        (make("Sleep", "my nap", duration="2026-11-24T10:14:03Z"), 1_795_515_243_000),
        (make("Sleep", "1m", duration=""), NOW + 60_000),
        (make("Sleep", "1m", duration=None), NOW + 60_000),
        (make("Sleep", ""), NOW),
        (make("Sleep", "-5s"), NOW),
        (make("Sleep", "0s"), NOW),
        (make("Sleep", "2020-01-01T00:00:00Z"), NOW),
        (make("Sleep", "8784h"), NOW + 366 * DAY),
    ],
)
def test_when_a_sleep_ends(op, until):
    assert sleep_until(op, NOW) == until


@pytest.mark.parametrize("text", ["9000h", "9999-01-01T00:00:00Z", "600w"])
def test_a_sleep_of_more_than_a_year_fails_the_run(text):
    with pytest.raises(OpError) as caught:
        sleep_until(make("Sleep", text), NOW)
    message = f'The sleep "{text}" ends more than one year in the future; sleeps may last at most one year.'
    assert (caught.value.name, caught.value.message) == ("InngestErrTimeoutTooLong", message)
    assert json.loads(caught.value.output()) == {
        "error": {
            "error": f"InngestErrTimeoutTooLong: {message}",
            "name": "InngestErrTimeoutTooLong",
            "message": message,
        }
    }


def test_a_sleep_that_names_no_time_fails_the_run_with_the_text():
    with pytest.raises(OpError, match='"not a duration" is neither a duration') as caught:
        sleep_until(make("Sleep", "not a duration"), NOW)
    assert caught.value.name == "Error"


# Waits


@pytest.mark.parametrize(
    ("op", "options"),
    [
        (
            make("WaitForEvent", "py/answer", **{"if": "event.data.id == async.data.id", "timeout": "1m"}),
            WaitOptions("py/answer", "event.data.id == async.data.id", NOW + 60_000),
        ),
        (
            make("WaitForEvent", "step name", event="go/answer", timeout="2s", **{"if": None}),
            WaitOptions("go/answer", None, NOW + 2_000),
        ),
        (make("WaitForEvent", "x/y", timeout="", **{"if": ""}), WaitOptions("x/y", None, NOW)),
        (make("WaitForEvent", "x/y"), WaitOptions("x/y", None, NOW)),
        (
            make("WaitForEvent", "x/y", timeout="2026-11-24T10:14:03Z"),
            WaitOptions("x/y", None, 1_795_515_243_000),
        ),
    ],
)
def test_what_a_wait_is_for(op, options):
    assert wait_options(op, NOW) == options


@pytest.mark.parametrize(
    ("op", "name", "message"),
    [
        (make("WaitForEvent", timeout="1s"), "Error", "An event name must be provided"),
        (make("WaitForEvent", "x/y", timeout="soon"), "Error", 'timeout "soon" of the wait for "x/y"'),
        (make("WaitForEvent", "x/y", timeout="53w"), "InngestErrTimeoutTooLong", "at most one year"),
    ],
)
def test_waits_that_cannot_be_armed(op, name, message):
    with pytest.raises(OpError, match=message) as caught:
        wait_options(op, NOW)
    assert caught.value.name == name


def test_what_a_wait_for_a_signal_is_for():
    op = make("WaitForSignal", "7bdee9", signal="7bdee9", timeout="1m", conflict="fail")
    assert signal_options(op, NOW) == SignalOptions("7bdee9", NOW + 60_000, False)
    op = make("WaitForSignal", "step", signal="s", timeout="3s", conflict="replace")
    assert signal_options(op, NOW) == SignalOptions("s", NOW + 3_000, True)
    assert signal_options(make("WaitForSignal", "only name"), NOW).signal == "only name"
    with pytest.raises(OpError, match="A signal name"):
        signal_options(make("WaitForSignal"), NOW)


# Invokes


def test_whom_an_invoke_calls():
    op = make("InvokeFunction", payload={"data": {"x": 21}}, function_id="js-callee", timeout="30s")
    assert invoke_options(op, NOW) == InvokeOptions(
        "js-callee", b'{"x": 21}', b"{}", None, None, NOW + 30_000
    )


def test_an_invoke_of_python_with_nulls_waits_a_year():
    op = make(
        "InvokeFunction", "inv", payload={"data": {}, "v": None}, function_id="py-calleebad", timeout=None
    )
    assert invoke_options(op, NOW) == InvokeOptions("py-calleebad", b"{}", b"{}", None, None, NOW + 365 * DAY)


def test_an_invoke_with_everything():
    payload = {"data": {"n": 1.0}, "user": {"id": 1}, "v": "2", "meta": {"sessions": []}}
    op = make("InvokeFunction", function_id="f", payload=payload)
    options = invoke_options(op, NOW)
    assert (options.data, options.user, options.v, options.meta) == (
        b'{"n": 1.0}',
        b'{"id": 1}',
        "2",
        b'{"sessions": []}',
    )


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "The payload of the invoke"),
        ({"data": []}, "The data of the invoke"),
        ({"data": "x"}, "The data of the invoke"),
        ({"user": 1}, "The user of the invoke"),
    ],
)
def test_an_invoke_whose_payload_is_no_object(payload, message):
    with pytest.raises(OpError, match=message):
        invoke_options(make("InvokeFunction", function_id="f", payload=payload), NOW)


def test_an_invoke_of_nothing_is_left_to_the_caller():
    assert invoke_options(make("InvokeFunction"), NOW).function_id == ""


# Requests


def test_a_request_of_step_fetch():
    op = make("Gateway", url="http://target/echo?x=1", method="post", headers={"x-h": "1"}, body='{"q":1}')
    assert gateway_options(op) == GatewayOptions("http://target/echo?x=1", "POST", {"x-h": "1"}, b'{"q":1}')
    op = make("Gateway", url="http://target", headers={"a": ["1", "2"], "b": 3, "c": None}, body={"j": 1})
    assert gateway_options(op) == GatewayOptions(
        "http://target", "POST", {"a": "1, 2", "b": "3"}, b'{"j": 1}'
    )


@pytest.mark.parametrize("url", ["", "x", "ftp://a/b", "http://", "http://a:99999/", "http://[::1"])
def test_a_request_to_no_url_is_an_error_of_the_step(url):
    with pytest.raises(OpError) as caught:
        gateway_options(make("Gateway", url=url))
    assert caught.value.name == "GatewayError"
    assert json.loads(caught.value.memo()) == {
        "error": {
            "message": f'Error making gateway request: "{url}" is not an http or https URL',
            "name": "GatewayError",
        }
    }
    with pytest.raises(OpError, match="Error making AI request") as caught:
        infer_options(make("AIGateway", url=url))
    assert caught.value.name == "AIGatewayError"


@pytest.mark.parametrize(
    ("opts", "url", "headers"),
    [
        ({"format": "openai-chat", "auth_key": "sk"}, "http://t/v1", {"authorization": "Bearer sk"}),
        ({"auth_key": "sk"}, "http://t/v1", {"authorization": "Bearer sk"}),
        ({"format": "grok", "auth_key": "sk"}, "http://t/v1", {"authorization": "Bearer sk"}),
        ({"format": "anthropic", "auth_key": "sk"}, "http://t/v1", {"x-api-key": "sk"}),
        ({"format": "bedrock", "auth_key": "AWS4 x"}, "http://t/v1", {"authorization": "AWS4 x"}),
        ({"format": "gemini", "auth_key": "k y"}, "http://t/v1?key=k+y", {}),
        ({"auth_key": "sk", "headers": {"Authorization": "own"}}, "http://t/v1", {"authorization": "own"}),
        ({"headers": {"X-Extra": "1"}}, "http://t/v1", {"x-extra": "1"}),
    ],
)
def test_how_a_model_provider_is_asked(opts, url, headers):
    options = infer_options(make("AIGateway", url="http://t/v1", body={"model": "m", "n": 1.0}, **opts))
    assert options.body == b'{"model": "m", "n": 1.0}'
    assert options.request_url() == url
    assert options.request_headers() == {"content-type": "application/json", **headers}


def test_a_gemini_url_that_has_its_key():
    options = InferOptions("http://t/v1?alt=sse", "gemini", "k", {}, b"{}")
    assert options.request_url() == "http://t/v1?alt=sse&key=k"
    options = InferOptions("http://t/v1?key=mine", "gemini", "k", {}, b"{}")
    assert options.request_url() == "http://t/v1?key=mine"


# Nothing else than an OpError comes out of any options

KEYS = st.sampled_from(
    [
        "duration",
        "event",
        "timeout",
        "if",
        "signal",
        "conflict",
        "function_id",
        "payload",
        "url",
        "method",
        "headers",
        "body",
        "publish",
        "format",
        "auth_key",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=10)
    | st.sampled_from(["1s", "http://a", "1w"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "user", "v", "meta", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@given(opts=st.dictionaries(KEYS, VALUES), name=st.text(max_size=10))
def test_any_options_are_read_or_refused(opts, name):
    op = make("Sleep", name, **opts)
    for read in (sleep_until, wait_options, signal_options, invoke_options):
        with contextlib.suppress(OpError):
            assert read(op, NOW) is not None
    for ask in (gateway_options, infer_options):
        with contextlib.suppress(OpError):
            assert ask(op).url
