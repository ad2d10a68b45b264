"""The functions under rules without any SDK: answers the protocol directly.

Run as `python -m tests.integration.durability.apps.bare_rules PORT SERVER_URL JOURNAL`.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson

from bench.apps import raw_http
from bench.connection import Pool
from tests.integration.durability import jobs, rules
from tests.integration.durability.apps.bare import HEADERS, PATH, op
from tests.integration.durability.journal import Writer


class App:
    """The whole behaviour."""

    def __init__(self, port: int, server_url: str, journal: Path) -> None:
        self._url = f"http://127.0.0.1:{port}{PATH}"
        self._server_url = server_url
        self._journal = Writer(journal)

    def handle(self, method: str, _: str, query: str, body: bytes) -> Any:
        """Route one request."""
        if method == "PUT":
            return self._register()
        if method != "POST":
            return 200, HEADERS, b"{}"
        return self._call(parse_qs(query)["fnId"][0].removeprefix(f"{rules.APP}-"), orjson.loads(body))

    async def _call(self, function: str, call: Any) -> raw_http.Answer:
        self._journal.entered(call)
        try:
            return await self._answer(function, call)
        finally:
            # Also if the caller is gone: then nobody waits for the rest.
            self._journal.left(call)

    async def _answer(self, function: str, call: Any) -> raw_http.Answer:
        data: dict[str, Any] = call["event"]["data"]
        missing = [s for s in rules.steps_of(function, data) if jobs.step_id(s) not in call["steps"]]
        if missing and missing[0] == rules.NAP:
            return 206, HEADERS, op("Sleep", f"{data['nap_ms']}ms", id=jobs.step_id(rules.NAP))
        if missing and missing[0] == rules.ASK:
            asked = {"function_id": f"{rules.APP}-{data['asks']}", "payload": {"data": {"by": data["n"]}}}
            return 206, HEADERS, op("InvokeFunction", rules.ASK, opts=asked)
        if not missing and function in rules.STEPPED:
            self._end(call)
            return 200, HEADERS, b"null"
        await asyncio.sleep(data.get("takes_s", 0))
        if missing:
            return 206, HEADERS, op("StepRun", missing[0], data=data["n"])
        self._end(call)
        return 200, HEADERS, b"null"

    def _end(self, call: Any) -> None:
        self._journal.ended(call["ctx"]["run_id"], call["event"]["data"].get("n", -1))

    async def _register(self) -> raw_http.Answer:
        registration = {
            "url": self._url,
            "v": "0.1",
            "deployType": "ping",
            "sdk": "js:v4.24.0",
            "framework": "none",
            "appName": rules.APP,
            "functions": [self._function(name, config) for name, config in rules.CONFIGS.items()],
        }
        async with Pool(self._server_url, 1) as server:
            answer = await server.post("/fn/register", orjson.dumps(registration))
        return answer.status, HEADERS, answer.body

    def _function(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        slug = f"{rules.APP}-{name}"
        runtime = {"type": "http", "url": f"{self._url}?fnId={slug}&stepId=step"}
        step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": jobs.RETRIES}}
        triggers = [{"event": f"{rules.APP}/{name}"}]
        return {"id": slug, "name": name, "triggers": triggers, "steps": {"step": step}, **config}


def main(port: int, server_url: str, journal: Path) -> None:
    """Serve until killed."""
    raw_http.serve(port, App(port, server_url, journal).handle)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
