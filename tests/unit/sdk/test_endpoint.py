"""What an app answers to a server's requests: introspection, syncs, signatures, streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

import perdure
from perdure.protocol import signing
from perdure.sdk import world
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request, Response
from perdure.sdk.http import Answer
from tests.unit.sdk.calls import body_of

KEY = "signkey-prod-" + "ab12" * 16
OLD = "signkey-prod-" + "cd34" * 16
URL = "http://app.test/api/inngest"


class Server:
    """Stands in for the server's API, and keeps what it was asked."""

    def __init__(self, app: perdure.App, answer: Answer | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        app.api._origin.request = self.request  # type: ignore[method-assign]

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Any = None, timeout: float = 1
    ) -> Answer:
        self.asked.append((method, path, json.loads(body or b"null"), dict(headers or {})))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def make(**options: Any) -> perdure.App:
    app = perdure.App("unit", url="http://server.invalid", checkpoint=None, **options)

    @app.function("unit/go")
    async def job(step: perdure.Step) -> str:
        return "done"

    return app


async def ask(
    app: perdure.App, method: str, query: str = "", body: bytes = b"", key: str | None = None, **headers: str
) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        sent["x-inngest-signature"] = signing.sign(body, key, world.now_ms() // 1000)
    return await Endpoint(app, "test").handle(Request(method, URL + query, sent, body))


def read(response: Response) -> Any:
    return json.loads(response.body)


async def test_introspection_in_development() -> None:
    response = await ask(make(), "GET")
    assert response.status == 200
    assert read(response) == {
        "schema_version": "2024-05-24",
        "function_count": 1,
        "has_event_key": False,
        "has_signing_key": False,
        "has_signing_key_fallback": False,
        "mode": "dev",
    }
    assert response.headers["x-inngest-sdk"] == f"perdure-py:v{perdure.__version__}"
    assert response.headers["x-inngest-framework"] == "test"


async def test_introspection_in_production_tells_strangers_nothing() -> None:
    app = make(signing_key=KEY, signing_key_fallback=OLD, event_key="secret")
    for response in (await ask(app, "GET"), await ask(app, "GET", key="99" * 32)):
        assert response.status == 401
        assert "x-inngest-sdk" not in response.headers
        assert response.headers["x-inngest-sdk-handled"] == "true"
    told = read(await ask(app, "GET", key=OLD))
    assert (told["mode"], told["authentication_succeeded"], told["app_id"]) == ("cloud", True, "unit")
    assert told["signing_key_hash"] == signing.hash_signing_key(KEY)
    assert "secret" not in json.dumps(told)


async def test_calls_are_verified_and_answers_signed_with_the_same_key() -> None:
    app = make(signing_key=KEY, signing_key_fallback=OLD)
    query, body = "?fnId=unit-job&stepId=step", body_of({"data": {"n": 1.0, "é": "\u2028"}})
    now = world.now_ms() // 1000
    for key in (KEY, OLD):
        response = await ask(app, "POST", query, body, key)
        assert (response.status, read(response)) == (200, "done")
        assert signing.verify(response.body, response.headers["x-inngest-signature"], [key], now)
    assert (await ask(app, "POST", query, body)).status == 401
    assert (await ask(app, "POST", query, body, "99" * 32)).status == 401
    old = {"x_inngest_signature": signing.sign(body, KEY, now - 301)}
    assert (await ask(app, "POST", query, body, **old)).status == 401


async def test_out_of_band_sync_hands_on_the_servers_answer() -> None:
    app = make(signing_key=KEY, version="7", env="branch")
    server = Server(app, Answer(200, {}, b'{"ok":true,"modified":true}'))
    response = await ask(app, "PUT", "?deployId=d1&token=t", x_inngest_server_kind="cloud")
    assert (response.status, read(response)) == (200, {"ok": True, "modified": True})
    assert response.headers["x-inngest-sync-kind"] == "out_of_band"
    ((method, path, body, headers),) = server.asked
    assert (method, path) == ("POST", "/fn/register?deployId=d1")
    assert (body["appName"], body["appVersion"], body["url"]) == ("unit", "7", URL + "?token=t")
    assert headers["authorization"] == f"Bearer {signing.hash_signing_key(KEY)}"
    assert headers["x-inngest-expected-server-kind"] == "cloud"
    assert headers["x-inngest-env"] == "branch"
    runtime = body["functions"][0]["steps"]["step"]["runtime"]["url"]
    assert runtime == URL + "?token=t&fnId=unit-job&stepId=step"


async def test_a_refused_sync_says_why() -> None:
    app = make()
    Server(app, Answer(400, {}, b'{"error":"At least one function is invalid","status":400}'))
    response = await ask(app, "PUT")
    assert (response.status, read(response)["error"]) == (400, "At least one function is invalid")
    Server(app, ConnectionRefusedError("refused"))
    response = await ask(app, "PUT")
    assert response.status == 502
    assert "could not reach the server at http://server.invalid" in read(response)["message"]
    Server(app, Answer(401, {}, b"Authentication failed\n"))
    response = await ask(app, "PUT")
    assert (response.status, read(response)["message"]) == (401, "Authentication failed")


async def test_in_band_sync_answers_with_the_functions() -> None:
    app = make(signing_key=KEY)
    response = await ask(app, "PUT", body=b'{"url":"x"}', key=KEY, x_inngest_sync_kind="in_band")
    assert response.status == 200
    assert response.headers["x-inngest-sync-kind"] == "in_band"
    told = read(response)
    assert (told["app_id"], told["url"], len(told["functions"])) == ("unit", URL, 1)
    assert told["inspection"]["authentication_succeeded"] is True
    assert (await ask(app, "PUT", x_inngest_sync_kind="in_band")).status == 401


async def test_the_fallback_key_is_tried_when_the_first_is_refused_and_then_kept() -> None:
    app = make(signing_key=KEY, signing_key_fallback=OLD)
    old_hash = signing.hash_signing_key(OLD)

    class Rotating(Server):
        async def request(self, *args: Any, **options: Any) -> Answer:
            await super().request(*args, **options)
            known = self.asked[-1][3]["authorization"] == f"Bearer {old_hash}"
            return Answer(200 if known else 401, {}, b"{}")

    server = Rotating(app, Answer(200, {}, b"{}"))
    assert (await ask(app, "PUT")).status == 200
    assert (await ask(app, "PUT")).status == 200
    assert len(server.asked) == 3


async def test_events_go_with_a_seed_and_the_key_in_the_path() -> None:
    app = make(event_key="a/b")
    server = Server(app, Answer(200, {}, b'{"ids":["01A"],"status":200}'))
    assert await app.send(perdure.Event("unit/go", {"n": 1})) == ["01A"]
    ((_, path, body, headers),) = server.asked
    assert (path, body) == ("/e/a%2Fb", [{"name": "unit/go", "data": {"n": 1}}])
    millis, _, entropy = headers["x-inngest-event-id-seed"].partition(",")
    assert (millis.isdigit(), len(entropy)) == (True, 16)
    server.answer = Answer(400, {}, b'{"ids":["01A"],"status":400,"error":"event name is empty"}')
    with pytest.raises(perdure.SendError, match="event name is empty") as caught:
        await app.send(perdure.Event("unit/go", {}), perdure.Event("x", {}))
    assert (caught.value.status, caught.value.ids) == (400, ("01A",))


@pytest.mark.parametrize(
    ("method", "query", "body", "status", "words"),
    [
        ("POST", "?fnId=unit-gone&stepId=step", b"{}", 404, "has no function 'unit-gone'; it has: unit-job"),
        ("POST", "?fnId=unit-job&stepId=step", b"not json", 400, "cannot be read"),
        ("POST", "?fnId=unit-job&stepId=step", b'{"ctx":7}', 400, "cannot be read"),
        ("DELETE", "", b"", 405, "DELETE is not known"),
        ("POST", "?probe=other", b"", 400, "probe 'other'"),
    ],
)
async def test_bad_requests_are_explained(
    method: str, query: str, body: bytes, status: int, words: str
) -> None:
    response = await ask(make(), method, query, body)
    assert response.status == status
    assert words in read(response)["message"]


async def test_trust_probe() -> None:
    assert (await ask(make(), "POST", "?probe=trust")).status == 200
    assert (await ask(make(signing_key=KEY), "POST", "?probe=trust")).status == 401


async def test_streamed_answers_wrap_the_real_one() -> None:
    endpoint = Endpoint(make(), "test", streaming=True)
    request = Request("POST", URL + "?fnId=unit-job&stepId=step", {}, body_of())
    response = await endpoint.handle(request)
    assert response.status == 201
    assert response.stream is not None
    chunks = [chunk async for chunk in response.stream]
    assert chunks[0] == b" "
    told = json.loads(b"".join(chunks))
    assert (told["status"], told["body"]) == (200, '"done"')
    assert told["headers"]["x-inngest-req-version"] == "2"


async def test_large_state_is_fetched() -> None:
    app = make()

    @app.function("unit/go")
    async def big(event: dict[str, Any], step: perdure.Step) -> Any:
        return [event["n"], await step.run("a", int)]

    class State(Server):
        async def request(self, method: str, path: str, *args: Any, **options: Any) -> Answer:
            await super().request(method, path, *args, **options)
            if path == "/v0/runs/01RUN/batch":
                return Answer(200, {}, b'[{"name":"unit/go","data":{"n":5}}]')
            from perdure.protocol.ids import hash_step_id

            return Answer(200, {}, json.dumps({hash_step_id("a"): {"data": 7}}).encode())

    State(app, Answer(200, {}, b""))
    body = json.loads(body_of({"data": {"n": 5}}, use_api=True))
    body["use_api"] = body["ctx"]["use_api"] = True
    response = await ask(app, "POST", "?fnId=unit-big&stepId=step", json.dumps(body).encode())
    assert (response.status, read(response)) == (200, [5, 7])
    Server(app, Answer(410, {}, b"gone"))
    response = await ask(app, "POST", "?fnId=unit-big&stepId=step", json.dumps(body).encode())
    assert (response.status, read(response)["name"]) == (500, "ConnectionError")
