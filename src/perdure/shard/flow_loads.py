"""Reading for the rules of functions: what they hold back, what reruns meet, the recent past, and names of lines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.core.flow.admission import Keys, Origin
from perdure.core.flow.admission import ask as ask_rules
from perdure.shard.admitting import correlation_of, holders, invoker_of, key_refs, origin_of, receipts_of
from perdure.shard.commands import (
    CatchUp,
    Command,
    FireRule,
    LookBack,
    MoveClock,
    ParsedEvent,
    Rerun,
    StepJob,
)
from perdure.shard.directory import PAGE
from perdure.shard.lines import PREFIX
from perdure.shard.ports import Store
from perdure.shard.reads import Reads
from perdure.shard.rows import EventRow, KeyRef
from perdure.shard.state import State
from perdure.shard.travelling import read_timers

RECENT_EVENTS = 1_000
"""Most events that a wait which looks back is shown, the newest."""


class FlowLoads(Reads):
    """The reads of rules, reruns, waits that look back, and lines."""

    def __init__(
        self,
        shard: int,
        store: Store,
        state: State,
        give_back: Callable[[list[Command]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(shard, store, state, give_back, failed)
        self._rules: list[FireRule] = []
        self._lookbacks: list[tuple[LookBack, str, int]] = []
        self._reruns: list[tuple[Rerun | StepJob, list[str]]] = []
        self._last_events: asyncio.Task[None] | None = None
        """The newest read for received events."""

    def _flush_flow(self) -> None:
        """Start the reads of this round."""
        if self._rules:
            self._flush_rules()
        if self._lookbacks:
            self._flush_lookbacks()
        if self._reruns:
            reruns, self._reruns = self._reruns, []
            self._start(self._load_reruns(reruns), [command for command, _ in reruns])

    def _flow_waiting(self) -> list[Command]:
        """The commands that wait for a read that has not begun."""
        found: list[Command] = [*self._rules]
        found += [command for command, _, _ in self._lookbacks]
        found += [command for command, _ in self._reruns]
        return found

    def prepare_rule(self, command: FireRule) -> None:
        """Read what a rule has held back; the command comes back by itself."""
        self._rules.append(command)

    def prepare_lookback(self, command: LookBack) -> bool:
        """Read the recent events for a wait. False: the command comes back by itself.

        The run's results must be in memory when it is decided, since they tell which events it has had; they may have
        left while the events were read.
        """
        run = self._state.memory.runs.get(command.run)
        wait = None if run is None else run.waits.get(command.n)
        if run is None or wait is None:
            return True
        if not run.memos_resident:
            self.want_run(command.run, command)
        elif command.ready:
            return True
        elif not command.behind:
            self._start(self._fall_behind(command), [command])
        else:
            batch = self._state.batch
            self._lookbacks.append((command, wait.event, batch.number - batch.empty()))
        return False

    def prepare_move(self, command: MoveClock) -> bool:
        """Read what is due next. False: the command comes back by itself."""
        if not command.ready:
            self._start(self._load_timers(command), [command])
        return command.ready

    def prepare_reruns(self, command: Rerun | StepJob, run_ids: list[str]) -> bool:
        """Read runs, and what the rules of their functions remember, for what may run them again.

        False: the command comes back by itself.
        """
        self._reruns.append((command, run_ids))
        return False

    def parts(self, function_id: str) -> None:
        """Read on in the names of a function's lines."""
        # At once, and not when the task begins: a second read of the same page would find the first gone.
        self._state.lines.directory.reading = True
        self._start(self._load_parts(function_id))

    def _flush_rules(self) -> None:
        """Read for rules. Events that are held back must be on disk: until then their rule waits."""
        memory = self._state.memory
        rules = [command for command in self._rules if memory.keys.batch_of(command.ref) <= memory.committed]
        if rules:
            self._rules = [command for command in self._rules if command not in rules]
            self._start(self._load_rules(rules), rules)

    async def _load_rules(self, commands: list[FireRule]) -> None:
        """Read what rules have held back: the state, its events, and what stands under their keys."""
        state, memory, shard = self._state, self._state.memory, self._shard
        read = memory.begin_read()
        found = await self._store.find_keys(shard, [command.ref for command in commands], state.now)
        receipts: dict[int, None] = {}
        for command in commands:
            command.state = state.key(command.ref, found)
            if command.state is not None:
                receipts.update(dict.fromkeys(receipts_of(command.ref, command.state)))
        rows = await self._store.load_events(shard, list(receipts)) if receipts else {}
        asked: list[KeyRef] = []
        for command in commands:
            asked += self._ask_rule(command, rows)
        found = await self._store.find_keys(shard, asked, state.now) if asked else {}
        for command in commands:
            refs = key_refs(command.function_id, command.keys)
            command.found = {ref: found[ref] for ref in refs if ref in found}
            for run_id in (*holders(self._newest(command.found, refs)), *_invokers(command)):
                self._pin(command, run_id)
            # What was added meanwhile may have come too late for the read: then it is read again.
            command.ready = memory.keys.batch_of(command.ref) <= memory.snapshot(read)
        await self._load_missing([run_id for c in commands for run_id in self._pins.get(id(c), ())])
        self._hold(read, commands)
        self._give_back(list(commands))

    async def _fall_behind(self, command: LookBack | CatchUp) -> None:
        """Let the events that were received before the command be decided first."""
        if self._last_events is not None and not self._last_events.done():
            await asyncio.wait((self._last_events,))
        if isinstance(command, LookBack):
            command.behind = True
        self._state.follow_ups.append(command)
        self._give_back([])

    def _flush_lookbacks(self) -> None:
        """Read for the waits whose earlier events are on disk by now."""
        waiting, self._lookbacks = self._lookbacks, []
        for command, name, batch in waiting:
            if batch <= self._state.memory.committed:
                self._start(self._load_recent(command, name), [command])
            else:
                self._lookbacks.append((command, name, batch))

    async def _load_recent(self, command: LookBack, name: str) -> None:
        read = self._state.memory.begin_read()
        self._pin(command, command.run)
        command.events = await self._store.recent_events(self._shard, name, command.since, RECENT_EVENTS)
        command.ready = True
        self._hold(read, [command])
        self._give_back([command])

    async def _load_timers(self, command: MoveClock) -> None:
        command.timers = await read_timers(self._state, self._store, self._shard)
        command.ready = True
        self._give_back([command])

    async def _load_reruns(self, asking: list[tuple[Rerun | StepJob, list[str]]]) -> None:
        state, memory = self._state, self._state.memory
        read = memory.begin_read()
        for command, run_ids in asking:
            for run_id in run_ids:
                self._pin(command, run_id)
        await self._load_missing([run_id for _, run_ids in asking for run_id in run_ids])
        await self._load_memos([c for c, _ in asking if isinstance(c, Rerun) and c.from_step is not None])
        wanted: list[KeyRef] = []
        for command, run_ids in asking:
            command.flow_keys = self._ask_reruns(run_ids)
            for run_id, keys in command.flow_keys.items():
                wanted += key_refs(memory.runs[run_id].function_id, keys)
        found = await self._store.find_keys(self._shard, wanted, state.now) if wanted else {}
        held = holders(self._newest(found, wanted))
        for command, _ in asking:
            command.found, command.asked = found, True
            for run_id in held:
                self._pin(command, run_id)
        await self._load_missing(held)
        commands = [command for command, _ in asking]
        self._hold(read, commands)
        self._give_back(list(commands))

    async def _load_memos(self, commands: list[Rerun]) -> None:
        """Read results to copy: memory may drop those that it has before the commands are decided."""
        if commands:
            stored = await self._store.load_runs(self._shard, [command.run for command in commands])
            for command in commands:
                steps = stored[command.run].steps if command.run in stored else ()
                command.memos = {step.step_id: step.memo for step in steps}

    def _ask_reruns(self, run_ids: list[str]) -> dict[str, Keys]:
        asked: dict[str, Keys] = {}
        for run_id in run_ids:
            run = self._state.memory.runs.get(run_id)
            function = None if run is None else self._state.functions.by_id.get(run.function_id)
            if (
                run is not None
                and function is not None
                and function.rules.singleton is not None
                and run.events
            ):
                body = ParsedEvent(run.events[0]).value()
                asked[run_id] = ask_rules(function.rules, body, Origin.RERUN, self._state.now)
        return asked

    def _ask_rule(self, command: FireRule, rows: dict[int, EventRow]) -> list[KeyRef]:
        function = self._state.functions.by_id.get(command.function_id)
        receipts = () if command.state is None else receipts_of(command.ref, command.state)
        command.events = [rows[receipt] for receipt in receipts if receipt in rows]
        command.origin = origin_of(command.ref)
        if function is None or not command.events:
            return []
        body = ParsedEvent(command.events[0].body).value()
        command.keys = ask_rules(function.rules, body, command.origin, self._state.now)
        return key_refs(function.id, command.keys)

    async def _load_parts(self, function_id: str) -> None:
        state, memory = self._state, self._state.memory
        read = memory.begin_read()
        try:
            after = state.lines.directory.begin(function_id, memory.snapshot(read), state.now)
            parts = await self._store.load_parts(self._shard, function_id, max(after, PREFIX), PAGE)
            state.lines.list_parts(function_id, parts, state.batch.number)
        finally:
            memory.end_read(read)
        self._give_back([])


def _invokers(command: FireRule) -> list[str]:
    """The runs whose steps have invoked the function by events that a rule held back: they may have to be told."""
    steps = [correlation_of(row) for row in command.events]
    return [invoker_of(step) for step in steps if step is not None]
