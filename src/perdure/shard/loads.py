"""Reading what commands need and memory does not hold.

A command whose state is in memory is decided at once. Another steps aside while the store is read, and
comes back when the read is done; what other commands ask for in the same round shares the read. For one
run, order is kept: while its read is under way, later commands about it line up behind the first.

See `shard.memory` for why a read can be trusted although batches are decided and committed while it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from perdure.core.flow.admission import Keys, Origin
from perdure.core.flow.admission import ask as ask_rules
from perdure.core.model import Run
from perdure.core.operations import SIGNAL_EVENT, SIGNAL_PATH
from perdure.shard.admitting import correlation_of, holders, key_refs, origin_of, receipts_of
from perdure.shard.commands import (
    CallEnded,
    Command,
    ContinueEvent,
    EventMatch,
    FireRule,
    LookBack,
    MoveClock,
    ParsedEvent,
    ReceiveEvents,
    Rerun,
    SendSignal,
    StepJob,
)
from perdure.shard.directory import PAGE
from perdure.shard.lines import PREFIX, Line
from perdure.shard.matching import WAITS_AT_ONCE, Question, ask, ask_target
from perdure.shard.memory import run_from_rows
from perdure.shard.ports import Store
from perdure.shard.queues import WINDOW, Queue
from perdure.shard.rows import EventRow, ItemRef, KeyRef, WaitLookup, WaitRef
from perdure.shard.state import State
from perdure.shard.travelling import read_timers

RECENT_EVENTS = 1_000
"""Most events that a wait which looks back is shown, the newest."""


class Loads:
    """The reads of one epoch. `give_back` puts commands that are ready at the head of the line."""

    def __init__(
        self,
        shard: int,
        store: Store,
        state: State,
        give_back: Callable[[list[Command]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._shard = shard
        self._store = store
        self._state = state
        self._give_back = give_back
        self._failed = failed
        self._tasks: dict[asyncio.Task[None], Sequence[Command]] = {}
        self._asking: list[tuple[Command, list[Question]]] = []
        self._signals: list[tuple[Command, list[str]]] = []
        self._rules: list[FireRule] = []
        self._lookbacks: list[tuple[LookBack, str, int]] = []
        self._reruns: list[tuple[Rerun | StepJob, list[str]]] = []
        self._last_events: asyncio.Task[None] | None = None
        self._wanted: dict[str, list[Command]] = {}
        self._refs: dict[str, list[tuple[Queue, ItemRef]]] = {}
        self._under_way: set[str] = set()
        self._pins: dict[int, list[str]] = {}
        self._redone: list[ReceiveEvents] = []
        self._stranded: list[Command] = []
        """Commands whose reads have failed."""
        self._reads_of: dict[int, list[int]] = {}
        self._users: dict[int, int] = {}

    # Asking

    def prepare_event(self, command: ReceiveEvents | ContinueEvent) -> bool:
        """Find out what an event meets.

        False if the store must be read first; the command then comes back by itself.
        """
        if isinstance(command, ReceiveEvents):
            if command.redo:
                command.redo = False
                self._redone.append(command)
                return False
            questions = [
                ask(self._state, event.name, event.id, ParsedEvent(event.body), command.target)
                for event in command.events
            ]
            command.matches = [question.match for question in questions]
        else:
            if command.event is None:
                self._asking.append((command, []))
                return False
            questions = [self._ask(command, command.event)]
        if self._turn_comes(command) and not any(q.keys or q.lookups for q in questions):
            return True
        self._asking.append((command, questions))
        return False

    def _turn_comes(self, command: ReceiveEvents | ContinueEvent) -> bool:
        """Whether no event received earlier still waits for the store: events are decided in their order."""
        if not isinstance(command, ReceiveEvents):
            return True
        return not self._asking and (self._last_events is None or self._last_events.done())

    def _ask(self, command: ContinueEvent, row: EventRow) -> Question:
        state, parsed = self._state, ParsedEvent(row.body)
        if command.target is not None:
            question = ask_target(state, parsed, command.target)
        else:
            question = ask(state, row.name, row.id, parsed, None, command.after, command.stage == 0)
        command.match = question.match
        return question

    def prepare_signals(self, command: CallEnded | SendSignal, names: list[str]) -> bool:
        """Find out who waits for these signals. False if the store must be read first."""
        if not self._state.memory.wait_counts.get(SIGNAL_EVENT):
            if isinstance(command, CallEnded):
                command.signals = {}
            else:
                command.looked = True
            return True
        self._signals.append((command, names))
        return False

    def prepare_rule(self, command: FireRule) -> None:
        """Read what a rule has held back; the command comes back by itself."""
        self._rules.append(command)

    def prepare_lookback(self, command: LookBack) -> bool:
        """Read the recent events for a wait. False: the command comes back by itself."""
        run = self._state.memory.runs.get(command.run)
        wait = None if run is None else run.waits.get(command.n)
        if run is None or wait is None:
            command.ready = True
            return True
        if not run.memos_resident:
            self.want_run(command.run, command)
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

    def want_run(self, run_id: str, command: Command) -> None:
        """Read a run for a command, which comes back when it is there (or known not to exist)."""
        self._wanted.setdefault(run_id, []).append(command)

    def lined_up(self, run_id: str) -> bool:
        """Whether commands about this run wait for a read."""
        return run_id in self._wanted

    def want_run_for(self, queue: Queue, ref: ItemRef) -> None:
        """Read a run for an item that is due; the reference goes back into its queue then."""
        queue.loading += 1
        self._refs.setdefault(ref.run_id, []).append((queue, ref))

    def window(self, queue: Queue) -> None:
        """Read on in a queue."""
        queue.reading = True
        self._start(self._load_window(queue))

    def parts(self, function_id: str) -> None:
        """Read on in the names of a function's lines."""
        self._start(self._load_parts(function_id))

    def flush(self) -> None:
        """Start the reads of this round."""
        if self._redone:
            redone, self._redone = self._redone, []
            self._start(self._check_landed(redone), redone)
        if self._asking:
            asking, self._asking = self._asking, []
            commands = [command for command, _ in asking]
            self._last_events = self._start(self._load_matches(asking, self._last_events), commands)
        if self._signals:
            signals, self._signals = self._signals, []
            self._start(self._load_signals(signals), [command for command, _ in signals])
        if self._rules:
            self._flush_rules()
        if self._lookbacks:
            self._flush_lookbacks()
        if self._reruns:
            reruns, self._reruns = self._reruns, []
            self._start(self._load_reruns(reruns), [command for command, _ in reruns])
        wanted = [run_id for run_id in (*self._wanted, *self._refs) if run_id not in self._under_way]
        if wanted:
            self._under_way.update(wanted)
            self._start(self._load_runs(list(dict.fromkeys(wanted))))

    def _flush_rules(self) -> None:
        """Read for rules. Events that are held back must be on disk: until then their rule waits."""
        memory = self._state.memory
        rules = [command for command in self._rules if memory.keys.batch_of(command.ref) <= memory.committed]
        if rules:
            self._rules = [command for command in self._rules if command not in rules]
            self._start(self._load_rules(rules), rules)

    def release(self, command: Command) -> None:
        """The command has been decided: what was kept in memory for it may leave."""
        memory = self._state.memory
        for run_id in self._pins.pop(id(command), ()):
            memory.unpin(run_id)
        for read in self._reads_of.pop(id(command), ()):
            self._users[read] -= 1
            if not self._users[read]:
                del self._users[read]
                memory.end_read(read)

    def waiting(self) -> list[Command]:
        """All commands that wait for reads, for a reload."""
        found: list[Command] = [command for command, _ in self._asking]
        found += [command for command, _ in self._signals]
        found += self._rules
        found += [command for command, _, _ in self._lookbacks]
        found += [command for command, _ in self._reruns]
        found += self._redone
        found += self._stranded
        for commands in self._wanted.values():
            found += commands
        for held in self._tasks.values():
            found += held
        return found

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Reading

    def _start(
        self, work: Coroutine[None, None, None], commands: Sequence[Command] = ()
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = commands
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        commands = self._tasks.pop(task, ())
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._stranded += commands
                self._failed(error)

    def _hold(self, read: int, commands: Sequence[Command]) -> None:
        """A read is done; it counts as under way until these commands are decided.

        What it did not see must be in memory still when they are: another command of the same read may have
        taken a key, and its batch may be on disk by then.
        """
        self._users[read] = len(commands)
        for command in commands:
            self._reads_of.setdefault(id(command), []).append(read)

    async def _check_landed(self, commands: list[ReceiveEvents]) -> None:
        """Commands of a void batch: did its commit reach the disk after all? Receipts and ids tell."""
        receipts = [receipt for command in commands for receipt in command.receipts]
        stored = await self._store.load_events(self._shard, receipts) if receipts else {}
        for command in commands:
            row = stored.get(command.receipts[0]) if command.receipts else None
            command.landed = row is not None and row.internal_id == command.events[0].internal_id
            if not command.landed:
                command.receipts = []
        self._give_back(list(commands))

    async def _load_matches(
        self, asking: list[tuple[Command, list[Question]]], earlier: asyncio.Task[None] | None
    ) -> None:
        state, memory = self._state, self._state.memory
        read = memory.begin_read()
        unread = [c.receipt for c, _ in asking if isinstance(c, ContinueEvent) and c.event is None]
        if unread:
            rows = await self._store.load_events(self._shard, unread)
            asking = [(c, questions or self._ask_again(c, rows)) for c, questions in asking]
        keys = [key for _, questions in asking for question in questions for key in question.keys]
        alive = max(state.now, state.keys_from)
        found = await self._store.find_keys(self._shard, keys, alive) if keys else {}
        lookups = [lookup for _, questions in asking for question in questions for lookup in question.lookups]
        refs = await self._store.find_waits(self._shard, lookups, WAITS_AT_ONCE) if lookups else []
        self._answer(asking, found, refs)
        await self._load_missing(
            [run_id for command, _ in asking for run_id in self._pins.get(id(command), ())]
        )
        if earlier is not None and not earlier.done():
            await asyncio.wait((earlier,))
        commands = [command for command, _ in asking]
        self._hold(read, commands)
        self._give_back(commands)

    def _ask_again(self, command: Command, rows: dict[int, EventRow]) -> list[Question]:
        assert isinstance(command, ContinueEvent)
        command.event = row = rows.get(command.receipt)
        if row is None:
            return []
        return [self._ask(command, row)]

    def _answer(
        self,
        asking: list[tuple[Command, list[Question]]],
        keys: dict[KeyRef, bytes],
        refs: list[WaitRef],
    ) -> None:
        """Give each question its answers; what memory knows of runs in memory wins over what was read."""
        found: dict[int, list[WaitRef]] = {}
        for ref in refs:
            found.setdefault(ref.lookup, []).append(ref)
        at = 0
        for command, questions in asking:
            for question in questions:
                match = question.match
                match.found = {key: keys[key] for key in question.keys if key in keys}
                for lookup in question.lookups:
                    page = found.get(at, [])
                    at += 1
                    if match.more is not None:
                        continue
                    self._take_page(match, lookup, page)
                for run_id, _ in match.waits:
                    self._pin(command, run_id)
                for run_id in holders(self._newest(match.found, question.keys)):
                    self._pin(command, run_id)
            if (
                isinstance(command, ContinueEvent)
                and command.target is not None
                and command.target.correlation
            ):
                self._pin(command, command.target.correlation.partition(".")[0])

    def _take_page(self, match: EventMatch, lookup: WaitLookup, page: list[WaitRef]) -> None:
        """Join a page of stored waits with those in memory, in their order, and cut it where the next page
        begins.
        """
        memory = self._state.memory
        places = {(ref.run_id, ref.n) for ref in page if ref.run_id not in memory.runs}
        in_memory = memory.waits_in_memory(lookup.event, lookup.path, lookup.value)
        places.update(place for place in in_memory if place > lookup.after)
        waits = sorted(places)
        more = None
        if len(page) >= WAITS_AT_ONCE:
            more = (page[-1].run_id, page[-1].n)
            waits = [place for place in waits if place <= more]
        if len(waits) > WAITS_AT_ONCE:
            del waits[WAITS_AT_ONCE:]
            more = waits[-1]
        match.waits += waits
        if more is not None:
            match.more = (lookup.path, *more)

    def _newest(self, found: dict[KeyRef, bytes], keys: Sequence[KeyRef]) -> dict[KeyRef, bytes]:
        """What stands under keys by what was read and what batches have changed since."""
        values = {key: self._state.key(key, found) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

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

    async def _fall_behind(self, command: LookBack) -> None:
        """Let the events that were received before the wait began be decided first."""
        if self._last_events is not None and not self._last_events.done():
            await asyncio.wait((self._last_events,))
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

    def _pin(self, command: Command, run_id: str) -> None:
        """Keep a run in memory until the command is decided."""
        self._pins.setdefault(id(command), []).append(run_id)
        self._state.memory.pin(run_id)

    async def _load_missing(self, run_ids: Sequence[str]) -> None:
        """Read the runs among these that are not in memory."""
        memory = self._state.memory
        missing = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in memory.runs]
        if missing:
            stored = await self._store.load_runs(self._shard, missing)
            for run_id, rows in stored.items():
                if run_id not in memory.runs:
                    memory.add(run_from_rows(rows))

    async def _load_signals(self, asking: list[tuple[Command, list[str]]]) -> None:
        memory = self._state.memory
        read = memory.begin_read()
        names = list(dict.fromkeys(name for _, wanted in asking for name in wanted))
        lookups = [WaitLookup(SIGNAL_EVENT, SIGNAL_PATH, name) for name in names]
        refs = await self._store.find_waits(self._shard, lookups, 1)
        holders: dict[str, tuple[str, int] | None] = dict.fromkeys(names)
        for ref in refs:
            holders[names[ref.lookup]] = (ref.run_id, ref.n)
        for command, wanted in asking:
            for name in wanted:
                holder = holders[name]
                if holder is not None:
                    self._pin(command, holder[0])
        await self._load_missing([holder[0] for holder in holders.values() if holder is not None])
        for command, wanted in asking:
            if isinstance(command, CallEnded):
                command.signals = {name: holders[name] for name in wanted}
            elif isinstance(command, SendSignal):
                command.holder, command.looked = holders[command.signal], True
        commands = [command for command, _ in asking]
        self._hold(read, commands)
        self._give_back(commands)

    async def _load_runs(self, run_ids: list[str]) -> None:
        memory = self._state.memory
        read = memory.begin_read()
        try:
            stored = await self._store.load_runs(self._shard, run_ids)
            ready: list[Command] = []
            for run_id in run_ids:
                self._under_way.discard(run_id)
                if run_id in stored:
                    self._take_in(run_id, run_from_rows(stored[run_id]))
                ready += self._wanted.pop(run_id, [])
                for queue, ref in self._refs.pop(run_id, ()):
                    queue.loading -= 1
                    if run_id in memory.runs:
                        queue.put_back(ref)
                    self._look(queue)
                for command in ready:
                    if command.run_id == run_id:
                        self._pin(command, run_id)
        finally:
            memory.end_read(read)
        self._give_back(ready)

    def _take_in(self, run_id: str, run: Run) -> None:
        known = self._state.memory.runs.get(run_id)
        if known is None:
            self._state.memory.add(run)
        elif not known.memos_resident:
            memos = {step.id: step.memo for step in run.steps.values() if step.memo is not None}
            if all(step.memo is not None or step_id in memos for step_id, step in known.steps.items()):
                self._state.memory.take_memos(known, memos)

    async def _load_window(self, queue: Queue) -> None:
        state = self._state
        read = state.memory.begin_read()
        snapshot = state.memory.snapshot(read)
        try:
            refs = await self._store.load_queue(
                self._shard, queue.function_id, queue.part, queue.edge, WINDOW
            )
            queue.take_window(refs, snapshot, WINDOW)
        finally:
            state.memory.end_read(read)
        self._look(queue)
        self._give_back([])

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

    def _look(self, queue: Queue) -> None:
        if isinstance(queue, Line):
            queue.blocked = False
            self._state.lines.touched[queue] = None
        else:
            self._state.queues.look(queue, self._state.now)


def _invokers(command: FireRule) -> list[str]:
    """The runs whose steps have invoked the function by events that a rule held back: they may have to be told."""
    steps = [correlation_of(row) for row in command.events]
    return [step.partition(".")[0] for step in steps if step is not None]
