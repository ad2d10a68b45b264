"""FastAPI apps on Perdure's own SDK, three in one process.

`/api/inngest` is app `own` with async functions, `/sync/api/inngest` app `own-sync` with plain functions,
`/stream/api/inngest` app `own-stream` whose replies are streamed. `GET /log?key=` shows what happened.
"""

from __future__ import annotations

import argparse
import json
import logging
from typing import Any

import fastapi
import own_async
import own_sync
import uvicorn
from call_log import CallLog
from python_fastapi import Recording

import perdure


class Posts:
    """The checkpoints that the apps post, by wrapping what makes requests to the server."""

    def __init__(self) -> None:
        self._posts: list[dict[str, Any]] = []

    def watch(self, app: perdure.App) -> None:
        call = app.api.call

        async def watched(method: str, path: str, body: bytes = b"", *more: Any, **options: Any) -> Any:
            answer = await call(method, path, body, *more, **options)
            if "/checkpoint/" in path:
                sent = json.loads(body)
                ops = [[op["op"], op["displayName"]] for op in sent["steps"]]
                self._posts.append({"url": path, "run": sent["run_id"], "ops": ops, "status": answer.status})
            return answer

        app.api.call = watched  # type: ignore[method-assign]

    def of(self, lines: dict[str, Any]) -> list[dict[str, Any]]:
        """Those of the runs that were called with a key."""
        runs = {line["run"] for line in lines["calls"]}
        return [post for post in self._posts if post["run"] in runs]


def build(server: str, log: CallLog) -> fastapi.FastAPI:
    """The three apps over one log, for the server at the URL `server`."""
    web = fastapi.FastAPI()
    posts = Posts()
    mounts = (
        ("own", "/api/inngest", own_async.Scenarios, False),
        ("own-sync", "/sync/api/inngest", own_sync.Scenarios, False),
        ("own-stream", "/stream/api/inngest", own_async.Scenarios, True),
    )
    for app_id, path, scenarios, streaming in mounts:
        app = perdure.App(app_id, url=server)
        scenarios(app, log)
        posts.watch(app)
        app.mount(web, path, streaming=streaming)

    @web.get("/log")
    def show(key: str) -> fastapi.Response:
        lines: dict[str, Any] = log.of(key)
        lines["posts"] = posts.of(lines)
        return fastapi.Response(json.dumps(lines, default=str), media_type="application/json")

    web.add_middleware(Recording, log=log)
    return web


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    logging.getLogger("perdure").setLevel(logging.CRITICAL)
    uvicorn.run(build(options.server, CallLog()), host="127.0.0.1", port=options.port, log_level="warning")
