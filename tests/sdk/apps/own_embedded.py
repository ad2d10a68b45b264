"""Apps on Perdure's own SDK with the engine in their own process, two on one engine.

`own-embedded` has async functions, `own-embedded-sync` plain ones. The engine's API is mounted at `/engine`, and
`GET /log?key=` shows what happened.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastapi
import own_async
import own_sync
import uvicorn
from call_log import CallLog

import perdure
from perdure.embedded.carrier import ShardCarrier
from perdure.embedded.transport import InProcessTransport
from perdure.protocol.calls import CallAnswer


def record_calls(log: CallLog) -> None:
    """Put each call of the in-process transport, and its answer, into the log."""
    start = InProcessTransport.start

    def watched(self: InProcessTransport, call: Any, done: Any) -> Any:
        if not call.url.startswith("http://in-process/"):
            return start(self, call, done)
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(call.url).query))
        line = log.begin(query, {name.lower(): value for name, value in call.headers}, call.body)

        def ended(result: Any) -> None:
            if isinstance(result, CallAnswer):
                log.end(line, result.status, result.headers, result.body)
            done(result)

        return start(self, call, ended)

    InProcessTransport.start = watched  # type: ignore[method-assign]


def record_posts(posts: list[dict[str, Any]]) -> None:
    """Note each checkpoint as if it had been posted over HTTP."""
    carry = ShardCarrier.carry
    statuses = {"saved": 200, "stale": 409, "refused": 400}

    async def watched(self: ShardCarrier, job: Any, steps: bytes) -> Any:
        receipt = await carry(self, job, steps)
        ops = [[op["op"], op["displayName"]] for op in json.loads(steps)]
        status = statuses[receipt.fate.value]
        posts.append({"url": "/v1/checkpoint/", "run": job.run_id, "ops": ops, "status": status})
        return receipt

    ShardCarrier.carry = watched  # type: ignore[method-assign]


def build(database: Path) -> fastapi.FastAPI:
    """The two apps over one log and one engine."""
    log, posts = CallLog(), list[dict[str, Any]]()
    record_calls(log)
    record_posts(posts)
    first, second = perdure.App("own-embedded"), perdure.App("own-embedded-sync")
    own_async.Scenarios(first, log)
    own_sync.Scenarios(second, log)

    @asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        url = f"sqlite:///{database}"
        async with first.run_embedded(url, retry_interval=1), second.run_embedded(url):
            yield

    web = fastapi.FastAPI(lifespan=lifespan)
    first.mount_dashboard(web, "/engine")

    @web.get("/log")
    def show(key: str) -> fastapi.Response:
        lines: dict[str, Any] = log.of(key)
        runs = {line["run"] for line in lines["calls"]}
        lines["posts"] = [post for post in posts if post["run"] in runs]
        return fastapi.Response(json.dumps(lines, default=str), media_type="application/json")

    return web


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True, help="not used: the engine is here")
    options = parser.parse_args()
    logging.getLogger("perdure").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        uvicorn.run(build(Path(folder) / "jobs.db"), host="127.0.0.1", port=options.port, log_level="warning")
