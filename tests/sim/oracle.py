"""The oracle: what each run must look like after each batch, by a second and naive reading of the protocol.

It shares no code with the engine. For each run it keeps the finished steps and what is still to happen. A batch tells,
in the run's history, what was decided and in which order: a call was answered, a step was posted, something waited for
came about. The oracle looks up what the app (or the world) really answered, works out what follows, and compares the
result with the rows: status, output, steps, items with their attempts, groups and times.

Where the engine may decide one way or the other (was a discovery sent before or after another step finished within
the same batch?), both are accepted. What comes from outside the run is checked for a cause: an event that ended a wait
must have been received after it began, a cancelled run must have been cancelled by somebody.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from perdure.core.settings import Settings
from perdure.shard.changes import Changes
from perdure.shard.rows import HistoryRow, ItemRow, RunRow, WaitRow
from tests.sim.answers import Answer, read_answer
from tests.sim.memory_store import Tables
from tests.sim.model import Modelled, Pending, RunModel
from tests.sim.programs import SIGNALS, Program

if TYPE_CHECKING:
    from tests.sim.checks import Checks

SKIPPED = ("invoked function was skipped: ",)
NO_RUN = ("invoked function is rate limited", "invoked function was debounced", "is not served any more")
"""What a step is told that has invoked a function which does not run."""
UNKNOWN_FUNCTION = "could not find function with ID: "


class Oracle:
    """Follows all runs, batch by batch."""

    def __init__(self, checks: Checks, programs: dict[str, Program], settings: Settings) -> None:
        self._checks = checks
        self._programs = programs
        self._settings = settings
        self.runs: dict[str, RunModel] = {}
        self.executions: dict[tuple[str, str], list[object]] = {}
        self._tables = Tables()
        self._first_receipt = 0
        self._signals: dict[str, bool | None] = {}
        self._holders: dict[str, tuple[str, int]] = {}
        self.cancelled: set[str] = set()
        """Runs that somebody asked to cancel."""
        self.raising = False
        """Whether decisions may raise; runs then fail without a cause of their own."""

    def committed(self, tables: Tables, changes: Changes) -> None:
        """A batch has been written."""
        self._tables = tables
        self._first_receipt = min((event.receipt for event in changes.events), default=1 << 62)
        entries: dict[str, list[HistoryRow]] = {}
        for entry in changes.history:
            entries.setdefault(entry.run_id, []).append(entry)
        self._note_signals(tables, changes)
        items = (run_id for run_id, _ in changes.items if not run_id.startswith("~"))
        touched = dict.fromkeys([*changes.runs, *entries, *items])
        for run_id in touched:
            row = tables.runs[run_id]
            model = self.runs.get(run_id)
            if model is None:
                program = self._programs[row.function_id]
                model = self.runs[run_id] = RunModel(
                    run_id, program.attempts, self._settings, self._known_function, self._signal_held
                )
            if model.ended:
                continue
            model.ahead = self._checks.commits.ahead
            try:
                for entry in sorted(entries.get(run_id, []), key=lambda each: each.n):
                    self._enter(tables, model, entry)
                self._compare(tables, model, run_id)
            except Modelled as difference:
                self._checks.fail("oracle", str(difference), run_id)

    def _known_function(self, slug: str, run_id: str, step_id: str) -> bool:
        """Whether a function could be invoked. If that changes just now, the rows tell how it was decided."""
        known = self._checks.commits.callable_now(slug)
        if known is None:
            row = self._tables.steps.get(run_id, {}).get(step_id)
            return row is None or b"could not find function" not in row.memo
        return known

    def _signal_held(self, name: str) -> bool | None:
        return self._signals.get(name, False)

    def _note_signals(self, tables: Tables, changes: Changes) -> None:
        """Which signals somebody waits for; None where that changes within the batch."""
        before, self._holders = self._holders, {}
        for waits in tables.waits.values():
            for wait in waits.values():
                if wait.kind == "signal":
                    self._holders[wait.value] = (wait.run_id, wait.n)
        self._signals = {}
        fleeting = any(row is None and key not in before.values() for key, row in changes.waits.items())
        for name in {*before, *self._holders, *SIGNALS}:
            holder = before.get(name)
            if holder is not None and holder not in changes.waits:
                self._signals[name] = True
            elif fleeting or holder is not None or name in self._holders:
                self._signals[name] = None

    # What the history tells

    def _enter(self, tables: Tables, model: RunModel, entry: HistoryRow) -> None:
        note: dict[str, Any] = json.loads(entry.body)
        now = entry.at
        if model.ended and entry.kind != "ended":
            raise Modelled(f"{entry.kind} after the end")
        if entry.kind == "queued":
            row = tables.runs[model.id]
            event = tables.events[json.loads(row.receipts)[0]]
            ahead = (0, 0) if row.original_run_id is not None else model.ahead
            due = [now if row.batch_id else max(now, event.ts + each) for each in ahead]
            model.begin((due[0], due[1]))
        elif entry.kind == "copied":
            self._copied(tables, model, note)
        elif entry.kind == "call":
            item = model.find(note["item"], note.get("step", ""))
            if item.row is None or not item.row.in_flight or item.row.generation != note["generation"]:
                raise Modelled(f"an answer to generation {note['generation']} is taken for {item}")
            if item.attempt != note["attempt"]:
                raise Modelled(f"attempt {note['attempt']} of item {item}, it should be {item.attempt}")
            model.answer(item, self._answer(model.id, note["item"], note["generation"]), now)
        elif entry.kind == "checkpoint":
            self._posted(tables, model, note)
        elif entry.kind == "resumed":
            self._resumed(tables, model, note, now)
        elif entry.kind == "request":
            item = model.find(note["item"], note["step"])
            model.retry(item, item.attempt, now, None)
        elif entry.kind == "ended":
            self._ended(tables, model, note)

    def _copied(self, tables: Tables, model: RunModel, note: dict[str, Any]) -> None:
        """The run begins with the steps of another that were recorded before one, or with all."""
        recorded = sorted(tables.steps.get(note["run"], {}).values(), key=lambda step: step.position)
        ids, copied = [step.step_id for step in recorded], note.get("steps", [])
        if copied != ids[: len(copied)] or (note["from"] in ids and len(copied) > ids.index(note["from"])):
            raise Modelled(f"of {ids} it has copied {copied}, up to {note['from']}")
        row = tables.runs[model.id]
        if json.loads(row.from_step or b"{}").get("id") != note["from"]:
            raise Modelled(f"{note} is not what the row says: {row.from_step!r}")
        model.copy({step.step_id: json.loads(step.memo) for step in recorded[: len(copied)]})
        if note.get("edited"):
            model.begin_with(note["from"])

    def _answer(self, run_id: str, n: int, generation: int) -> Answer:
        result = self._checks.calls.delivered.get((run_id, n, generation))
        if result is None:
            raise Modelled(f"item {n} has an answer to generation {generation}, but nobody gave one")
        return read_answer(result)

    def _posted(self, tables: Tables, model: RunModel, note: dict[str, Any]) -> None:
        known, item = len(model.steps), model.find(note["item"], "")
        if item.row is None or not item.row.in_flight or item.row.generation != note["generation"]:
            raise Modelled(f"steps posted by generation {note['generation']} are taken for {item}")
        for op in note["ops"]:
            row = tables.steps.get(model.id, {}).get(op["id"])
            if row is None or op["id"] in model.steps:
                continue
            memo = json.loads(row.memo)
            if memo.get("data") not in self.executions.get((model.id, op["id"]), []):
                raise Modelled(f"{op['name']} was posted with a result that its code never gave: {memo}")
            model.save(op["id"], memo)
        if len(model.steps) > known:
            item.attempt = 0
        model.check_limit(known)

    def _resumed(self, tables: Tables, model: RunModel, note: dict[str, Any], now: int) -> None:
        item, how = model.find(note["item"], note["step"]), note["how"]
        if how in ("slept", "timeout"):
            if now < item.due[0]:
                raise Modelled(f"{item} is over at {now}, too early")
            memo: object = None
            if item.kind == "wait" and item.what == "invoke":
                text = "Timed out waiting for invoked function to complete"
                name = "InngestInvokeTimeoutError"
                memo = {"error": {"error": f"{name}: {text}", "message": text, "name": name}}
        elif how == "matched":
            memo = self._matched(tables, model, item, note["event"])
        elif how == "signal":
            sent = json.loads(tables.steps[model.id][item.step_id].memo)
            memo = sent
            if sent["data"]["signal"] != item.name:
                raise Modelled(f"{item} was ended by another signal: {sent}")
        elif item.kind == "request":
            memo = self._requested(model, item)
        else:
            memo = self._invoked(tables, model, item)
        model.resume(item, memo, now)

    def _matched(self, tables: Tables, model: RunModel, item: Pending, internal_id: str) -> object:
        from tests.sim.commits import meets, parsed

        wait = item.wait
        if wait is None:
            since = self._first_receipt - 1
            wait = WaitRow(model.id, 0, "event", item.name, "", "", item.condition or None, since)
        # A request that was sent again has left several events of one id, which may differ in their time.
        found = [
            parsed(event.body)
            for event in tables.events.values()
            if event.internal_id == internal_id
            and (event.receipt > wait.since or self._checks.commits.looking.allows(tables, wait, event))
            and meets(tables, wait, event)
        ]
        row = tables.steps.get(model.id, {}).get(item.step_id)
        if found:
            recorded = json.loads(row.memo) if row is not None else None
            return recorded if recorded in found else found[0]
        raise Modelled(f"{wait} was ended by event {internal_id}, which does not meet it or came before")

    def _requested(self, model: RunModel, item: Pending) -> object:
        generation = item.row.generation if item.row is not None else 0
        result = self._checks.calls.delivered.get((model.id, item.n or 0, generation))
        if result is None:
            raise Modelled(f"{item} has an answer, but nobody gave one")
        if getattr(result, "status", 0) == 200:
            headers = {"Content-Type": "text/plain"}
            return {
                "data": {
                    "body": "hello",
                    "headers": headers,
                    "status_code": 200,
                    "url": getattr(result, "url", ""),
                }
            }
        if item.attempt + 1 < model.attempts:
            raise Modelled(f"{item} failed and is not tried again")
        return {
            "error": {
                "message": "Error making gateway request: Unable to reach SDK URL",
                "name": "GatewayError",
            }
        }

    def _invoked(self, tables: Tables, model: RunModel, item: Pending) -> object:
        correlation = f"{model.id}.{item.step_id}"
        children = [row for row in tables.runs.values() if _answers(tables, row, correlation)]
        recorded = json.loads(tables.steps[model.id][item.step_id].memo)
        if not children or children[0].status == "SKIPPED":
            said = str(recorded.get("error", {}).get("message"))
            if not any(text in said for text in (SKIPPED if children else NO_RUN)):
                raise Modelled(f"{item} holds {recorded}, and has invoked {children}")
            return recorded
        if len(children) != 1:
            raise Modelled(f"{item} has invoked {len(children)} runs")
        child = children[0]
        if child.status == "COMPLETED":
            return {"data": json.loads(child.output or b"null")}
        if child.status == "CANCELLED":
            return {"error": {"message": "the invoked function was cancelled", "name": "Error"}}
        memo = json.loads(tables.steps[model.id][item.step_id].memo)
        if (
            child.status != "FAILED"
            or set(memo) != {"error"}
            or not {"name", "message"} <= set(memo["error"])
        ):
            raise Modelled(f"{item} holds {memo}, but the run that it invoked is {child.status}")
        return memo

    def _ended(self, tables: Tables, model: RunModel, note: dict[str, Any]) -> None:
        if model.ended:
            if note["status"] != model.outcome[0]:
                raise Modelled(f"the run ends as {note['status']}, not as {model.outcome[0]}")
            return
        if note["status"] == "CANCELLED":
            reason = note.get("reason", "")
            by_job = "bulk cancellation" in reason and self._checks.commits.again.cancels(
                tables.runs[model.id]
            )
            if (
                model.id not in self.cancelled
                and not by_job
                and not self._checks.commits.flow.cancels(tables, model.id, reason)
            ):
                raise Modelled(f"the run is cancelled, and nobody asked for it ({reason})")
        elif note["status"] == "SKIPPED":
            self._checks.commits.flow.skipped(tables, model.id, note)
        elif not self._excused(model, note.get("reason", "")):
            raise Modelled(f"the run ends as {note} for no reason")
        output = tables.runs[model.id].output
        model.end(note["status"], None if output is None else json.loads(output))

    def _excused(self, model: RunModel, reason: str) -> bool:
        if self.raising and "could not decide" in reason:
            return True
        if "Signal conflict" in reason:
            if model.conflict_possible:
                model.steps = model.before_conflict
            return model.conflict_possible
        if "times in the middle of this call" in reason:
            most = max((item.row.recoveries for item in model.pending if item.row is not None), default=0)
            return most + 1 >= self._settings.poison_recoveries
        return False

    # What the rows say

    def _compare(self, tables: Tables, model: RunModel, run_id: str) -> None:
        row = tables.runs[run_id]
        steps = {step_id: json.loads(step.memo) for step_id, step in tables.steps.get(run_id, {}).items()}
        if steps != model.steps:
            raise Modelled(f"recorded is {steps}, it should be {model.steps}")
        if model.ended:
            status, output = model.outcome
            if row.status != status:
                raise Modelled(f"the run is {row.status}, it should be {status}")
            if status == "COMPLETED" and json.loads(row.output or b"null") != output:
                raise Modelled(f"the output is {row.output!r}, it should be {output}")
            return
        if row.status in ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED"):
            raise Modelled(f"the run is {row.status}, but nothing ended it")
        items = tables.items.get(run_id, {})
        self._compare_items(tables, model, {n: row for n, row in items.items() if row.kind != "deadline"})

    def _compare_items(self, tables: Tables, model: RunModel, rows: dict[int, ItemRow]) -> None:
        waits = tables.waits.get(model.id, {})
        kept: list[Pending] = []
        for item in model.pending:
            row = rows.pop(item.n, None) if item.n is not None else _take(rows, item)
            if row is None:
                if item.optional:
                    continue
                raise Modelled(f"{item} is missing")
            self._compare_item(item, row)
            item.n, item.row, item.optional = row.n, row, False
            if item.wait is None:
                item.wait = waits.get(row.n)
            kept.append(item)
        if rows:
            raise Modelled(f"nothing calls for {list(rows.values())}")
        model.pending = kept

    def _compare_item(self, item: Pending, row: ItemRow) -> None:
        before = item.row
        if before is not None and before.in_flight and row.recoveries != before.recoveries:
            item.due = (row.due, row.due)
            if before.recoveries + 1 >= self._settings.poison_recoveries:
                item.attempt += 1
        if (row.kind, row.step_id, row.attempt, row.grp) != (
            item.kind,
            item.step_id,
            item.attempt,
            item.group,
        ):
            raise Modelled(f"{row} should be {item}")
        if not item.due[0] <= row.due <= item.due[1]:
            raise Modelled(f"{row} should be due within {item.due}")


def _answers(tables: Tables, row: RunRow, correlation: str) -> bool:
    """Whether a run is what a step has invoked: by its event, or by one of those of its batch."""
    from tests.sim.commits import correlation_of

    if row.original_run_id is not None:
        return False
    if row.batch_id is None:
        return row.correlation == correlation
    return any(correlation_of(tables.events[receipt]) == correlation for receipt in json.loads(row.receipts))


def _take(rows: dict[int, ItemRow], item: Pending) -> ItemRow | None:
    """The row of a new item: the first that fits, with its time if there is one."""
    fitting = [
        row
        for _, row in sorted(rows.items())
        if (row.kind, row.step_id, row.attempt) == (item.kind, item.step_id, item.attempt)
    ]
    timely = [row for row in fitting if item.due[0] <= row.due <= item.due[1]]
    for row in timely or ([] if item.optional else fitting):
        return rows.pop(row.n)
    return None
