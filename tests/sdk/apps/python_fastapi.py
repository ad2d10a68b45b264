"""FastAPI apps on the official Python SDK, three in one process.

`/api/inngest` is app `fastapi` with async functions, `/sync/api/inngest` app `fastapi-sync` with plain functions,
`/stream/api/inngest` app `fastapi-stream` whose replies are streamed. `GET /log?key=` shows what happened.
"""

from __future__ import annotations

import argparse
import json
import urllib.parse
from typing import Any

import fastapi
import functions_async
import functions_sync
import inngest
import inngest.fast_api
import uvicorn
from call_log import CallLog
from serving import make_client


class Recording:
    """ASGI middleware that puts each POST to the SDK, and its reply, into the log."""

    def __init__(self, app: Any, log: CallLog) -> None:
        self.app = app
        self.log = log

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        line = self.log.begin(query, _headers(scope["headers"]), body)
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        reply = bytearray()
        start: dict[str, Any] = {}

        async def replay() -> Any:
            return unread.pop() if unread else await receive()

        async def record(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                reply.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    self.log.end(line, start["status"], _headers(start["headers"]), bytes(reply))
            await send(message)

        await self.app(scope, replay, record)


def _headers(raw: Any) -> dict[str, str]:
    return {name.decode().lower(): value.decode() for name, value in raw}


def build(server: str, log: CallLog) -> fastapi.FastAPI:
    """The three apps over one log, for the server at the URL `server`."""
    app = fastapi.FastAPI()
    mounts = (
        ("fastapi", "/api/inngest", functions_async.Scenarios, None),
        ("fastapi-sync", "/sync/api/inngest", functions_sync.Scenarios, None),
        ("fastapi-stream", "/stream/api/inngest", functions_async.Scenarios, inngest.Streaming.FORCE),
    )
    for app_id, path, scenarios, streaming in mounts:
        client = make_client(app_id, server)
        made = scenarios(client, log)
        inngest.fast_api.serve(app, client, made.functions, serve_path=path, streaming=streaming)

    @app.get("/log")
    def show(key: str) -> fastapi.Response:
        return fastapi.Response(json.dumps(log.of(key), default=str), media_type="application/json")

    app.add_middleware(Recording, log=log)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    uvicorn.run(build(options.server, CallLog()), host="127.0.0.1", port=options.port, log_level="warning")
