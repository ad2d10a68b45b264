"""The shard: one task that is the only writer of its state.

    drain    take commands that wait in the inbox
    load     what they need and memory does not hold is read; they step aside meanwhile (`shard.loads`)
    decide   pure planning says what follows; applying it moves memory and the open batch together
    commit   one store transaction for the batch, guarded by the shard's epoch
    release  only now: callers are answered, calls leave

One batch is being committed while the next is decided; it is never more than one. Its effects leave before
those of the next.

**When a commit fails**, every decision made since is void, and so is memory: both are dropped, and read
again at a higher epoch. The commands of the void batches go back to the head of the inbox, in order. They
are the same objects with the same ids, so a commit that reached the disk although it seemed to fail is
recognised: an event by its receipt, an answer by its item's generation, a step because the first result
stands. Calls under way stay under way: their items keep their generation. While the store refuses to write,
nothing is accepted and no call starts.

**When a decision raises**, planning has changed nothing: the command is put into quarantine with its
traceback, its run fails with a reason, and the batch goes on. When applying raises, memory cannot be
trusted any more: it is dropped as above, and the command goes straight into quarantine the second time.

**When the epoch is lost**, another process owns the shard. This one stops for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from perdure.core.model import Item, Run
from perdure.core.settings import Settings
from perdure.errors import EpochLost, RequestError, ShardClosed, StoreUnavailable
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.shard.batch import Batch
from perdure.shard.calls import CallBuilder
from perdure.shard.commands import CallEnded, Checkpoint, Command, ContinueEvent, FireRule, LookBack
from perdure.shard.counts import Counts
from perdure.shard.deciding import Decider
from perdure.shard.dispatch import Dispatcher
from perdure.shard.farewell import bid_farewell
from perdure.shard.gathering import Gathering
from perdure.shard.inbox import Inbox
from perdure.shard.loads import Loads
from perdure.shard.ports import Clock, Entropy, Store, Transport, Workers
from perdure.shard.recovery import recover
from perdure.shard.rollups import PutRollups
from perdure.shard.state import State
from perdure.shard.step_logs import AddStepLogs

log = logging.getLogger("perdure.shard")

SLICE = 32
"""Commands decided before the event loop gets its turn: long slices delay everything else in the process."""
TURNS = 64
"""Due items handled in one round."""
BATCH_COMMANDS = 512
BATCH_BYTES = 4 * 1024 * 1024
_TO_THE_END = (Checkpoint, AddStepLogs, PutRollups)
"""What calls under way, and `before_end`, may still bring when the shard is stopping."""
MAX_WAIT_MS = 1_000
"""The loop looks at the wall clock at least this often, also across a suspended machine."""
SETTLE_S = 5.0
"""How long (seconds) a shard that stops goes on to store what it has taken. Sleeps that end keep it busy for ever."""
RETRY_STORE_S = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Shard:
    """One shard and its loop. `start`, then `submit` commands; `stop` ends it without losing anything."""

    def __init__(
        self,
        store: Store,
        transport: Transport,
        clock: Clock,
        entropy: Entropy,
        settings: Settings,
        *,
        number: int = 0,
        kind: str = "dev",
        signing_key: str | None = None,
        gathers: bool = False,
        workers: Workers | None = None,
    ) -> None:
        self.number = number
        self.available = False
        """Whether commands are taken. False before the start, while the store refuses, and after the end."""
        self.trouble = "the server is starting"
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the loop has ended; holds `EpochLost` if another process has taken the shard."""
        self.counts = Counts()
        """What has been done since the start of this process."""
        self.on_commit: list[Callable[[Batch], None]] = []
        """Told of each batch that is on disk, after its effects have left."""
        self.before_end: list[Callable[[], Awaitable[None]]] = []
        """Done when the shard stops and calls are over: what was gathered in memory can still be stored then."""
        self._store = store
        self._transport = transport
        self._clock = clock
        self._entropy = entropy
        self._settings = settings
        self._builder = CallBuilder(kind, signing_key, settings)
        self._inbox = Inbox()
        self._epoch = 0
        self._state = State(entropy, settings)
        self._loads = self._new_loads()
        self._workers = workers
        self._dispatcher = Dispatcher(self._state, self._loads, self._builder, self._start_call, workers)
        self._decider = Decider(self._state, self._loads, self._dispatcher)
        self._committing: tuple[Batch, asyncio.Future[None]] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._fault: BaseException | None = None
        self._unconfirmed: list[Batch] = []
        self._voided: list[Command] = []
        """Commands that are to be decided again once the state has been read."""
        self._stopping = False
        self._deadline = float("inf")
        self._singly = 0
        """So many commands are still committed one by one, after batches failed for no reason of the disk."""
        self._faults = 0
        self._outbox_faults: dict[int, int] = {}
        """Faults of commands that come back from the outbox as new ones, by receipt."""
        self._failures = 0
        self._gathers = Gathering(asyncio.get_running_loop().time) if gathers else None
        self._task: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Number of commands that wait to be decided."""
        return len(self._inbox)

    @property
    def calls_in_flight(self) -> int:
        """Number of calls under way, or about to leave with their batch."""
        return len(self._dispatcher.live)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing is due: time has to pass, or something has to come."""
        if self.calls_in_flight or self._unsettled() or self._state.follow_ups or self._dispatcher.has_due():
            return False
        due = self._dispatcher.next_time()
        return due is None or due > self.now()

    @property
    def accepting(self) -> bool:
        """Whether events are taken; if not, `trouble` says why."""
        return self.available and not self._stopping

    @property
    def state(self) -> State:
        """The state in memory, for reading only (apps and functions change with registrations)."""
        return self._state

    def now(self) -> int:
        """The time by which the shard goes, in ms since the epoch: ahead of the world's after travel in time."""
        return self._clock.now() + self._state.ahead

    async def start(self) -> None:
        """Take the shard, read what it needs, and begin. Raises `StoreUnavailable` if it cannot be written."""
        if self._workers is not None:
            self._workers.watch(self._awake)
        await self._recover([])
        self._task = asyncio.get_running_loop().create_task(self._run())

    def submit(
        self, command: Command, outcome: asyncio.Future[object] | None = None
    ) -> asyncio.Future[object]:
        """Line up a command. The future is done when its outcome is on disk; or `outcome` is, in its place.

        Raises `ShardClosed` when nothing is taken now, or too much waits already; trying again later may help.
        """
        if not self.available or (self._stopping and not isinstance(command, _TO_THE_END)):
            raise ShardClosed(self.trouble)
        if self._inbox.refuses(command):
            raise ShardClosed("too much work is waiting to be stored")
        future = command.future = outcome or asyncio.get_running_loop().create_future()
        self._inbox.put(command)
        self._awake()
        return future

    async def stop(self, grace_s: float = 10.0) -> None:
        """Start no more calls, wait up to `grace_s` for those under way, commit, and end.

        Calls under way may post checkpoints until then. Those still under way at the end are made again at
        the next start. A further call can only shorten the time.
        """
        loop = asyncio.get_running_loop()
        self._stopping = True
        self.trouble = self.trouble or "the server is stopping"
        self._dispatcher.paused = True
        self._deadline = min(self._deadline, loop.time() + grace_s)
        while self._dispatcher.live and loop.time() < self._deadline and not self.ended.done():
            await asyncio.sleep(0.02)
        latest = loop.time() + SETTLE_S
        await bid_farewell(self.before_end, latest)
        while self._unsettled() and self.available and not self.ended.done() and loop.time() < latest:
            self._awake()
            await asyncio.sleep(0.005)
        self.available = False
        self.trouble = "the server has stopped"
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._refuse_all()
        await self._loads.close()

    def _unsettled(self) -> bool:
        """Whether commands that were taken are not on disk yet."""
        if len(self._inbox) or self._committing is not None:
            return True
        return not self._state.batch.empty() or bool(self._loads.waiting())

    def _refuse_all(self) -> None:
        """Tell everybody whose command will not be decided any more, or not known to be, to try again."""
        self._turn_away(self._void())

    # The loop

    async def _run(self) -> None:
        try:
            while True:
                try:
                    await self._serve()
                except (EpochLost, asyncio.CancelledError):
                    raise
                except BaseException as fault:
                    await self._reload(fault)
        except asyncio.CancelledError:
            if not self.ended.done():
                self.ended.set_result(None)
        except BaseException as fault:
            self.available = False
            lost = isinstance(fault, EpochLost)
            self.trouble = "another process has taken over this data" if lost else "the server has failed"
            log.critical("the shard stops for good", exc_info=None if lost else fault)
            self._refuse_all()
            if not self.ended.done():
                self.ended.set_exception(fault)

    async def _serve(self) -> None:
        while True:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            if self._committing is not None and self._committing[1].done():
                self._finish_commit()
            full, came, more = self._batch_is_full(), bool(self._inbox), False
            if not (full and self._committing is not None):
                more = self._decide_slice()
            if self._committing is None and not self._state.batch.empty():
                alone = len(self._dispatcher.live) < 2  # nobody is about to add anything
                if self._gathers and self._gathers.goes_on(came, alone or self._batch_is_full()):
                    await asyncio.sleep(0)
                    continue
                self._begin_commit()
            if more and not (self._committing is not None and self._batch_is_full()):
                await asyncio.sleep(0)
            else:
                self._state.memory.shrink()  # reads may have brought runs that no commit follows
                await self._wait()

    def _batch_is_full(self) -> bool:
        batch = self._state.batch
        limit = 1 if self._singly else BATCH_COMMANDS
        return len(batch.commands) >= limit or batch.payload >= BATCH_BYTES

    def _decide_slice(self) -> bool:
        """Decide some commands and handle some due items. Says whether there is more to do at once."""
        state = self._state
        state.now = self.now()
        inbox = self._inbox
        for _ in range(SLICE):
            if not inbox or self._batch_is_full():
                break
            self._decider.take(inbox.take())
        self._dispatcher.turn(TURNS)
        if state.follow_ups:
            follow_ups, state.follow_ups = state.follow_ups, []
            for command in follow_ups:
                inbox.put(command)
        self._loads.flush()
        return bool(inbox) or self._dispatcher.has_due()

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def _wait(self) -> None:
        """Sleep until there is something to do.

        A command, an end of a commit or read, or the next due time. While the open batch is full and the one
        before it is not on disk, only the end of that commit.
        """
        held = self._committing is not None and self._batch_is_full()
        if self._inbox and not held:
            return
        if self._fault is not None or (self._committing is not None and self._committing[1].done()):
            return
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        due = None if held else self._dispatcher.next_time()
        wait = MAX_WAIT_MS if due is None else min(max(due - self.now(), 0), MAX_WAIT_MS)
        timer = loop.call_later(wait / 1000, self._awake)
        try:
            await self._wake
        finally:
            timer.cancel()
            self._wake = None

    # Commit and release

    def _begin_commit(self) -> None:
        state = self._state
        batch = state.batch
        writes = batch.writes()
        changes = batch.seal()
        state.batch = Batch(batch.number + 1)
        self._unconfirmed.append(batch)
        future = self._store.commit(self.number, self._epoch, changes) if writes else None
        if future is None:
            self._release(batch)
        else:
            self._committing = (batch, future)
            future.add_done_callback(self._commit_done)

    def _commit_done(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            future.exception()  # a reload may have stopped waiting for it: then nobody else looks at it
        self._awake()

    def _finish_commit(self) -> None:
        assert self._committing is not None
        batch, future = self._committing
        self._committing = None
        future.result()
        self._release(batch)

    def _release(self, batch: Batch) -> None:
        """The batch is on disk: let its effects go, and forget what no read can miss any more."""
        self._unconfirmed.remove(batch)
        self._failures = 0
        if self._singly:
            self._singly = max(self._singly - len(batch.commands), 0)
            self._faults = self._faults if self._singly else 0
        self.counts.add(batch)
        state = self._state
        state.memory.committed = batch.number
        for effect in batch.effects:
            try:
                effect()
            except Exception:
                log.exception("an effect of a batch has failed; the others go on")
        for listener in self.on_commit:
            try:
                listener(batch)
            except Exception:
                log.exception("something that is told of commits has failed; the work goes on")
        state.forget(batch.runs.values())
        self._loads.flush()

    # Calls

    def _start_call(self, run_id: str, n: int, generation: int, call: Call) -> None:
        """Let a call leave, unless its run has ended since it was decided."""
        self._dispatcher.left(run_id, n)
        run = self._state.memory.runs.get(run_id)
        if run is None or n not in run.items:
            self._dispatcher.ended(run_id, n, generation)
            return
        done = partial(self._call_done, run_id, n, generation)
        try:
            self._transport.start(call, done)
        except Exception as error:
            log.exception("the transport has refused a call")
            done(CallFailure("http_unreachable", f"The call could not be made: {error}"))

    def _call_done(self, run_id: str, n: int, generation: int, result: CallAnswer | CallFailure) -> None:
        self._dispatcher.ended(run_id, n, generation)
        self._inbox.put(CallEnded(run=run_id, n=n, generation=generation, result=result))
        self._awake()

    # Recovery

    def _new_loads(self) -> Loads:
        return Loads(self.number, self._store, self._state, self._give_back, self._load_failed)

    def _give_back(self, commands: list[Command]) -> None:
        self._inbox.put_back(commands)
        self._awake()

    def _load_failed(self, error: BaseException) -> None:
        self._fault = error
        self._awake()

    async def _recover(self, commands: list[Command]) -> None:
        """Claim the shard and read its state anew; `commands` are decided again first."""
        self._epoch = await self._store.claim(self.number)
        commands += self._fresh(self._inbox.take_all())
        old = self._state
        state = State(self._entropy, self._settings)
        state.now = self._clock.now()
        state.gates, state.request_gate = old.gates, old.request_gate
        state.limits, state.keys_from = old.limits, old.keys_from
        state.run_ids = old.run_ids
        kept = {(key, call.generation) for key, call in self._dispatcher.live.items()}
        kept |= {((c.run, c.n), c.generation) for c in commands if isinstance(c, CallEnded)}
        resumed: list[tuple[Run, Item]] | None = None if self._workers is None else []
        follow_ups = await recover(state, self._store, self.number, kept, resumed)
        for command in follow_ups:
            command.faults = self._outbox_faults.get(command.receipt, 0)
        self._state = state
        self._loads = self._new_loads()
        self._dispatcher = self._dispatcher.successor(state, self._loads)
        self._decider = Decider(state, self._loads, self._dispatcher)
        self._resume(resumed or [])
        for queue in state.queues.all.values():
            if queue.wants_window():
                self._loads.window(queue)
        self._committing = None
        self._unconfirmed = []
        self._fault = None
        self._inbox.put_back([*commands, *follow_ups])
        self.available = True
        self.trouble = "the server is stopping" if self._stopping else ""

    def _resume(self, calls: list[tuple[Run, Item]]) -> None:
        """Wait for the answers of calls that an earlier process has made, and that workers may still bring."""
        for run, item in calls:
            assert self._workers is not None
            done = partial(self._call_done, run.id, item.n, item.generation)
            self._workers.resume(self._dispatcher.resume(run, item), done)

    async def _reload(self, fault: BaseException) -> None:
        """All that is not on disk is void: drop memory, read it again, and decide the same commands again."""
        self.available = False
        refused = isinstance(fault, StoreUnavailable)
        self.trouble = str(fault) if refused else "the server is reading its state again"
        if refused:
            log.error("the store refuses to write: %s", fault)
        else:
            log.error("a batch could not be committed; state is read again", exc_info=fault)
        self._voided = self._void()
        if refused and self._failures:
            self._voided = self._turn_away(self._voided)
        if not refused:
            self._faults += 1
            if self._faults > 1:
                self._singly = len(self._voided)
        await self._loads.close()
        while True:
            await asyncio.sleep(RETRY_STORE_S[min(self._failures, len(RETRY_STORE_S) - 1)])
            self._failures += 1
            try:
                await self._recover(self._voided)
            except StoreUnavailable as error:
                self.trouble = str(error)
                self._voided = self._turn_away(self._voided)
                continue
            self._voided = []
            return

    def _turn_away(self, commands: list[Command]) -> list[Command]:
        """Tell the callers that wait to try again later, since it may be long; keep what nobody would send again."""
        refusal = RequestError(503, f"Try again in a moment: {self.trouble}")
        for command in commands:
            if command.future is not None and not command.future.done():
                command.future.set_exception(refusal)
        return [command for command in commands if command.future is None]

    def _void(self) -> list[Command]:
        """The commands of all batches that are not on disk, of reads under way, and of the inbox, in order."""
        found, self._voided = self._voided, []
        for batch in (*self._unconfirmed, self._state.batch):
            found += batch.commands
            for run_id, n, generation in batch.calls:
                self._dispatcher.ended(run_id, n, generation)
        found += self._loads.waiting()
        found += self._inbox.take_all()
        return self._fresh(found)

    def _fresh(self, commands: list[Command]) -> list[Command]:
        """Each command once, made ready for another decision.

        Those that the shard gave itself come back from the outbox, and from the timers of rules.
        """
        fresh = []
        for command in dict.fromkeys(commands):
            if isinstance(command, ContinueEvent):
                self._outbox_faults[command.receipt] = command.faults
            elif isinstance(command, FireRule | LookBack):
                self._dispatcher.faults[command.item] = command.faults
            else:
                command.again()
                fresh.append(command)
        return fresh
