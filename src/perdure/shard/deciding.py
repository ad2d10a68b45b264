"""Taking a command: is everything in memory that it needs, and if so, what does it change?

A command that needs the store read first steps aside; `shard.loads` brings it back. What goes wrong while
deciding concerns that command alone: it goes into quarantine with its traceback. What goes wrong while
applying concerns all of memory, and is for the loop to mend.
"""

from __future__ import annotations

import logging

from perdure.core.model import CALLING
from perdure.errors import RequestError
from perdure.protocol.replies import read_reply
from perdure.shard import admitting, decide, matching
from perdure.shard.commands import (
    CallEnded,
    CatchUp,
    Checkpoint,
    Command,
    ContinueEvent,
    ExplainRun,
    FireRule,
    LookBack,
    MoveClock,
    ReceiveEvents,
    Rerun,
    SendSignal,
    StepJob,
)
from perdure.shard.dispatch import Dispatcher
from perdure.shard.explaining import explain
from perdure.shard.keys import timer_id
from perdure.shard.loads import Loads
from perdure.shard.state import ApplyFault, State

log = logging.getLogger("perdure.shard")

GIVE_UP = 4
"""From so many faults on not even the run of a command is touched: only its quarantine row is written."""


class Decider:
    """Decides commands, one after the other, within one epoch."""

    def __init__(self, state: State, loads: Loads, dispatcher: Dispatcher) -> None:
        self._state = state
        self._loads = loads
        self._dispatcher = dispatcher

    def take(self, command: Command) -> None:
        """Decide a command, or let it step aside until the store has been read for it."""
        try:
            try:
                if command.faults < 2 and not self._prepared(command):
                    return
                self._state.batch.commands.append(command)
                self._decide(command)
            except ApplyFault:
                raise
            except Exception as error:
                self._set_aside(command, error)
        except ApplyFault:
            command.faults += 2
            raise
        self._loads.release(command)

    def _set_aside(self, command: Command, error: Exception) -> None:
        """Put a command that cannot be decided into quarantine, and tell its caller."""
        run_id = command.run_id if command.faults < GIVE_UP else None
        self._state.quarantine(repr(command), run_id, error)
        if isinstance(command, CallEnded):
            decide.tell_stored(self._state, command)
        elif isinstance(command, LookBack):
            self._state.drop_timer(timer_id(command.ref))
        refusal = RequestError(500, "the server could not decide this; it is in quarantine")
        decide.refuse(self._state, command, refusal)

    def _decide(self, command: Command) -> None:
        if command.faults >= 2:
            raise RuntimeError("applying this command has failed before")
        if isinstance(command, ReceiveEvents):
            if not command.landed:
                matching.decide_received(self._state, command)
            decide.answer(self._state, command, None)
        elif isinstance(command, ContinueEvent):
            matching.decide_continued(self._state, command)
        elif isinstance(command, FireRule):
            admitting.fire(self._state, command)
        elif isinstance(command, ExplainRun):
            self._explain(command)
        elif isinstance(command, Checkpoint):
            decide.checkpoint(self._state, command)
            self._dispatcher.posted(command)
        else:
            decide.SIMPLE[type(command)](self._state, command)

    def _explain(self, command: ExplainRun) -> None:
        """Answer why a run waits. If that goes wrong it is no fault of the run, and must do it no harm."""
        run = self._state.memory.get(command.run)
        try:
            why = None if run is None else explain(self._state, self._dispatcher, run)
        except Exception:
            log.exception("it could not be found out why run %s waits", command.run)
            refusal = RequestError(500, "The server failed to answer this; its log says why.")
            decide.refuse(self._state, command, refusal)
        else:
            decide.answer(self._state, command, why)

    def _prepared(self, command: Command) -> bool:
        """Whether everything that the command needs is in memory. If not, it will come back by itself."""
        if isinstance(command, ReceiveEvents):
            if not command.receipts and not command.redo:
                self._give_receipts(command)
            return bool(command.landed or command.matches) or self._loads.prepare_event(command)
        if isinstance(command, ContinueEvent):
            return command.match is not None or self._loads.prepare_event(command)
        if isinstance(command, FireRule):
            return self._prepare_rule(command)
        if isinstance(command, CatchUp):
            return self._loads.prepare_catching_up(command)
        if isinstance(command, MoveClock):
            return self._loads.prepare_move(command)
        if isinstance(command, StepJob):
            return command.asked or self._loads.prepare_reruns(command, command.run_ids)
        if isinstance(command, SendSignal):
            return command.looked or self._loads.prepare_signals(command, [command.signal])
        run_id = command.run_id
        if run_id is None:
            return True
        if not command.loaded and (run_id not in self._state.memory.runs or self._loads.lined_up(run_id)):
            command.loaded = True
            self._loads.want_run(run_id, command)
            return False
        if isinstance(command, LookBack):
            return self._loads.prepare_lookback(command)
        if isinstance(command, Rerun) and not command.asked:
            known = [command.run, command.made] if command.made else [command.run]
            return self._loads.prepare_reruns(command, known)
        if isinstance(command, CallEnded) and command.signals is None:
            return self._prepare_answer(command)
        return True

    def _prepare_rule(self, command: FireRule) -> bool:
        """Whether what was read of a rule is what stands there now; if not, it is read again."""
        if command.ready:
            read = {} if command.state is None else {command.ref: command.state}
            if self._state.key(command.ref, read) == command.state:
                return True
            command.ready = False
        self._loads.release(command)
        self._loads.prepare_rule(command)
        return False

    def _give_receipts(self, command: ReceiveEvents) -> None:
        first = self._state.next_receipt
        self._state.next_receipt = first + len(command.events)
        command.receipts = list(range(first, self._state.next_receipt))

    def _prepare_answer(self, command: CallEnded) -> bool:
        """Read the answer of an app, and find out who holds the signals that it names."""
        command.signals = {}
        run = self._state.memory.runs.get(command.run)
        item = run.items.get(command.n) if run is not None else None
        if item is None or item.kind not in CALLING or command.result is None:
            return True
        command.reply = read_reply(command.result, self._state.real_now, self._state.settings.steps_per_run)
        names = decide.signal_names(command.reply, self._state.now)
        if not names:
            return True
        command.signals = None
        return self._loads.prepare_signals(command, names)
