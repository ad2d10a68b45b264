"""What a test server knows and how it is told what to stand in for: the same for async and sync tests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, overload

from perdure.sdk import codec, world
from perdure.sdk.app import App
from perdure.sdk.durations import Moment, moment_ms
from perdure.sdk.errors import UsageError
from perdure.sdk.events import Event, read_event
from perdure.sdk.function import Function
from perdure.testing.engine import Engine
from perdure.testing.failures import UnknownStep, near
from perdure.testing.mocks import UNSET, FunctionMock, StepMock, check_step_id
from perdure.testing.runs import Run, Status, event_in

Out = TypeVar("Out")
PATIENCE_S = 5.0
AnyFunction = Function[Any, Any]


class Looking:
    """Root of `Server` and `SyncServer`. Nothing here lets anything happen."""

    def __init__(
        self,
        *apps: App,
        now: Moment | None = None,
        patience: float = PATIENCE_S,
        schedules: bool = True,
    ) -> None:
        """A server for these apps.

        `now` is what its clock shows at first (default: the real time). `patience` is how many seconds of real time
        a step may take in which nothing else happens. Without `schedules` functions are not started by their crons.
        """
        if not apps or not all(isinstance(app, App) for app in apps):
            raise UsageError("A test server needs the apps to run, such as perdure.testing.Server(app).")
        ms = world.now_ms() if now is None else moment_ms(now, "now")
        self._engine = Engine(apps, now_ms=ms, patience=patience, schedules=schedules)

    @property
    def now(self) -> datetime:
        """The time, in UTC. It stands still but for `advance`."""
        return self._engine.clock.moment

    @overload
    def runs(self, function: Function[Any, Out], *, status: Status | None = None) -> list[Run[Out]]: ...
    @overload
    def runs(self, function: str | None = None, *, status: Status | None = None) -> list[Run[Any]]: ...
    def runs(
        self, function: AnyFunction | str | None = None, *, status: Status | None = None
    ) -> list[Run[Any]]:
        """The runs there are, in the order in which they began; those of one function, in one status."""
        if not self._engine.started:
            return []
        slug = None if function is None else self.slug(function)
        found = [Run[Any](self._engine, run_id) for run_id in self._engine.runs()]
        return [
            run for run in found if slug in (None, run.function) and (status is None or run.status == status)
        ]

    def run(self, run_id: str) -> Run[Any]:
        """A run by its id. Raises `UnknownStep` if there is none."""
        found = Run[Any](self._engine, run_id)
        found._whole  # noqa: B018  (raises)
        return found

    def events(self, name: str | None = None) -> list[Event[Any]]:
        """The events that came, whoever sent them, in their order and with plain data; those of one name."""
        if not self._engine.started:
            return []
        return [
            read_event(event_in(self._engine.chain, event.body), codec.plain)
            for event in self._engine.reads.events()
            if (not event.internal if name is None else event.name == name)
        ]

    def timeline(self) -> str:
        """What happened to all runs, for people."""
        return "\n\n".join(run.timeline() for run in self.runs())

    # What stands in for the world

    def mock_step(
        self,
        function: AnyFunction | str,
        step_id: str,
        *,
        returns: Any = UNSET,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[..., Any] | None = None,
        times: int | None = None,
    ) -> StepMock:
        """Let something stand in for a step: its code is not run.

        It gives `returns`, or raises `raises`, or calls `side_effect` with the arguments of the step's code (of a
        `step.fetch` or `step.ai.infer` with an `OutsideRequest`, of an invoke with the data). With `times` only so
        often, and then the step is run as it is. Of several the newest comes first. What comes back is of the type that
        the step has in the function, and has to be JSON, as always.
        """
        slug = self.slug(function)
        known = self._engine.function(slug)
        if known is not None:
            check_step_id(known, step_id)
        mock = StepMock(slug, step_id, returns=returns, raises=raises, side_effect=side_effect, times=times)
        return self._engine.mocks.add(mock)

    def fail_step(
        self,
        function: AnyFunction | str,
        step_id: str,
        *,
        times: int = 1,
        error: BaseException | type[BaseException] | None = None,
    ) -> StepMock:
        """Let a step fail so often, by `error` (default: a RuntimeError), and then run as it is."""
        raised = error or RuntimeError(f'The test lets "{step_id}" fail.')
        return self.mock_step(function, step_id, raises=raised, times=times)

    def mock_function(
        self,
        function: AnyFunction | str,
        *,
        returns: Any = UNSET,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[[Any], Any] | None = None,
    ) -> FunctionMock:
        """Let something stand in for a whole function, of these apps or (by its slug) of another app.

        Whoever starts or invokes it gets `returns`, or what `side_effect` gives for the data, or the error `raises`.
        """
        slug = self.slug(function, foreign=True)
        mock = FunctionMock(slug, returns, raises, side_effect)
        self._engine.mocks.functions[slug] = mock
        self._engine.serve_foreign(slug)
        return mock

    def slug(self, function: AnyFunction | str, *, foreign: bool = False) -> str:
        """The slug of a function that is given as such, by its slug or by its id. Raises `UnknownStep`."""
        slugs = [slug for app in self._engine.apps for slug in app.functions]
        if isinstance(function, Function):
            if function.slug in slugs or foreign:
                return function.slug
            raise UnknownStep(
                f"{function.slug} belongs to an app that this test server does not run. Give it both: "
                "perdure.testing.Server(app, other)."
            )
        for app in self._engine.apps:
            for slug, known in app.functions.items():
                if function in (slug, known.id):
                    return slug
        if foreign or function in self._engine.mocks.functions:
            return function
        raise UnknownStep(f'There is no function "{function}".{near(function, slugs)}')

    def _check_stand_ins(self) -> None:
        """Raises what went wrong and nobody has seen."""
        for trouble in [*self._engine.troubles, *self._engine.mocks.misspelt()]:
            raise trouble
