"""Calls an app as a server would, without a server and without a socket: bodies in, answers out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import perdure
from perdure.protocol.ids import hash_step_id
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request, Response

h = hash_step_id


def make_app(**options: Any) -> perdure.App:
    """An app in development that never posts a checkpoint, unless it is told to."""
    options.setdefault("checkpoint", None)
    return perdure.App("unit", url="http://server.invalid", **options)


def body_of(
    event: dict[str, Any] | None = None,
    steps: dict[str, Any] | None = None,
    *,
    attempt: int = 0,
    max_attempts: int = 4,
    plan_only: bool = False,
    events: list[dict[str, Any]] | None = None,
    **ctx: Any,
) -> bytes:
    """The body of a call; `steps` by hash."""
    told = {"name": "unit/go", "data": {}, "id": "01EVENT", "ts": 1, "user": {}, **(event or {})}
    return json.dumps(
        {
            "ctx": {
                "run_id": "01RUN",
                "attempt": attempt,
                "max_attempts": max_attempts,
                "disable_immediate_execution": plan_only,
                "stack": {"stack": list(steps or {}), "current": 0},
                "use_api": False,
                **ctx,
            },
            "event": told,
            "events": events or [told],
            "steps": steps or {},
            "version": -1,
            "use_api": False,
        }
    ).encode()


@dataclass
class Told:
    """An answer, read."""

    status: int
    headers: dict[str, str]
    body: Any
    raw: Response = field(repr=False)

    @property
    def ops(self) -> list[tuple[str, str]]:
        """Op and display name of each."""
        assert self.status == 206, (self.status, self.body)
        return [(op["op"], op.get("displayName", "")) for op in self.body]


async def call(app: perdure.App, fn: str, *args: Any, target: str = "step", **options: Any) -> Told:
    """Call function `fn`; see `body_of`."""
    url = f"http://app.test/api/inngest?fnId={app.name}-{fn}&stepId={target}"
    response = await Endpoint(app, "test").handle(Request("POST", url, {}, body_of(*args, **options)))
    return Told(response.status, dict(response.headers), json.loads(response.body), response)


Answer = Callable[[dict[str, Any]], Any]


async def finish(
    app: perdure.App, fn: str, event: dict[str, Any] | None = None, **given: Any
) -> tuple[Any, int]:
    """Play the server to a run's end: its output, and the number of calls. `given` are memos by step name.

    Planned steps are called for one after the other, each with what was saved when it was planned, as a server
    with one place would.
    """
    steps: dict[str, Any] = {}
    calls = 0
    targets: list[tuple[str, dict[str, Any]]] = []
    while calls < 50:
        target, known = targets.pop(0) if targets else ("step", dict(steps))
        told = await call(app, fn, event, known, target=target, plan_only=bool(targets))
        calls += 1
        if told.status == 200:
            return told.body, calls
        assert told.status == 206, told.body
        for op in told.body:
            if op["op"] == "StepRun":
                steps[op["id"]] = {"data": op["data"]}
            elif op["op"] in {"StepFailed", "StepError"}:
                steps[op["id"]] = {"error": op["error"]}
            elif op["op"] == "StepPlanned":
                if op["id"] not in steps and op["id"] not in [one for one, _ in targets]:
                    targets.append((op["id"], dict(steps)))
            elif op["op"] != "DiscoveryRequest":
                steps[op["id"]] = given[op["displayName"]]
    raise AssertionError(f"{fn} does not end")
