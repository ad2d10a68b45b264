"""Requests that one worker hands on to another over the socket: what arrives, and what comes back."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from perdure.embedded.doorway import LONGEST_PATH, Doorway, SocketOrigin, socket_path
from perdure.embedded.relaying import relay


class Echo:
    """Answers with what it was asked; `/stream` goes on until the client is gone."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "root": scope["root_path"],
            "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
            "body": body.decode(),
        }
        headers = [(b"content-type", b"application/json"), (b"x-one", b"1"), (b"x-one", b"2")]
        await send({"type": "http.response.start", "status": 418, "headers": headers})
        if scope["path"] == "/stream":
            await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            self.gone.set()
            return
        await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


@asynccontextmanager
async def relayed(database: Path, app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that is mounted at `/jobs` and hands its requests on."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = "/jobs"
        await relay(socket_path(database), scope, receive, send)

    async with (
        Doorway(database, app),
        httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url="http://shop.example") as client,
    ):
        yield client


async def test_a_request_arrives_as_it_was_made_and_the_answer_comes_back(tmp_path: Path) -> None:
    async with relayed(tmp_path / "jobs.db", Echo()) as client:
        answer = await client.post(
            "/jobs/v1/a%20b?x=%2F&y=1", content=b"\xc3\xa4", headers={"Origin": "http://o"}
        )
        seen = answer.json()
        assert (answer.status_code, answer.headers.get_list("x-one")) == (418, ["1", "2"])
        assert (seen["method"], seen["path"], seen["query"]) == ("POST", "/v1/a b", "x=%2F&y=1")
        assert (seen["root"], seen["body"]) == ("/jobs", "\xe4")
        assert (seen["headers"]["host"], seen["headers"]["origin"]) == ("shop.example", "http://o")
        forged = await client.get("/jobs/x", headers={"X-Perdure-Root": "/elsewhere"})
        assert forged.json()["root"] == "/jobs"


async def test_a_stream_ends_when_its_reader_is_gone(tmp_path: Path) -> None:
    echo = Echo()
    parts: asyncio.Queue[Any] = asyncio.Queue()
    leave = asyncio.Event()
    asked = False

    async def receive() -> Any:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async with Doorway(tmp_path / "jobs.db", echo):
        scope = {
            "type": "http", "method": "GET", "path": "/stream", "query_string": b"", "headers": [], "root_path": "",
        }  # fmt: skip
        work = asyncio.create_task(relay(socket_path(tmp_path / "jobs.db"), scope, receive, parts.put))
        assert (await asyncio.wait_for(parts.get(), 5))["status"] == 418
        assert (await asyncio.wait_for(parts.get(), 5))["body"] == b"first\n"
        leave.set()
        await asyncio.wait_for(echo.gone.wait(), 5)
        await asyncio.wait_for(work, 5)


async def test_without_a_leader_the_answer_is_to_try_again(tmp_path: Path) -> None:
    sent: list[Any] = []

    async def nothing() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "query_string": b"",
        "headers": [],
        "root_path": "",
    }
    await relay(socket_path(tmp_path / "jobs.db"), scope, nothing, send)
    assert sent[0]["status"] == 503


async def test_the_socket_is_for_its_owner_only_and_goes_with_the_engine(tmp_path: Path) -> None:
    database = tmp_path / "jobs.db"
    path = socket_path(database)
    path.touch()  # as a killed process leaves it
    async with Doorway(database, Echo()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert (await SocketOrigin(database).request("GET", "/x")).status == 418
    assert not path.exists()


async def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * LONGEST_PATH)
    folder.mkdir()
    database = folder / "jobs.db"
    assert socket_path(database).parent != folder
    async with Doorway(database, Echo()):
        assert (await SocketOrigin(database).request("GET", "/x")).status == 418
