"""Requests made for a run: what is sent, and what the step then holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.core.requests import (
    REQUEST_TIMEOUT_S,
    build_request,
    read_request_answer,
    request_data,
    request_op,
)
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.failures import OpError
from perdure.protocol.ops import read_ops

URL = "http://example.test/v1/chat"


def data(op: str, **opts: Any) -> bytes:
    (sent,) = read_ops(json.dumps([{"op": op, "id": "a", "opts": opts}]).encode())
    return request_data(sent)


def built(op: str, **opts: Any) -> Call:
    return build_request(data(op, **opts))


@pytest.mark.parametrize(("sent", "kept"), [("Gateway",) * 2, ("AIGateway",) * 2, ("AiGateway", "AIGateway")])
def test_the_op_is_kept(sent: str, kept: str) -> None:
    assert request_op(data(sent, url=URL)) == kept


class TestFetch:
    def test_what_is_sent(self) -> None:
        call = built("Gateway", url=URL, method="PUT", headers={"X-A": "1"}, body='{"raw": "text"}')
        assert (call.url, call.method, call.body, call.headers) == (
            URL,
            "PUT",
            b'{"raw": "text"}',
            (("X-A", "1"),),
        )
        assert call.timeout == REQUEST_TIMEOUT_S

    def test_post_is_the_default(self) -> None:
        assert built("Gateway", url=URL).method == "POST"

    @pytest.mark.parametrize("opts", [{}, {"url": "ftp://x"}, {"url": "no url"}, {"url": 3}])
    def test_no_url(self, opts: dict[str, Any]) -> None:
        with pytest.raises(OpError, match="is not an http or https URL") as caught:
            built("Gateway", **opts)
        assert caught.value.name == "GatewayError"

    @pytest.mark.parametrize("status", [200, 204, 404, 500])
    def test_any_answer_is_a_result(self, status: int) -> None:
        answer = CallAnswer(status, {"content-type": "text/html", "x-request-id": "7"}, "größe".encode())
        outcome = read_request_answer("Gateway", URL, answer)
        assert outcome.error is None
        assert json.loads(outcome.memo) == {
            "data": {
                "url": URL,
                "status_code": status,
                "headers": {"Content-Type": "text/html", "X-Request-Id": "7"},
                "body": "größe",
            }
        }

    def test_bytes_that_are_no_text(self) -> None:
        outcome = read_request_answer("Gateway", URL, CallAnswer(200, {}, b"a\xffb"))
        assert json.loads(outcome.memo)["data"]["body"] == "a\ufffdb"

    def test_no_answer(self) -> None:
        outcome = read_request_answer("Gateway", URL, CallFailure("http_unreachable", "refused"))
        error = {"name": "GatewayError", "message": "Error making gateway request: Unable to reach SDK URL"}
        assert json.loads(outcome.memo) == {"error": error}
        assert outcome.error is not None
        assert json.loads(outcome.error) == error


class TestInfer:
    @pytest.mark.parametrize(
        ("format", "header"),
        [
            ("openai-chat", ("authorization", "Bearer sk")),
            ("anthropic", ("x-api-key", "sk")),
            ("bedrock", ("authorization", "sk")),
            ("something-new", ("authorization", "Bearer sk")),
        ],
    )
    def test_how_the_key_is_sent(self, format: str, header: tuple[str, str]) -> None:
        call = built("AIGateway", url=URL, format=format, auth_key="sk", body={"model": "m"})
        assert header in call.headers
        assert call.url == URL
        assert call.method == "POST"

    def test_gemini_has_it_in_the_url(self) -> None:
        call = built("AIGateway", url=URL, format="gemini", auth_key="s k", body={})
        assert call.url == f"{URL}?key=s+k"
        assert not any("authorization" in name for name, _ in call.headers)

    def test_the_apps_own_headers_win(self) -> None:
        headers = dict(built("AIGateway", url=URL, auth_key="sk", headers={"Authorization": "mine"}).headers)
        assert headers == {"content-type": "application/json", "authorization": "mine"}

    def test_the_body_is_sent_as_it_came(self) -> None:
        (op,) = read_ops(
            b'[{"op":"AIGateway","id":"a","opts":{"url":"http://x/","body":{"b":1.0,"a": 1e21}}}]'
        )
        assert build_request(request_data(op)).body == b'{"b":1.0,"a": 1e21}'

    def test_a_result_is_the_answer_unchanged(self) -> None:
        outcome = read_request_answer("AIGateway", URL, CallAnswer(200, {}, b'{"choices": [1.0]}'))
        assert outcome.memo == b'{"data":{"choices": [1.0]}}'
        assert outcome.error is None

    def test_text_becomes_a_string(self) -> None:
        outcome = read_request_answer("AIGateway", URL, CallAnswer(299, {}, b"hello"))
        assert outcome.memo == b'{"data":"hello"}'

    @pytest.mark.parametrize("status", [300, 404, 429, 500])
    def test_other_statuses_are_failures(self, status: int) -> None:
        outcome = read_request_answer("AIGateway", URL, CallAnswer(status, {}, b'{"oh":"no"}'))
        assert json.loads(outcome.memo) == {
            "error": {
                "name": "AIGatewayError",
                "message": f"Error making AI request: unsuccessful status code: {status}",
                "data": {"oh": "no"},
                "stack": '{"oh":"no"}',
            }
        }
        assert outcome.error is not None

    def test_a_failure_without_a_body(self) -> None:
        outcome = read_request_answer("AIGateway", URL, CallAnswer(500, {}, b""))
        assert set(json.loads(outcome.memo)["error"]) == {"name", "message"}

    def test_no_answer(self) -> None:
        outcome = read_request_answer("AIGateway", URL, CallFailure("timeout", "took too long"))
        assert json.loads(outcome.memo)["error"]["message"] == "Error making AI request: took too long"


def test_a_key_never_stands_in_what_history_shows() -> None:
    for answer in (CallAnswer(401, {}, b"bad key"), CallFailure("timeout", "slow")):
        outcome = read_request_answer("AIGateway", f"{URL}?key=sk-secret", answer)
        assert b"sk-secret" not in (outcome.error or b"") + outcome.memo
