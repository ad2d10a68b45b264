"""The jobs without any SDK: answers the protocol directly, which leaves the machine to the server under test.

Run as `python -m tests.integration.durability.apps.bare PORT SERVER_URL JOURNAL`.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson

from bench.apps import raw_http
from bench.connection import Pool
from tests.integration.durability import jobs
from tests.integration.durability.journal import Writer

PATH = "/api/inngest"
HEADERS = b"x-inngest-sdk: inngest-js:v4.24.0\r\nx-inngest-req-version: 2\r\n"
NO_RETRY = HEADERS + b"x-inngest-no-retry: true\r\n"
STARTED = (
    *(jobs.FIVE, jobs.FLAKY, jobs.FAILING, jobs.PARENT, jobs.WAITER, jobs.SLEEPER, jobs.SLOW),
    *(jobs.BRIEF, jobs.CALLER, jobs.CHILD, jobs.CALLEE),
)


def op(code: str, name: str, **more: Any) -> bytes:
    """The body of an answer with one operation."""
    given = {"op": code, "id": jobs.step_id(name), "name": name, "displayName": name, "opts": {}, **more}
    return orjson.dumps([given])


def value_of(memo: Any) -> Any:
    """What a step returned, from what a call carries of it: a sleep is null, an event that was waited for is bare."""
    return memo.get("data") if isinstance(memo, dict) else memo


class App:
    """The whole behaviour."""

    def __init__(self, port: int, server_url: str, journal: Path) -> None:
        self._url = f"http://127.0.0.1:{port}{PATH}"
        self._server_url = server_url
        self._journal = Writer(journal)
        self._slow_once: set[str] = set()

    def handle(self, method: str, path: str, query: str, body: bytes) -> Any:
        """Route one request."""
        if method == "PUT":
            return self._register()
        if method != "POST":
            return 200, HEADERS, b"{}"
        asked = parse_qs(query)
        call = orjson.loads(body)
        self._journal.call(call, asked["stepId"][0])
        return self._run(asked["fnId"][0].removeprefix(f"{jobs.APP}-"), call)

    def _run(self, job: str, call: Any) -> Any:
        done: dict[str, Any] = call["steps"]
        run: str = call["ctx"]["run_id"]
        names = jobs.step_names(job)
        missing = [name for name in names if jobs.step_id(name) not in done]
        if missing:
            return self._step(job, missing[0], run, call)
        if job in jobs.HANDLERS:
            error = {"name": "Error", "message": "on purpose", "stack": ""}
            self._end(run, call)
            return 400, NO_RETRY, orjson.dumps(error)
        self._end(run, call)
        return 200, HEADERS, orjson.dumps({name: value_of(done[jobs.step_id(name)]) for name in names})

    def _end(self, run: str, call: Any) -> None:
        data = call["event"]["data"]
        self._journal.ended(run, data.get("key", -1))

    def _step(self, job: str, name: str, run: str, call: Any) -> Any:
        data = call["event"]["data"]
        if name == "invoke":
            opts = {
                "function_id": f"{jobs.APP}-{jobs.CHILDREN[job]}",
                "payload": {"data": {"parent": data["key"]}},
                "timeout": "10m",
            }
            return 206, HEADERS, op("InvokeFunction", name, opts=opts)
        if name == "wait":
            opts = {
                "event": jobs.GO,
                "timeout": "10m",
                "if": f"async.data.key == {data['key']}",
            }
            return 206, HEADERS, op("WaitForEvent", jobs.GO, id=jobs.step_id(name), opts=opts)
        if name == "sleep":
            return 206, HEADERS, op("Sleep", f"{jobs.SLEEP_MS}ms", id=jobs.step_id(name))
        if job == jobs.FLAKY and name == "s1" and call["ctx"]["attempt"] == 0:
            return (
                206,
                HEADERS,
                op("StepError", name, error={"name": "Error", "message": "first try", "stack": ""}),
            )
        if job == jobs.SLOW and name == "s2":
            return self._slow(run, call)
        return self._ran(name, run)

    def _ran(self, name: str, run: str) -> raw_http.Answer:
        token = uuid.uuid4().hex
        self._journal.ran(run, name, token)
        return 206, HEADERS, op("StepRun", name, data=token)

    async def _slow(self, run: str, call: Any) -> raw_http.Answer:
        """The third step takes its time when it is first called for; when it is called for again it is quick.

        If the event says so, it is posted half-way, and the answer is the fourth.
        """
        data = call["event"]["data"]
        seconds = 0 if run in self._slow_once else data["takes_s"]
        self._slow_once.add(run)
        await asyncio.sleep(seconds / 2)
        posted = data.get("checkpoint", False) and await self._checkpoint(run, call["ctx"])
        await asyncio.sleep(seconds / 2)
        return self._ran("s3" if posted else "s2", run)

    async def _checkpoint(self, run: str, context: Any) -> bool:
        token = uuid.uuid4().hex
        self._journal.ran(run, "s2", token)
        body = {
            **{key: context[key] for key in ("run_id", "fn_id", "qi_id", "request_id", "generation_id")},
            "ts": 0,
            "steps": orjson.loads(op("StepRun", "s2", data=token)),
        }
        async with Pool(self._server_url, 1) as server:
            answer = await server.post(f"/v1/checkpoint/{run}/async", orjson.dumps(body))
        self._journal.posted(run, answer.status)
        return answer.status == 200

    async def _register(self) -> raw_http.Answer:
        async with Pool(self._server_url, 1) as server:
            answer = await server.post("/fn/register", orjson.dumps(self._registration()))
        return answer.status, HEADERS, answer.body

    def _registration(self) -> dict[str, Any]:
        triggers = {name: {"event": f"{jobs.APP}/{name}"} for name in STARTED}
        for job, handler in jobs.HANDLERS.items():
            only = f"event.data.function_id == '{jobs.APP}-{job}'"
            triggers[handler] = {"event": "inngest/function.failed", "expression": only}
        return {
            "url": self._url,
            "v": "0.1",
            "deployType": "ping",
            "sdk": "js:v4.24.0",
            "framework": "none",
            "appName": jobs.APP,
            "functions": [self._function(name, given) for name, given in triggers.items()],
        }

    def _function(self, name: str, trigger: dict[str, str]) -> dict[str, Any]:
        slug = f"{jobs.APP}-{name}"
        runtime = {"type": "http", "url": f"{self._url}?fnId={slug}&stepId=step"}
        step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": jobs.RETRIES}}
        return {"id": slug, "name": name, "triggers": [trigger], "steps": {"step": step}}


def main(port: int, server_url: str, journal: Path) -> None:
    """Serve until killed."""
    raw_http.serve(port, App(port, server_url, journal).handle)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
