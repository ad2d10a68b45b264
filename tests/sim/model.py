"""One run as the oracle sees it: dictionaries and lists, and the rules of the protocol in their plainest form."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.core.settings import Settings
from perdure.shard.rows import ItemRow, WaitRow
from tests.sim.answers import Answer

BACKOFF_S = (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)
TO_COME = ("StepPlanned", "Sleep", "WaitForEvent", "WaitForSignal", "InvokeFunction", "Gateway")
UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000}
NO_GROUP, WAIT_FOR_ALL, RACE = 0, 1, 2


class Modelled(Exception):
    """The engine and the oracle differ."""


@dataclass
class Pending:
    """Something that is still to happen. `due` is the earliest and the latest time for it."""

    kind: str
    step_id: str
    group: int
    due: tuple[int, int]
    attempt: int = 0
    what: str = ""
    name: str = ""
    condition: str = ""
    stack: int = -1
    n: int | None = None
    row: ItemRow | None = None
    wait: WaitRow | None = None
    optional: bool = False


class RunModel:
    """`steps` are memos by hash, in order; `outcome` is the status and the output once it has ended."""

    def __init__(
        self,
        run_id: str,
        attempts: int,
        settings: Settings,
        known_function: Callable[[str, str, str], bool],
        signal_held: Callable[[str], bool | None],
    ) -> None:
        self.id = run_id
        self.attempts = attempts
        self.steps: dict[str, object] = {}
        self.pending: list[Pending] = []
        self.outcome: tuple[str, object] = ("", None)
        self.ahead = (0, 0)
        """How far (ms) the clock is ahead of that of apps: before and after this batch."""
        self._settings = settings
        self._known_function = known_function
        self._version: int | None = None
        self._idle = 0
        self._signal_held = signal_held
        self._signals: set[str] = set()
        self.conflict_possible = False
        """Whether a signal that it asked for may have been held by somebody just then."""
        self.before_conflict: dict[str, object] = {}
        """The steps recorded before that signal was asked for: with a conflict, nothing after it counts."""

    @property
    def ended(self) -> bool:
        return bool(self.outcome[0])

    def begin(self, due: tuple[int, int]) -> None:
        """The run was created, and starts at `due`."""
        self.pending.append(Pending("discovery", "", NO_GROUP, due, stack=0))

    def copy(self, steps: dict[str, object]) -> None:
        """It begins with these steps of another run."""
        self.steps = dict(steps)
        for item in self.pending:
            item.stack = len(steps)

    def begin_with(self, step_id: str) -> None:
        """Its first call is for a step, as that has other input."""
        (first,) = self.pending
        self.pending = [Pending("step", step_id, NO_GROUP, first.due)]

    def check_limit(self, known: int) -> None:
        """Fail the run if steps were recorded beyond its limit."""
        limit = self._settings.steps_per_run
        if not self.ended and limit < len(self.steps) > known:
            self.end("FAILED", f"The function run exceeded the step limit of {limit} steps.")

    def find(self, n: int, step_id: str) -> Pending:
        """An item by its number, or a new one by its step."""
        for item in self.pending:
            if item.n == n:
                return item
        for item in self.pending:
            if item.n is None and item.step_id == step_id:
                item.n = n
                return item
        raise Modelled(f"item {n} of step {step_id!r} is not known: {self.pending}")

    def save(self, step_id: str, memo: object) -> bool:
        """Record a step; the first result stands."""
        if step_id in self.steps:
            return False
        self.steps[step_id] = memo
        self._idle = 0
        return True

    def end(self, status: str, output: object) -> None:
        """The run is over."""
        self.outcome = (status, output)
        self.pending = []

    def resume(self, item: Pending, memo: object, now: int) -> None:
        """Something waited for has come."""
        known = len(self.steps)
        self.save(item.step_id, memo)
        self.pending.remove(item)
        self.check_limit(known)
        if self.ended:
            return
        if not (item.group == WAIT_FOR_ALL and self._set_left()):
            self._discover(now)

    def retry(self, item: Pending, attempt: int, now: int, after: int | None) -> None:
        """Try an item again, after `attempt` has failed."""
        item.due, item.attempt = self._again_at(attempt, now, after), attempt + 1

    def _again_at(self, attempt: int, now: int, after: int | None) -> tuple[int, int]:
        if after is not None:
            due = [
                max((now - ahead + after * 1000) // 1000 * 1000 + ahead, now + 1000) for ahead in self.ahead
            ]
            return min(due), max(due)
        if self._settings.retry_interval_ms is not None:
            return now + self._settings.retry_interval_ms, now + self._settings.retry_interval_ms
        base = now + BACKOFF_S[min(attempt, 9)] * 1000
        return base, base + 30_000

    def _set_left(self) -> bool:
        return any(item.group for item in self.pending)

    def _discover(self, now: int) -> None:
        size = len(self.steps)
        same = [p for p in self.pending if p.kind == "discovery" and p.stack == size and p.attempt == 0]
        # One that waits already is enough; but it may have left within this batch, before.
        waits = any(p.row is None or not p.row.in_flight for p in same)
        self.pending.append(Pending("discovery", "", NO_GROUP, (now, now), stack=size, optional=waits))

    # Answers

    def answer(self, item: Pending, answer: Answer, now: int) -> None:
        """The call for an item was answered."""
        if answer.kind == "finished":
            self.end("COMPLETED", answer.output)
        elif answer.kind == "error":
            if answer.final or item.attempt + 1 >= self.attempts:
                self.end("FAILED", answer.output)
            else:
                self.retry(item, item.attempt, now, answer.retry_after)
        else:
            self._answer_ops(item, answer, now)

    def _answer_ops(self, item: Pending, answer: Answer, now: int) -> None:
        if self._version is None and answer.ops:
            self._version = answer.version
        counted = [op for op in answer.ops if op["op"] not in ("None", "DiscoveryRequest", "RunComplete")]
        parallel = len(counted) > 1 and any(op["op"] in TO_COME for op in counted)
        known, waiting = len(self.steps), len(self.pending)
        finished = raced = retried = False
        self._signals = set()
        order = {"WaitForEvent": 0, "WaitForSignal": 0, "InvokeFunction": 0, "RunComplete": 2}
        for op in sorted(answer.ops, key=lambda each: order.get(each["op"], 1)):
            group = self._group(op) if parallel else item.group
            if op["op"] == "RunComplete":
                self.end("COMPLETED", op["data"])
                return
            if op["op"] == "StepError" and not self._exhausted(item, answer, known):
                attempt = 0 if len(self.steps) > known else item.attempt
                if parallel and item.step_id != op["id"]:
                    due = self._again_at(attempt, now, answer.retry_after)
                    self._add(op, Pending("step", op["id"], group, due, attempt + 1))
                else:
                    self.retry(item, attempt, now, answer.retry_after)
                    retried = True
            elif op["op"] in TO_COME:
                if self._plan(op, group, now):
                    finished, raced = True, raced or group == RACE
            else:
                memo = {"data": op["data"]} if op["op"] == "StepRun" else {"error": op["error"]}
                self.save(op["id"], memo)
                finished, raced = True, raced or (parallel and group == RACE)
            if self.ended:
                return
        self.check_limit(known)
        if retried or self.ended:
            return
        self.pending.remove(item)
        in_set = parallel or item.group == WAIT_FOR_ALL
        if raced or (finished and not (in_set and self._set_left())) or not self.pending:
            self._discover(now)
        if len(self.steps) == known and len(self.pending) < waiting:
            self._idle += 1

    def _exhausted(self, item: Pending, answer: Answer, known: int) -> bool:
        attempt = 0 if len(self.steps) > known else item.attempt
        return answer.final or attempt + 1 >= self.attempts

    def _group(self, op: dict[str, Any]) -> int:
        race = op.get("opts", {}).get("parallelMode") == "race" or self._version in (0, 1)
        return RACE if race else WAIT_FOR_ALL

    def _add(self, op: dict[str, Any], item: Pending) -> None:
        if op["id"] not in self.steps and not any(p.step_id == op["id"] for p in self.pending):
            self.pending.append(item)

    def _plan(self, op: dict[str, Any], group: int, now: int) -> bool:
        """Add what an operation leaves to happen. Says whether its step is over at once instead."""
        if op["id"] in self.steps or any(p.step_id == op["id"] for p in self.pending):
            return False
        opts, kind = op.get("opts", {}), op["op"]
        if kind == "StepPlanned":
            self._add(op, Pending("step", op["id"], group, (now, now)))
        elif kind == "Sleep":
            self._add(op, Pending("sleep", op["id"], group, self._moment(op["name"], now)))
        elif kind == "Gateway":
            self._add(op, Pending("request", op["id"], group, (now, now)))
        elif kind == "WaitForEvent":
            due = self._moment(opts["timeout"], now)
            condition = opts.get("if") or ""
            item = Pending("wait", op["id"], group, due, what="event", name=op["name"], condition=condition)
            self._add(op, item)
        elif kind == "WaitForSignal":
            self._wait_for_signal(op, group, now)
        else:
            return self._invoke(op, group, now)
        return False

    def _wait_for_signal(self, op: dict[str, Any], group: int, now: int) -> None:
        opts = op["opts"]
        name, replaces = opts["signal"], opts["conflict"] == "replace"
        held = self._signal_held(name)
        if name in self._signals or (held and not replaces):
            text = "Signal conflict; signal wait already exists for another run"
            self.end("FAILED", {"error": {"error": f"Error: {text}", "message": text, "name": "Error"}})
            return
        self._signals.add(name)
        self.conflict_possible = held is None and not replaces
        if self.conflict_possible:
            self.before_conflict = dict(self.steps)
        due = self._moment(opts["timeout"], now)
        self._add(op, Pending("wait", op["id"], group, due, what="signal", name=name))

    def _invoke(self, op: dict[str, Any], group: int, now: int) -> bool:
        function, timeout = op["opts"]["function_id"], op["opts"].get("timeout")
        due = self._moment(timeout, now) if timeout else (now + 365 * UNITS["d"], now + 365 * UNITS["d"])
        if self._known_function(function, self.id, op["id"]):
            self._add(op, Pending("wait", op["id"], group, due, what="invoke", name=function))
            return False
        text = f"could not find function with ID: {function}"
        return self.save(op["id"], {"error": {"message": text, "name": "Error"}})

    def _moment(self, text: str, now: int) -> tuple[int, int]:
        """When a duration from now is over, or a time is reached, which is said by the app's clock."""
        if text[:4].isdigit() and text[4:5] == "-":
            moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
            before, after = (round(moment.timestamp() * 1000) + ahead for ahead in self.ahead)
            return max(now, before), max(now, after)
        until, number = now, ""
        for letter in text:
            if letter.isdigit():
                number += letter
            else:
                until += int(number) * UNITS[letter]
                number = ""
        return until, until
