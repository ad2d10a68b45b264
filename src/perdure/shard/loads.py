"""Reading what commands need and memory does not hold.

A command whose state is in memory is decided at once. Another steps aside while the store is read, and
comes back when the read is done; what other commands ask for in the same round shares the read. For one
run, order is kept: while its read is under way, later commands about it line up behind the first.

See `shard.memory` for why a read can be trusted although batches are decided and committed while it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.core.model import Run
from perdure.core.operations import SIGNAL_EVENT, SIGNAL_PATH
from perdure.shard.admitting import holders, invoker_of
from perdure.shard.commands import (
    CallEnded,
    CatchUp,
    Command,
    ContinueEvent,
    EventMatch,
    ParsedEvent,
    ReceiveEvents,
    SendSignal,
)
from perdure.shard.flow_loads import FlowLoads
from perdure.shard.lines import Line, TurnQueue
from perdure.shard.matching import WAITS_AT_ONCE, Question, ask, ask_target
from perdure.shard.memory import run_from_rows
from perdure.shard.ports import Store
from perdure.shard.queues import WINDOW, Queue
from perdure.shard.rows import EventRow, ItemRef, KeyRef, WaitLookup, WaitRef
from perdure.shard.state import State


class Loads(FlowLoads):
    """The reads of one epoch."""

    def __init__(
        self,
        shard: int,
        store: Store,
        state: State,
        give_back: Callable[[list[Command]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        super().__init__(shard, store, state, give_back, failed)
        self._asking: list[tuple[Command, list[Question]]] = []
        self._signals: list[tuple[Command, list[str]]] = []
        self._refs: dict[str, list[tuple[Queue, ItemRef]]] = {}
        self._under_way: set[str] = set()
        self._redone: list[ReceiveEvents] = []

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
        known = not any(q.keys or q.lookups for q in questions) and self._knows_invoker(command)
        if known and self._turn_comes(command):
            return True
        self._asking.append((command, questions))
        return False

    def _knows_invoker(self, command: Command) -> bool:
        """Whether the run that has invoked a function is in memory: it may have to be told that there is no run."""
        target = command.target if isinstance(command, ContinueEvent) else None
        correlation = None if target is None else target.correlation
        return correlation is None or invoker_of(correlation) in self._state.memory.runs

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

    def prepare_catching_up(self, command: CatchUp) -> bool:
        """Let all events be matched that were accepted before the command. False: it comes back by itself."""
        state = self._state
        command.receipt = command.receipt or state.next_receipt
        if not any(_receipt_of(other) < command.receipt for other in (*state.follow_ups, *self.waiting())):
            return True
        self._start(self._fall_behind(command), [command])
        return False

    def want_run_for(self, queue: Queue, ref: ItemRef) -> None:
        """Read a run for an item that is due; the reference goes back into its queue then."""
        queue.loading += 1
        self._refs.setdefault(ref.run_id, []).append((queue, ref))

    def window(self, queue: Queue) -> None:
        """Read on in a queue."""
        queue.reading = True
        self._start(self._load_window(queue))

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
        self._flush_flow()
        wanted = [run_id for run_id in (*self._wanted, *self._refs) if run_id not in self._under_way]
        if wanted:
            self._under_way.update(wanted)
            self._start(self._load_runs(list(dict.fromkeys(wanted))))

    def waiting(self) -> list[Command]:
        """All commands that wait for reads, for a reload."""
        found: list[Command] = [command for command, _ in self._asking]
        found += [command for command, _ in self._signals]
        found += self._flow_waiting()
        found += self._redone
        found += self._stranded
        for commands in self._wanted.values():
            found += commands
        for held in self._tasks.values():
            found += held
        return found

    # Reading

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
                self._pin(command, invoker_of(command.target.correlation))

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
                    elif isinstance(queue, TurnQueue):
                        self._state.lines.give_up(run_id, ref.n, self._state.now)
                        self._state.lines.turns.give_back(run_id)
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

    def _look(self, queue: Queue) -> None:
        if isinstance(queue, Line):
            queue.blocked = False
            self._state.lines.touched[queue] = None
        else:
            self._state.queues.look(queue, self._state.now)


def _receipt_of(command: Command) -> float:
    """The receipt of the first event that a command is to match; infinite if it matches none."""
    if isinstance(command, ReceiveEvents):
        return min(command.receipts, default=0)
    return command.receipt if isinstance(command, ContinueEvent) else float("inf")
