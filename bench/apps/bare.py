"""The workloads' functions without any SDK: it answers the protocol with as little work as Python allows.

Put behind a server it shows the server's own ceiling. Run as `python -m bench.apps.bare PORT SERVER_URL`.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qs

import orjson

from bench.apps import raw_http
from bench.apps.marks import PREFIX, Marks
from bench.connection import Pool

PARALLEL_STEP_S = 0.1
APP_PATH = "/api/inngest"
_HEADERS = b"x-inngest-sdk: bare:v0.0.1\r\nx-inngest-req-version: 2\r\n"
_STEPS = {"instant": 0, "five": 5, "ten": 10}


def _step_id(name: str) -> str:
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


_ROW = [_step_id(f"step-{number}") for number in range(10)]
_BRANCHES = {_step_id(f"branch-{number}"): number for number in range(4)}


def _op(op: str, step_id: str, name: str, data: int | None) -> bytes:
    return orjson.dumps(
        [{"op": op, "id": step_id, "name": name, "displayName": name, "opts": {}, "data": data}]
    )


_ROW_OPS = [_op("StepRun", step_id, f"step-{number}", number) for number, step_id in enumerate(_ROW)]
_PLAN = orjson.dumps(
    [
        {"op": "StepPlanned", "id": step_id, "name": f"branch-{n}", "displayName": f"branch-{n}", "opts": {}}
        for step_id, n in _BRANCHES.items()
    ]
)


class BareApp:
    """The app's whole behaviour."""

    def __init__(self, port: int, server_url: str) -> None:
        self.marks = Marks()
        self._url = f"http://127.0.0.1:{port}{APP_PATH}"
        self._server_url = server_url

    def handle(
        self, method: str, path: str, query: str, body: bytes
    ) -> raw_http.Answer | Awaitable[raw_http.Answer]:
        """Route one request."""
        if path.startswith(PREFIX):
            return self._control(path, query)
        if method == "PUT":
            return self._register()
        if method != "POST":
            return 200, _HEADERS, b"{}"
        call = orjson.loads(body)
        asked = parse_qs(query)
        return self._run(asked["fnId"][0].removeprefix("bench-"), asked["stepId"][0], call)

    def _run(self, function: str, step: str, call: Any) -> raw_http.Answer | Awaitable[raw_http.Answer]:
        index, memos = call["event"]["data"]["i"], call["steps"]
        self.marks.begin(index)
        if function == "parallel":
            if step in _BRANCHES:
                return self._branch(step)
            if not memos:
                return 206, _HEADERS, _PLAN
            count = len(_BRANCHES)
        else:
            count = _STEPS[function]
        if len(memos) < count:
            return 206, _HEADERS, _ROW_OPS[len(memos)]
        self.marks.end(index)
        return 200, _HEADERS, b"%d" % index

    async def _branch(self, step: str) -> raw_http.Answer:
        await asyncio.sleep(PARALLEL_STEP_S)
        number = _BRANCHES[step]
        return 206, _HEADERS, _op("StepRun", step, f"branch-{number}", number)

    async def _control(self, path: str, query: str) -> raw_http.Answer:
        return 200, b"", await self.marks.control(path, query)

    async def _register(self) -> raw_http.Answer:
        body = orjson.dumps(self._registration())
        async with Pool(self._server_url, 1) as server:
            answer = await server.post("/fn/register", body)
        return answer.status, _HEADERS, answer.body

    def _registration(self) -> dict[str, Any]:
        return {
            "url": self._url,
            "v": "0.1",
            "deployType": "ping",
            "sdk": "bare:v0.0.1",
            "framework": "none",
            "appName": "bench",
            "functions": [self._function(name) for name in (*_STEPS, "parallel")],
        }

    def _function(self, name: str) -> dict[str, Any]:
        slug = f"bench-{name}"
        runtime = {"type": "http", "url": f"{self._url}?fnId={slug}&stepId=step"}
        step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": 3}}
        return {
            "id": slug,
            "name": name,
            "triggers": [{"event": f"bench/{name}"}],
            "steps": {"step": step},
        }


def main(port: int, server_url: str) -> None:
    """Serve until killed."""
    raw_http.serve(port, BareApp(port, server_url).handle)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
