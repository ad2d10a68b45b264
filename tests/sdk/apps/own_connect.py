"""Apps on Perdure's own SDK that connect to the server, two over one connection.

`own-connect` has async functions, `own-connect-sync` plain ones. `GET /log?key=` shows what happened; nothing is
served to the server. With `--plain` they are `own-plain` and `own-plain-sync`, and nothing is used that Perdure's
gateway has beyond the protocol.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import fastapi
import own_async
import own_sync
import uvicorn
from call_log import CallLog

import perdure
from perdure.protocol.connect.messages import Extensions
from perdure.sdk.connect import introducing
from perdure.sdk.connect.calls import Calls, Taken
from perdure.sdk.connect.carrying import ConnectCarrier
from perdure.sdk.reply import Reply


def record_calls(log: CallLog) -> None:
    """Put each call of the gateway, and its answer as HTTP would have it, into the log."""
    answer = Calls._reply

    async def watched(self: Calls, taken: Taken) -> Reply:
        request = taken.request
        query = {"fnId": request.function_slug, "stepId": request.step_id or "step"}
        generation = json.loads(request.request_payload)["ctx"]["generation_id"]
        line = log.begin(query, {"x-inngest-generation-id": str(generation)}, request.request_payload)
        reply = await answer(self, taken)
        if not taken.dropped:
            headers = {} if reply.no_retry is None else {"x-inngest-no-retry": str(reply.no_retry).lower()}
            if reply.retry_after is not None:
                headers["retry-after"] = reply.retry_after
            log.end(line, reply.status, {**headers, "x-inngest-req-version": "2"}, reply.body)
        return reply

    Calls._reply = watched  # type: ignore[method-assign]


def record_posts(posts: list[dict[str, Any]]) -> None:
    """Note each checkpoint as if it had been posted over HTTP."""
    carry = ConnectCarrier.carry
    statuses = {"saved": 200, "stale": 409, "refused": 400}

    async def watched(self: ConnectCarrier, job: Any, steps: bytes) -> Any:
        ops = [[op["op"], op["displayName"]] for op in json.loads(steps)]
        receipt = await carry(self, job, steps)
        status = statuses[receipt.fate.value]
        posts.append({"url": "/v1/checkpoint/", "run": job.run_id, "ops": ops, "status": status})
        return receipt

    ConnectCarrier.carry = watched  # type: ignore[method-assign]


def build(server: str, names: tuple[str, str]) -> fastapi.FastAPI:
    """The two apps over one log and one connection."""
    log, posts = CallLog(), list[dict[str, Any]]()
    record_calls(log)
    record_posts(posts)
    first, second = (perdure.App(name, url=server) for name in names)
    own_async.Scenarios(first, log)
    own_sync.Scenarios(second, log)

    @asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(first.connect(second, drain_timeout=5))
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    web = fastapi.FastAPI(lifespan=lifespan)

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
    parser.add_argument("--server", required=True)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    if options.plain:
        introducing.EXTENSIONS = Extensions()
    prefix = "own-plain" if options.plain else "own-connect"
    logging.getLogger("perdure").setLevel(logging.CRITICAL)
    uvicorn.run(
        build(options.server, (prefix, f"{prefix}-sync")),
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
    )
