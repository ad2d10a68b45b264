"""Where workers are told to connect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from perdure.errors import RequestError
from perdure.server.connecting import Connecting, gateway_endpoint
from perdure.server.http import Intake


def request(host: str | None, scheme: str = "http", **headers: str) -> Request:
    """A request as it reaches the server, with an empty body."""
    told = {**({} if host is None else {"host": host}), **headers}
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in told.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": scheme,
        "path": "/",
        "query_string": b"",
        "headers": raw,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    return Request(scope, receive)


@pytest.mark.parametrize(
    ("asked", "own_port", "expected"),
    [
        (request("localhost:8288"), 8289, "ws://localhost:8289/v0/connect"),
        (request("perdure:8288"), 8289, "ws://perdure:8289/v0/connect"),
        (request("[::1]:8288"), 8289, "ws://[::1]:8289/v0/connect"),
        # The port is taken, or another one was mapped to the server's.
        (request("localhost:8288"), None, "ws://localhost:8288/v0/connect"),
        (request("localhost:9000"), 8289, "ws://localhost:9000/v0/connect"),
        # Behind a proxy.
        (request("jobs.example.com"), 8289, "ws://jobs.example.com/v0/connect"),
        (request("jobs.example.com", x_forwarded_proto="https"), 8289, "wss://jobs.example.com/v0/connect"),
        (
            request("jobs.example.com", x_forwarded_proto="https, http"),
            8289,
            "wss://jobs.example.com/v0/connect",
        ),
        (request("localhost:8288", x_forwarded_proto="http"), 8289, "ws://localhost:8288/v0/connect"),
        (request("jobs.example.com", scheme="https"), None, "wss://jobs.example.com/v0/connect"),
        (request(None), 8289, "ws://localhost/v0/connect"),
    ],
)
def test_by_the_name_under_which_the_server_was_called(
    asked: Request, own_port: int | None, expected: str
) -> None:
    assert gateway_endpoint(asked, 8288, own_port) == expected


async def test_an_engine_in_an_apps_process_takes_no_workers() -> None:
    server: Any = SimpleNamespace(intake=Intake())
    gateway: Any = SimpleNamespace(closing=False)
    with pytest.raises(RequestError, match="part of an app's process") as refused:
        await Connecting(server, gateway)._start(request("localhost"))
    assert refused.value.status == 404
