"""The test server for async tests: an engine on the test's own event loop."""

from __future__ import annotations

from types import TracebackType
from typing import Any, TypeVar, cast, overload

import msgspec

from perdure.core.model import FromStep
from perdure.protocol.events import internal_event
from perdure.protocol.ids import hash_step_id, new_ulid
from perdure.protocol.lifecycle import INVOKED, Invocation, invoked_event_data
from perdure.sdk import codec
from perdure.sdk.durations import Duration, Moment, milliseconds, moment_ms
from perdure.sdk.errors import UsageError
from perdure.sdk.events import Event, Trigger, as_event
from perdure.sdk.function import Function
from perdure.sdk.middleware import Payload
from perdure.shard.commands import CancelRun, ReceiveEvents, Rerun
from perdure.testing.clock import shown
from perdure.testing.failures import Failure, NotSettled, near
from perdure.testing.looking import AnyFunction, Looking
from perdure.testing.mocks import UNSET
from perdure.testing.runs import Run

In = TypeVar("In")
Out = TypeVar("Out")

MOST_MOMENTS = 10_000
"""So many moments are gone through in the hope that a run ends."""


class Server(Looking):
    """Runs apps in the test's process, on a clock that stands still until the test moves it.

        async with perdure.testing.Server(app) as server:
            (run,) = await server.send(Order(id=1))
            await server.advance("1h")
            assert run.output == "receipt-1"

    Each action comes back when everything that needs no time has happened.
    """

    async def __aenter__(self) -> Server:
        self._engine.open()
        await self._engine.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._engine.close()
        if error is None:
            self._check_stand_ins()

    async def send(self, *events: object) -> list[Run[Any]]:
        """Send events, as `app.send` does; the runs that they started.

        Raises `Failure` if an event is of no use to anybody, and `SendError` if the server refuses it.
        """
        await self._engine.start()
        flat = [one for given in events for one in (given if isinstance(given, list | tuple) else [given])]
        for event in flat:
            self._check_of_use(as_event(event))
        ids = await self._engine.apps[0].send(*flat)
        await self._engine.settle()
        return self._runs_of(ids)

    @overload
    async def start(self, function: Function[In, Out], data: In, /) -> Run[Out]: ...
    @overload
    async def start(self, function: Function[Any, Out], /) -> Run[Out]: ...
    async def start(self, function: Function[Any, Any], data: Any = UNSET, /) -> Run[Any]:
        """Start a function with data, and give its run: by the event that triggers it, so that other functions of that
        event start too; one without such a trigger (a schedule, or nothing) directly.

        Raises `Failure` if it does not start.
        """
        await self._engine.start()
        slug = self.slug(function)
        trigger = next(
            (one for one in function.triggers if "event" in one.wire and "*" not in one.name), None
        )
        given = {} if data is UNSET else data
        if trigger is None:
            event_id = await self._invoke(slug, given)
        else:
            (event_id,) = await self._engine.apps[0].send(Event(trigger.name, given))
        await self._engine.settle()
        for run in self._runs_of([event_id]):
            if run.function == slug:
                return run
        raise Failure(self._why_not_started(function, trigger))

    async def settle(self) -> None:
        """Let everything happen that needs no time: after events that others have sent, such as a web app."""
        await self._engine.start()
        await self._engine.settle()

    async def advance(self, by: Duration) -> None:
        """Let time pass: `"30d"`, a timedelta, or seconds.

        What is due meanwhile (sleeps, retries, timeouts, schedules) happens in its order, each at its own time.
        """
        await self._engine.start()
        await self._engine.advance(milliseconds(by, "advance"))

    async def advance_to(self, moment: Moment) -> None:
        """The same, to a moment."""
        ms = moment_ms(moment, "advance_to") - self._engine.clock.ms
        if ms < 0:
            raise UsageError(
                f"advance_to: it is {shown(self._engine.clock.ms)} already, and time goes on only."
            )
        await self._engine.start()
        await self._engine.advance(ms)

    async def finish(self, run: Run[Out]) -> Run[Out]:
        """Let time pass until a run has ended: from one moment to the next at which something is due."""
        await self._engine.settle()
        for _ in range(MOST_MOMENTS):
            if run.ended:
                return run
            due = await self._engine.next_due()
            if due is None:
                raise NotSettled(f"The run never ends: nothing is to come.\n\n{run.timeline()}")
            await self._engine.move_to(due)
        raise NotSettled(f"The run has not ended after {MOST_MOMENTS:,} moments.\n\n{run.timeline()}")

    async def signal(self, name: str, data: object = None) -> Run[Any]:
        """Give a signal to the run that waits for it, and give that run. Raises `Failure` if none does."""
        await self._engine.start()
        raw = codec.encode(data, f'The data of the signal "{name}"')
        woken = await self._engine.apps[0].sender.signal(name, msgspec.Raw(raw))
        await self._engine.settle()
        if woken is None:
            known = [wait.name for run in self.runs() for wait in run.waits if wait.kind == "signal"]
            raise Failure(f'No run waits for the signal "{name}".{near(name, known)}')
        return Run(self._engine, woken)

    async def cancel(self, run: Run[Any]) -> None:
        """Cancel a run. One that has ended stays as it is."""
        await self._engine.ask(CancelRun(run=run.id))
        await self._engine.settle()

    async def rerun(self, run: Run[Out], from_step: str | None = None) -> Run[Out]:
        """Run a run again from its events, as a new run; from a step on, with the results of those before it."""
        start = None
        if from_step is not None:
            step = run.step(from_step)
            start = FromStep(hash_step_id(step.id, step.index), step.id)
        new = await self._engine.ask(Rerun(run=run.id, from_step=start))
        await self._engine.settle()
        return cast("Run[Out]", Run(self._engine, str(new)))

    # How it does that

    async def _invoke(self, slug: str, data: object) -> str:
        engine = self._engine
        function = engine.shard.state.functions.find(slug)
        assert function is not None
        now = engine.clock.now()
        event_id = new_ulid(now, engine.entropy(10))
        raw = codec.encode(data, f"The data for {slug}")
        own = engine.function(slug)
        if own is not None and own.chain is not None:
            raw = own.chain.outgoing(raw, Payload("event", slug))
        raw = invoked_event_data(raw, Invocation(fn_id=slug))
        event = internal_event(INVOKED, raw, event_id, event_id, now)
        await engine.ask(ReceiveEvents(events=[event], received_at=now, internal=True, target=function.id))
        return event_id

    def _runs_of(self, ids: list[str]) -> list[Run[Any]]:
        found = {run_id for event_id in ids for run_id in self._engine.reads.runs_of_event(event_id)}
        return [Run(self._engine, run_id) for run_id in self._engine.runs() if run_id in found]

    def _check_of_use(self, event: Event[Any]) -> None:
        """Raises `Failure` if no function is started or cancelled by an event, and no run waits for it."""
        functions = [one for app in self._engine.apps for one in app.functions.values()]
        if any(trigger.matches(event.name) for one in functions for trigger in one.triggers):
            return
        cancels = {cancel["event"] for one in functions for cancel in one.options.get("cancel", ())}
        waits = {wait.name for run in self.runs(status="running") for wait in run.waits}
        if event.name in cancels | waits:
            return
        known = {trigger.name for one in functions for trigger in one.triggers} | cancels | waits
        raise Failure(
            f'The event "{event.name}" starts no function, cancels none, and no run waits for it.'
            f"{near(event.name, sorted(known))}"
        )

    def _why_not_started(self, function: AnyFunction, trigger: Trigger[Any] | None) -> str:
        told = ", ".join(sorted(set(function.options) & _HOLDING))
        condition = "" if trigger is None else trigger.wire.get("expression", "")
        why = f" Its trigger has the condition {condition!r}." if condition else ""
        why += f" It has the options {told}: perhaps its run begins later, after `advance`." if told else ""
        return f"{function.slug} has not started.{why}"


_HOLDING = frozenset(("debounce", "batchEvents", "rateLimit", "singleton", "idempotency", "throttle"))
