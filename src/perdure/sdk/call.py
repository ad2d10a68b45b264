"""One call of a function: from the saved steps to the answer.

The function's code is run from its beginning. A step that the server has saved gives its result at once. A new
step parks its strand (see `strands`), and when every strand stands still the round is decided:

    targeted call       the step that is asked for is run as soon as the code comes to it; all others park
    plan only           all new steps are told as planned
    one new step.run    it is run here and now, and is the answer; or it is posted as a checkpoint, and the
                        function goes on with its result, as if it had been saved all along
    anything else       all new steps are told: those the app has to run as planned, the others as they are

**Chains in a gather go on alone.** Servers ask what comes next when all steps of a round are done; that would
hold the second step of a short chain until the first one of a long chain is done. So after a targeted step the
code goes on for a moment with its result: if it comes to a step that was not known before, or to its end, the
answer asks for a discovery as well. What the server itself does (sleeps, waits, invokes) cannot be followed
like this, so in a round with others it is told with `parallelMode: race`, a discovery after each.

**A step that is cancelled from outside** while it runs (`asyncio.timeout`, a failing sibling in a TaskGroup)
has failed this attempt, as if it had raised TimeoutError: a code path that depends on time would not be taken
again by the next call. When its attempts are used up, StepTimeoutError is raised there, in every later call.

**The end.** Once there is an answer the strands that wait for steps are cancelled, which runs their `finally`
blocks; a step that they come to then is cancelled too.

Everything here runs on one event loop, but for `begin`, `begin_ask` and `run_at_once`, which a sync function's
thread asks by itself. `now_ns` tells the time.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import msgspec

from perdure.sdk import codec, ops, reply
from perdure.sdk.asks import Ask
from perdure.sdk.blocking import watch_of
from perdure.sdk.errors import UsageError
from perdure.sdk.function import Function
from perdure.sdk.job import Job
from perdure.sdk.key import Key
from perdure.sdk.memo import read_memo, result
from perdure.sdk.middleware import CallHooks
from perdure.sdk.places import place
from perdure.sdk.reply import Reply
from perdure.sdk.saving import Checkpoints, Stale
from perdure.sdk.step_ids import StepIds, warn_of_changes
from perdure.sdk.step_logs import StepLogs
from perdure.sdk.strands import CURRENT, IN_STEP, PATIENCE_S, TARGET_PATIENCE_S, Strands, watch_births

log = logging.getLogger("perdure")

GO_ON_S = 0.02
"""How long a targeted call follows the code after its step, in seconds."""

SETTLING = 4
"""Rounds of the event loop in which nothing may move before a call is taken to stand still.

