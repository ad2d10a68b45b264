"""Requests that the server makes for a run: `step.fetch` and `step.ai.infer`.

The item of such a step holds the operation's options, secrets included; it goes when the step ends, and
nothing of it reaches history or the trace.
"""

from __future__ import annotations

import msgspec

from perdure.protocol import memos, op_options
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.ops import Op
from perdure.protocol.payloads import as_json, json_string

REQUEST_TIMEOUT_S = 10 * 60.0
"""How long a request may take, in seconds: models can think for minutes."""


class _Stored(msgspec.Struct):
    op: str
    opts: msgspec.Raw


_STORED = msgspec.json.Decoder(_Stored)


class RequestOutcome(msgspec.Struct, frozen=True, gc=False):
    """What came of a request: the step's memo, and for a failure the error that history shows."""

    memo: bytes
    error: bytes | None = None


def request_data(op: Op) -> bytes:
    """What the item of such a step holds."""
    return b'{"op":"%b","opts":%b}' % (op.op.encode(), op.opts or b"{}")


def request_op(data: bytes) -> str:
    """The operation (`Gateway` or `AIGateway`) of an item, from its data."""
    return _STORED.decode(data).op


def build_request(data: bytes) -> Call:
    """The request to make, from an item's data.

    Raises `OpError` for options that make no request.
    """
    stored = _STORED.decode(data)
    op = Op(stored.op, "", opts=bytes(stored.opts))
    if stored.op == "Gateway":
        options = op_options.gateway_options(op)
        headers = tuple(options.headers.items())
        return Call(options.url, options.body, headers, options.method, REQUEST_TIMEOUT_S)
    infer = op_options.infer_options(op)
    headers = tuple(infer.request_headers().items())
    return Call(infer.request_url(), infer.body, headers, "POST", REQUEST_TIMEOUT_S)


def read_request_answer(op: str, url: str, result: CallAnswer | CallFailure) -> RequestOutcome:
    """What came of the request of `op` (`Gateway` or `AIGateway`); `url` is where the answer came from."""
    if op == "Gateway":
        if isinstance(result, CallFailure):
            return _failed("GatewayError", "Error making gateway request: Unable to reach SDK URL")
        headers = {name.title(): value for name, value in result.headers.items()}
        body = result.body.decode("utf-8", "replace")
        return RequestOutcome(memos.response_memo(url, result.status, headers, body))
    if isinstance(result, CallFailure):
        return _failed("AIGatewayError", f"Error making AI request: {result.message}")
    if result.status > 299:
        message = f"Error making AI request: unsuccessful status code: {result.status}"
        return _failed("AIGatewayError", message, result.body)
    return RequestOutcome(memos.data_memo(as_json(result.body)))


def _failed(name: str, message: str, body: bytes | None = None) -> RequestOutcome:
    error = b'{"message":' + json_string(message) + b',"name":' + json_string(name)
    if body:
        text = as_json(body)
        error += b',"data":' + text + b',"stack":' + json_string(body.decode("utf-8", "replace"))
    error += b"}"
    return RequestOutcome(memos.error_memo(error), error)
