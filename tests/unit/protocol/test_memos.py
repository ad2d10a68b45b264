"""Memos, byte for byte: SDKs unwrap them by their keys."""

from __future__ import annotations

import json

import pytest

from perdure.protocol.memos import (
    data_memo,
    error_memo,
    input_memo,
    invoke_timeout_memo,
    plain_error_memo,
    rate_limited_memo,
    response_memo,
    signal_memo,
    takes_input,
    unknown_function_memo,
)


def test_a_result_is_wrapped_without_being_touched():
    assert data_memo(b'{"n": 1.0, "big": 1152921504606846976}') == (
        b'{"data":{"n": 1.0, "big": 1152921504606846976}}'
    )


@pytest.mark.parametrize(
    ("error", "memo"),
    [
        (
            b'{"name":"Error","message":"always","stack":"Error: always\\n  at x","__serialized":true}',
            b'{"error":{"message":"always","name":"Error","stack":"Error: always\\n  at x"}}',
        ),
        (
            b'{"code":"unknown","message":"always","name":"Exception","stack":"Traceback"}',
            b'{"error":{"message":"always","name":"Exception","stack":"Traceback"}}',
        ),
        (
            b'{"name":"E","message":"m","stack":"st","data":{"k":1.0}}',
            b'{"error":{"data":{"k":1.0},"message":"m","name":"E","stack":"st"}}',
        ),
        (
            b'{"name":"E","message":"m","stack":"st","noRetry":true}',
            b'{"error":{"message":"m","name":"E","stack":"st"}}',
        ),
        (
            b'{"name":"E","message":"m","cause":{"name":"C","message":"c","__serialized":true,"cause":"text"}}',
            b'{"error":{"cause":{"cause":"text","message":"c","name":"C"},"message":"m","name":"E"}}',
        ),
        (b"{}", b'{"error":{"message":"Step execution error","name":"Error"}}'),
        (
            b'{"name":null,"message":"","error":"only this","stack":null,"data":null,"cause":null}',
            b'{"error":{"message":"only this","name":"Error"}}',
        ),
        (b'"just text"', b'{"error":{"message":"just text","name":"Error"}}'),
        (b'""', b'{"error":{"message":"Step execution error","name":"Error"}}'),
        (b"[1]", b'{"error":{"message":"Step execution error","name":"Error"}}'),
    ],
)
def test_what_is_kept_of_a_steps_error(error, memo):
    assert error_memo(error) == memo


def test_an_endless_chain_of_causes_is_cut():
    error = b'{"name":"E","message":"m"}'
    for _ in range(200):
        error = b'{"name":"E","message":"m","cause":' + error + b"}"
    memo = json.loads(error_memo(error))["error"]
    depth = 0
    while "cause" in memo:
        memo, depth = memo["cause"], depth + 1
    assert depth == 32


def test_errors_that_the_server_makes():
    assert plain_error_memo("N", 'm"') == b'{"error":{"message":"m\\"","name":"N"}}'
    assert plain_error_memo("N", "m", "e") == b'{"error":{"error":"e","message":"m","name":"N"}}'
    assert json.loads(invoke_timeout_memo()) == {
        "error": {
            "error": "InngestInvokeTimeoutError: Timed out waiting for invoked function to complete",
            "message": "Timed out waiting for invoked function to complete",
            "name": "InngestInvokeTimeoutError",
        }
    }
    assert json.loads(unknown_function_memo("ghost-nope")) == {
        "error": {"message": "could not find function with ID: ghost-nope", "name": "Error"}
    }
    assert json.loads(rate_limited_memo()) == {
        "error": {"message": "invoked function is rate limited", "name": "Error"}
    }


def test_a_signal_and_a_response():
    assert signal_memo("7bdee9", b'{"hello":1}') == b'{"data":{"data":{"hello":1},"signal":"7bdee9"}}'
    memo = response_memo("http://t/e", 201, {"X-Echo": "yes"}, "text\n")
    assert memo == (
        b'{"data":{"body":"text\\n","headers":{"X-Echo":"yes"},"status_code":201,"url":"http://t/e"}}'
    )


def test_edited_input_of_a_step():
    assert input_memo(b'[1, {"a": 2}]') == b'{"input":[1, {"a": 2}]}'


@pytest.mark.parametrize(
    ("sdk", "takes"),
    [
        ("js:v4.24.0", True),
        ("inngest-js:v3.0.0", True),
        ("perdure-py:v0.1.0", True),
        ("py:v0.5.19", False),
        ("go:v0.1", False),
        ("", False),
    ],
)
def test_which_sdks_take_it(sdk: str, takes: bool):
    assert takes_input(sdk) is takes
