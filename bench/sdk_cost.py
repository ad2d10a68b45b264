"""What an SDK adds to a call, in one process without sockets: Perdure's own beside the official one for Python.

    python -m bench.sdk_cost [--calls 2000] [--repeat 7]

Both serve the same functions in FastAPI, and are called through its ASGI interface with the bodies that a server sends.
A third app has a plain route that answers with ready bytes: what it takes is FastAPI's, and is subtracted. The three
take turns; the medians of their CPU time are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import perdure
from bench.apps import own_sdk, python_sdk
from bench.apps.marks import Marks
from perdure.protocol.ids import hash_step_id

PATH = "/api/inngest"
SERVER = "http://server.invalid"
Asgi = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Case:
    """A call: the function, how many of its steps are saved, and the status that its answer must have."""

    name: str
    function: str
    saved: int
    status: int


CASES = (
    Case("no steps", "instant", 0, 200),
    Case("a first step", "ten", 0, 206),
    Case("a step after five", "ten", 5, 206),
    Case("the end, after ten", "ten", 10, 200),
)


def body_of(case: Case) -> bytes:
    """The body of a call, as a server sends it."""
    event = {"name": f"bench/{case.function}", "data": {"i": 1}, "id": "01EVENT", "ts": 1, "user": {}}
    steps = {hash_step_id(f"step-{number}"): {"data": number} for number in range(case.saved)}
    context = {
        "attempt": 0,
        "disable_immediate_execution": False,
        "env": "",
        "fn_id": "F",
        "max_attempts": 4,
        "qi_id": "",
        "run_id": "01HZZZZZZZZZZZZZZZZZZZZZZZ",
        "stack": {"current": case.saved, "stack": list(steps)},
        "step_id": "step",
        "use_api": False,
    }
    return json.dumps(
        {
            "ctx": context,
            "event": event,
            "events": [event],
            "steps": steps,
            "use_api": False,
            "version": 2 if steps else -1,
        }
    ).encode()


def contestants() -> dict[str, Asgi]:
    """The three apps by name."""
    own, official, plain = fastapi.FastAPI(), fastapi.FastAPI(), fastapi.FastAPI()
    app = perdure.App("bench", url=SERVER, dev=True)
    own_sdk.declare(app, Marks())
    app.mount(own)
    client = inngest.Inngest(
        app_id="bench", is_production=False, api_base_url=SERVER, event_api_base_url=SERVER
    )
    inngest.fast_api.serve(official, client, python_sdk.functions(client, Marks()))

    async def ready(request: Request) -> Response:
        status = 200 if (await request.body()) and request.query_params["ready"] == "200" else 206
        return Response(b'{"ready":true}', status, media_type="application/json")

    plain.router.routes.append(Route(PATH, ready, methods=["POST"]))
    return {"own": own, "official": official, "plain route": plain}


async def call(app: Asgi, case: Case, body: bytes) -> bytes:
    """One call; its answer. Raises RuntimeError if the status is wrong."""
    query = f"fnId=bench-{case.function}&stepId=step&ready={case.status}"
    headers = {
        "host": "localhost",
        "content-type": "application/json",
        "content-length": str(len(body)),
        "user-agent": "Inngest",
        "x-inngest-server-kind": "dev",
        "x-run-id": "01HZZZZZZZZZZZZZZZZZZZZZZZ",
        "x-inngest-req-version": "2",
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    if sent[0]["status"] != case.status:
        raise RuntimeError(f"{case.name}: answered {sent[0]['status']}, not {case.status}: {sent[1:]}")
    return b"".join(message.get("body", b"") for message in sent[1:])


async def measure(calls: int, repeat: int) -> dict[str, dict[str, float]]:
    """Median CPU in µs a call, by case and contestant."""
    apps = contestants()
    taken: dict[str, dict[str, list[float]]] = {case.name: {name: [] for name in apps} for case in CASES}
    for round_ in range(repeat + 1):
        for case in CASES:
            body = body_of(case)
            for name, app in apps.items():
                count = calls if round_ else max(calls // 10, 1)
                gc.collect()
                before = time.process_time()
                for _ in range(count):
                    await call(app, case, body)
                spent = (time.process_time() - before) / count * 1e6
                if round_:  # the first round warms up
                    taken[case.name][name].append(spent)
    return {
        case: {name: statistics.median(values) for name, values in row.items()} for case, row in taken.items()
    }


def table(found: dict[str, dict[str, float]]) -> str:
    """Markdown: µs that each SDK adds to what a plain route takes, and their ratio."""
    lines = ["| call | own SDK µs | official SDK µs | ratio | plain route µs |", "|---|---|---|---|---|"]
    for case, row in found.items():
        plain = row["plain route"]
        own, official = row["own"] - plain, row["official"] - plain
        lines.append(f"| {case} | {own:.0f} | {official:.0f} | {own / official:.2f} | {plain:.0f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 1 if the own SDK takes more than half of the official one's."""
    parser = argparse.ArgumentParser(prog="python -m bench.sdk_cost", description=__doc__)
    parser.add_argument("--calls", type=int, default=2_000, help="calls of each app, case and round")
    parser.add_argument("--repeat", type=int, default=7, help="rounds; the medians are shown")
    options = parser.parse_args(argv)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found = runner.run(measure(options.calls, options.repeat))
    print(table(found))
    worst = max(
        (row["own"] - row["plain route"]) / (row["official"] - row["plain route"]) for row in found.values()
    )
    print(f"\nthe worst ratio is {worst:.2f} (goal: at most 0.5)")
    return 0 if worst <= 0.5 else 1


if __name__ == "__main__":
    sys.exit(main())