The end of a task wakes its parent by way of a future or two, each of which takes a round.
"""

NO_OPTS = b"{}"


class Step(msgspec.Struct, gc=False):
    """A step that the code has come to and that is not saved. `opts` is JSON; `ask` None if the app runs it."""

    key: Key
    opts: bytes
    ask: Ask | None = None
    input: bytes | None = None
    started_ns: int = 0
    verdict: asyncio.Future[None] | None = None
    where: str = ""


class Call:
    """Runs one call. `answer` is awaited by whoever took the request."""

    hooks: CallHooks | None = None
    """What the function's middleware does around its code."""
    step_logs: StepLogs | None = None
    """Takes what the function and its steps log, if the server wants it."""

    def __init__(
        self,
        function: Function[Any, Any],
        job: Job,
        now_ns: Callable[[], int],
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.function = function
        self.job = job
        self.now_ns = now_ns
        self.loop = asyncio.get_running_loop()
        self.strands = Strands(self)
        self.ids = StepIds(function.slug, self.strands)
        self.over = False
        self._answer: asyncio.Future[Reply] = self.loop.create_future()
        self._new: dict[str, Step] = {}
        self._known: set[str] = set()
        self._running = 0
        self._check_due = False
        self._settled = 0
        self._patience: asyncio.TimerHandle | None = None
        self._target: Step | None = None  # once the code has come to it
        self._visited: set[str] = set()  # saved steps that the code has come to
        self._done: Reply | None = None  # of the targeted step, once it has run
        self._saved_here: list[bytes] = []
        self._hurry = False
        self._root: asyncio.Task[Any] | None = None
        self._begun_ns = now_ns()
        self._tasks: set[asyncio.Task[Any]] = set()
        may = job.target is None and not job.plan_only and job.attempt == 0 and job.fn_id and job.qi_id
        self._checkpoints = checkpoints if may else None

    # What the function's code calls. `begin` and `begin_ask` from its own thread too, all else on the loop.

    def begin(self, step_id: str, opts: bytes, strand: Hashable) -> tuple[Step, bytes | None]:
        """A step that the app runs, and its saved result. Without one: `reach`, run it, `finish`."""
        key = self._key(step_id, strand)
        memo = self.job.steps.get(key.hash)
        if memo is None:
            return Step(key, opts), None
        self._visited.add(key.hash)
        wrapped = read_memo(memo)
        if wrapped is None or wrapped.input is msgspec.UNSET:
            return Step(key, opts), result(memo, step_id)
        return Step(key, opts, input=bytes(wrapped.input)), None

    def begin_ask(self, ask: Ask, strand: Hashable) -> tuple[Step, bytes | None]:
        """A step that the server has to do, and what it saved. Without that: `reach`, which ends the call."""
        key = self._key(ask.step_id, strand)
        step = Step(key, ask.opts or NO_OPTS, ask)
        memo = self.job.steps.get(key.hash)
        if memo is None:
            return step, None
        self._visited.add(key.hash)
        return step, memo if ask.bare else result(memo, ask.step_id, invoked=ask.op == "InvokeFunction")

    def _key(self, step_id: str, strand: Hashable) -> Key:
        """Count a use of a step id, and say which step it is."""
        self.ids.check_not_nested(step_id)
        if self.over:
            raise asyncio.CancelledError
        return self.ids.key(step_id, strand)

    async def reach(self, step: Step, strand: Hashable) -> None:
        """Wait for the round's decision. Returns if the step is to be run now; else the call ends here."""
        if self.over:
            raise asyncio.CancelledError
        if isinstance(strand, asyncio.Task) and not self.strands.knows(strand):
            self.strands.adopt(strand, self._root)  # it was born eagerly, and is here before it was seen
        if self.run_at_once(step):
            return
        key = step.key
        if not self._new and len(self.job.steps) > len(self._visited):
            step.where = place()  # in case that those are gone from the code
        self._new[key.hash] = step
        if key.hash == self.job.target:
            self._target = step
        step.verdict = self.loop.create_future()
        self.strands.wait(strand)
        try:
            await step.verdict
        except asyncio.CancelledError:
            if self._new.pop(key.hash, None) is not None and not self.over:
                self.strands_moved()
            raise
        finally:
            self.strands.go_on(strand)

    async def finish(self, step: Step, value: object, error: BaseException | None) -> bytes:
        """A step has been run: give back its result if the function may go on, else the call ends here."""
        self._running -= 1
        length = self.now_ns() - step.started_ns
        if error is None:
            try:
                data = codec.encode(value, self.what_returned(step))
            except UsageError as unusable:
                error = unusable
        if error is not None:
            await self._step_failed(step, error, length)
        else:
            op = ops.ran(step.key, step.opts, data, step.started_ns, length)
            if self.job.target is not None:
                self._target_ran(step, op, data)
                return data
            if self._checkpoints is None:
                self._end(reply.of_ops([op]))
            elif await self._checkpoint(op):
                self._save(step, data)
                return data
        raise asyncio.CancelledError

    def what_returned(self, step: Step) -> str:
        """What a step's result is called in an error."""
        return f'What the step "{step.key.step_id}" of {self.function.slug} returned'

    def run_at_once(self, step: Step) -> bool:
        """Whether a step can be run without waiting for a decision, since there is but one strand, which is here.

        So its thread may ask too: nothing goes on beside it.
        """
        if self.over or len(self.strands) != 1 or self._running or not self._may_run(step):
            return False
        if step.key.hash == self.job.target:
            self._target = step
        self._look_for_changes(step)
        self._running += 1
        step.started_ns = self.now_ns()
        return True

    # The life of a call.

    async def run(self, start: Callable[[Call], Awaitable[Any]]) -> Reply:
        """Run the function's code, which `start` begins, to an answer."""
        watch_births(self.loop)
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        context.run(IN_STEP.set, None)
        root: asyncio.Task[Any] = self.loop.create_task(self._body(start), context=context)
        self._root = root
        if self.function.is_async:
            self.strands.adopt(root, None)
        root.add_done_callback(self._returned)
        watch = watch_of(self.loop)
        watch.begin(self)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self._end(Reply(500, b"null"))
            raise
        finally:
            watch.end(self)

    def hurry(self) -> None:
        """End at the next step, which a later call takes up. A call that posts no steps ends with its step anyway."""
        self._hurry = True

    def give_way(self) -> bool:
        """Stop now, and let the server call again at once for what is left; false if it would not."""
        if self._checkpoints is None or self.over:
            return False
        self.abandon(*self._take(), ops.DISCOVERY_REQUEST)
        return True

    def abandon(self, *told: bytes) -> None:
        """Stop and answer `told`: async code gets CancelledError where it is, a thread stops at its next step."""
        self._end(reply.of_ops(list(told)))
        for task in self.strands.tasks():
            self._cancel(task)

    @property
    def slug(self) -> str:
        return self.function.slug

    @property
    def replaying(self) -> bool:
        """Whether the code between steps is where an earlier call has been, as far as can be told."""
        return self.job.target is not None or len(self.job.steps) > len(self._visited)

    def owns(self, task: object) -> bool:
        """Whether a task is one of the function's."""
        return isinstance(task, asyncio.Task) and self.strands.knows(task)

    async def _body(self, start: Callable[[Call], Awaitable[Any]]) -> bytes:
        value = await start(self)
        return codec.encode(value, f"What {self.function.slug} returned", self.function.handler)

    def spawn(self, work: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        """Run something for a thread of the function, until the call is over; in no context, if none is given."""
        task: asyncio.Task[Any] = self.loop.create_task(work, context=context or contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def strands_moved(self) -> None:
        """Look, once everything that is ready has run, whether the round can be decided."""
        self._settled = 0
        if not self._check_due and not self.over:
            self._check_due = True
            self.loop.call_soon(self._look)

    def _look(self) -> None:
        if self._settled < SETTLING and not self.over:
            self._settled += 1
            self.loop.call_soon(self._look)
            return
        self._check_due = False
        if self.over or self._running or not (self._new or self._done or self.job.target):
            return
        if any(step.verdict is not None and step.verdict.done() for step in self._new.values()):
            return  # it is being cancelled, which is seen when its strand has run
        if self.strands.busy():
            if self._patience is None:
                looking_for_target = self.job.target is not None and self._done is None
                patience = TARGET_PATIENCE_S if looking_for_target else PATIENCE_S
                self._patience = self.loop.call_later(patience, self._lose_patience)
            return
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if len(self.strands):
            self._decide()

    def _lose_patience(self) -> None:
        self._patience = None
        if not self.over:
            if not self._new:
                return
            self.strands.ignore(self.strands.busy())
            self.strands_moved()

    def _look_for_changes(self, step: Step) -> None:
        missed = len(self.job.steps) - len(self._visited)
        if missed > 0 and self.job.target is None:
            warn_of_changes(
                self.function.slug, self.job.run_id, step.key.step_id, missed, step.where or place()
            )

    def _may_run(self, step: Step) -> bool:
        """Whether a step that is the only one may be run in this call."""
        if self.job.target is not None:
            return step.key.hash == self.job.target and step.ask is None
        return step.ask is None and not self.job.plan_only and not self._out_of_time()

    def _run_here(self, step: Step) -> None:
        self._running += 1
        step.started_ns = self.now_ns()
        del self._new[step.key.hash]
        if step.verdict is not None and not step.verdict.done():
            step.verdict.set_result(None)

    def _decide(self) -> None:
        """Every strand stands still."""
        new = list(self._new.values())
        if new:
            self._look_for_changes(new[0])
        if self.job.target is not None:
            self._decide_targeted(new)
        elif len(new) == 1 and self._may_run(new[0]):
            self._run_here(new[0])
        elif new and self._out_of_time() and not self.job.plan_only:
            self._end(reply.of_ops([*self._take(), ops.DISCOVERY_REQUEST]))
        elif new:
            several = len(new) > 1
            told = [
                ops.planned(step.key, step.opts)
                if step.ask is None
                else ops.asked(step.key, step.ask, several)
                for step in new
            ]
            self._flush_then(reply.of_ops(told), merge=not several)

    def _decide_targeted(self, new: list[Step]) -> None:
        if self._done is not None:
            self._end(
                self._done
                if {step.key.hash for step in new} <= self._known
                else reply.asking_for_discovery(self._done)
            )
            return
        target = self._target
        if target is None:
            self._end(reply.of_lost_target(self.function.told, self.job.target, [step.key for step in new]))
        elif target.key.hash not in self._new:
            self._end(reply.of_dropped_target(target.key, target.opts, self.now_ns()))
        elif target.ask is not None:
            self._end(reply.of_ops([ops.asked(target.key, target.ask, len(new) > 1)]))
        else:
            self._known = {step.key.hash for step in new}
            self._run_here(target)

    def _target_ran(self, step: Step, op: bytes, data: bytes) -> None:
        """The step that was asked for has run. If others go on beside it, follow the code for a moment."""
        self._done = reply.of_ops([op])
        alone = not self._new and len(self.strands) < 2
        if alone or self._root is None or self._root.done():
            self._end(self._done)
            raise asyncio.CancelledError
        self._save(step, data)
        self.loop.call_later(GO_ON_S, self._stop_following)
        self.strands_moved()

    def _stop_following(self) -> None:
        if not self.over and self._done is not None:
            self._end(reply.asking_for_discovery(self._done))

    async def _step_failed(self, step: Step, error: BaseException, length: int) -> None:
        error, name = reply.step_error(error, step.key.step_id)
        reply.note(log, f'The step "{step.key.step_id}" of {self.function.slug}', error, self.job)
        times = step.started_ns, length, self.now_ns() // 1_000_000
        await self._flush_and_end(reply.of_failed_step(step.key, step.opts, error, name, self.job, *times))

    def _returned(self, root: asyncio.Task[Any]) -> None:
        """The function's code has come to its end."""
        error = None if root.cancelled() else root.exception()
        if self.over:
            return
        if self._done is not None:
            self._end(reply.asking_for_discovery(self._done))
        elif self._target is not None:
            if not self._running and self._target.key.hash not in self._new:
                self._end(reply.of_dropped_target(self._target.key, self._target.opts, self.now_ns()))
        elif self.job.target is not None and error is None:
            self._end(reply.of_lost_target(self.function.told, self.job.target, []))
        elif root.cancelled():
            self._end(reply.of_failure(RuntimeError("The function's task was cancelled from outside."), 0))
        elif error is not None:
            reply.note(log, self.function.slug, error, self.job)
            self._flush_then(reply.of_failure(error, self.now_ns() // 1_000_000), merge=False)
        elif self._saved_here:
            self._end(reply.of_ops([*self._take(), ops.completed(root.result())]))
        else:
            self._end(Reply(200, root.result()))

    def _end(self, answer: Reply) -> None:
        if self.over:
            return
        self.over = True
        if self._patience is not None:
            self._patience.cancel()
        if not self._answer.done():
            self._answer.set_result(answer)
        for strand in self.strands.waiting():
            if isinstance(strand, asyncio.Task):
                strand.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self.function.is_async:
            self._cancel(self._root)

    def _cancel(self, task: asyncio.Task[Any] | None) -> None:
        """Cancel a task. Not the one that ends the call, which raises itself: what its `finally` awaits shall run."""
        if task is not None and not task.done() and task is not asyncio.current_task():
            task.cancel()

    # Checkpoints.

    def _save(self, step: Step, data: bytes) -> None:
        self._visited.add(step.key.hash)
        self.job.steps[step.key.hash] = b'{"data":' + data + b"}"

    def _out_of_time(self) -> bool:
        if self._checkpoints is None:
            return False
        limit = self._checkpoints.max_runtime_ns
        return self._hurry or (limit is not None and self.now_ns() - self._begun_ns > limit)

    def _take(self) -> list[bytes]:
        taken, self._saved_here = self._saved_here, []
        return taken

    async def _checkpoint(self, op: bytes) -> bool:
        """Keep a finished step, and post all that are kept if they are enough; false if the call ends here."""
        self._saved_here.append(op)
        if self._checkpoints is not None and len(self._saved_here) < self._checkpoints.limit:
            return True
        return await self._flush()

    async def _flush(self) -> bool:
        """Post what is kept. If that cannot be done, it becomes the answer."""
        if not self._saved_here or self._checkpoints is None:
            return True
        self._running += 1
        kept = self._take()
        try:
            if await self._checkpoints.post(self.job, kept):
                return True
            self._end(reply.of_ops(kept))
        except Stale:
            self.abandon()
        except asyncio.CancelledError:  # by a timeout around the step: what has run must not be lost
            self._end(reply.of_ops(kept))
            raise
        finally:
            self._running -= 1
        return False

    async def _flush_and_end(self, answer: Reply) -> None:
        if await self._flush():
            self._end(answer)

    def _flush_then(self, answer: Reply, merge: bool) -> None:
        """Answer, after what is kept has been posted; or with it, if it may stand in the same answer."""
        if not self._saved_here:
            self._end(answer)
        elif merge and answer.status == 206:
            body = answer.body
            kept = b",".join(self._take())
            self._end(msgspec.structs.replace(answer, body=b"[" + kept + b"," + body[1:]))
        else:
            self._running += 1
            self.spawn(self._flush_and_end(answer))
