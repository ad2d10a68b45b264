"""Runs, answers and plans in few words, for the tables of the planning tests.

Ops are written as JSON would bring them; steps are named by letters, which stand for their hashes too.
"""

from __future__ import annotations

import json
from typing import Any

from perdure.core.model import Group, Item, ItemKind, Run, RunStatus, Step, Wait, WaitKind
from perdure.core.plan import Context, Plan
from perdure.core.settings import Settings
from perdure.protocol.ops import read_ops
from perdure.protocol.replies import OpsReply

NOW = 1_700_000_000_000
GROUPS = {"wait": Group.WAIT, "race": Group.RACE, "": Group.NONE}
_GROUP_NAMES = {number: name for name, number in GROUPS.items()}


def context(
    attempts: int = 4,
    signals: dict[str, tuple[str, int] | None] | None = None,
    functions: tuple[str, ...] = ("app-known",),
    settings: Settings | None = None,
) -> Context:
    """Rules of a function with so many attempts; retries come after 1 s, without jitter."""
    rules = settings or Settings(retry_interval_ms=1_000)
    return Context(
        NOW, 10, attempts, rules, lambda name: name if name in functions else None, lambda: 0.0, signals or {}
    )


def a_run(
    steps: str = "",
    items: list[Item] | None = None,
    waits: list[Wait] | None = None,
    version: int = 2,
    idle: int = 0,
) -> Run:
    """A running run that has finished the steps named by letters."""
    event = b'{"data":{"user":"u1"},"id":"e1","name":"test/start","ts":1,"user":{}}'
    run = Run("RUN", "fn", RunStatus.RUNNING, [1], ["e1"], [event], "test/start", NOW, NOW, version=version)
    for position, name in enumerate(steps):
        run.steps[name] = Step(name, position, name, "StepRun", b"null", 4, NOW)
        run.state_bytes += 4
    run.items = {item.n: item for item in items or [discovery()]}
    run.waits = {wait.n: wait for wait in waits or []}
    run.seq = max(run.items, default=0) + 1
    run.idle_replies = idle
    return run


def discovery(n: int = 1, attempt: int = 0, stack: int = 0, in_flight: bool = True) -> Item:
    """A call that asks what is next."""
    return Item(n, ItemKind.DISCOVERY, "", "", NOW, NOW, attempt, 1, in_flight=in_flight, data=b"%d" % stack)


def called(n: int, step: str, group: str = "", attempt: int = 0) -> Item:
    """A call under way for one planned step."""
    return Item(
        n, ItemKind.STEP, step, step, NOW, NOW, attempt, 1, in_flight=True, group=GROUPS[group], data=b"0"
    )


def sleeping(n: int, step: str, group: str = "") -> Item:
    """A sleep that is due."""
    return Item(n, ItemKind.SLEEP, step, step, NOW, NOW, group=GROUPS[group])


def waiting(n: int, step: str, group: str = "") -> Item:
    """The item beside a wait."""
    return Item(n, ItemKind.WAIT, step, step, NOW, NOW, group=GROUPS[group])


def requesting(n: int, step: str, group: str = "", attempt: int = 0) -> Item:
    """A request under way."""
    data = b'{"op":"Gateway","opts":{"url":"http://example.test/"}}'
    return Item(
        n, ItemKind.REQUEST, step, step, NOW, NOW, attempt, 1, in_flight=True, group=GROUPS[group], data=data
    )


def a_wait(n: int, kind: WaitKind = WaitKind.EVENT) -> Wait:
    """The wait of an item."""
    return Wait(n, kind, "test/go", "", "", None, 5)


def op(kind: str, step: str = "", **fields: Any) -> dict[str, Any]:
    """One op as an SDK sends it: a user's step has a display name."""
    named = {"displayName": step} if step else {}
    return {"op": kind, "id": step, **named, **fields}


def reply(
    *ops: dict[str, Any], version: int | None = 2, no_retry: bool | None = None, retry_at: int | None = None
) -> OpsReply:
    """An answer with status 206."""
    return OpsReply(read_ops(json.dumps(ops).encode()), version, no_retry, retry_at)


def told(plan: Plan) -> dict[str, Any]:
    """What a plan would change, without what it leaves alone.

    Items read `kind step group +delay`, discoveries `discovery@stack`; `fails` is the name of the error.
    """
    found: dict[str, Any] = {}
    if plan.saved:
        found["saved"] = {step.id: json.loads(step.memo) for step in plan.saved}
    if plan.ended:
        found["ended"] = plan.ended
    if plan.retried:
        found["retried"] = [(retry.n, retry.due - NOW, retry.attempt) for retry in plan.retried]
    if plan.added:
        found["added"] = [_item(item) for item in plan.added]
    if plan.freed_signals:
        found["freed"] = plan.freed_signals
    if plan.version is not None:
        found["version"] = plan.version
    if plan.outcome is not None:
        error = plan.outcome.error
        found["outcome"] = plan.outcome.status.value if error is None else f"FAILED {error.name}"
    return found


def _item(item: Any) -> str:
    if item.kind is ItemKind.DISCOVERY:
        return f"discovery@{item.data.decode()}"
    words = [item.kind.value, item.step_id, _GROUP_NAMES[item.group]]
    if item.due != NOW:
        words.append(f"+{item.due - NOW}")
    if item.attempt:
        words.append(f"try {item.attempt}")
    return " ".join(word for word in words if word)
