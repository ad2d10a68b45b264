"""What stands in for the outside world: for the code of steps, for requests, and for whole functions."""

from __future__ import annotations

import inspect
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from perdure.sdk import codec
from perdure.sdk.call import Call, Step
from perdure.sdk.function import Function
from perdure.testing.failures import UnknownStep, near


class _Unset:
    """Stands for a value that was not given."""

    def __repr__(self) -> str:
        return "…"


UNSET: Any = _Unset()
"""Default of `returns`: None may be what a step returns."""


class OutsideRequest(msgspec.Struct, frozen=True):
    """A request that the server was asked to make, as `side_effect` gets it. Header names are as the code has them."""

    url: str
    method: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return msgspec.json.decode(self.body)


class StepCall(NamedTuple):
    """One time that a stand-in was asked: the arguments of the step's code, the run, and the attempt from 0."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    run_id: str
    attempt: int


class StepMock:
    """Stands in for a step of a function. `calls` says how it was asked, in order."""

    def __init__(
        self,
        slug: str,
        step_id: str,
        *,
        returns: Any = UNSET,
        raises: BaseException | type[BaseException] | None = None,
        side_effect: Callable[..., Any] | None = None,
        times: int | None = None,
    ) -> None:
        given = [returns is not UNSET, raises is not None, side_effect is not None]
        if sum(given) > 1:
            raise ValueError(
                f'The stand-in for step "{step_id}" gets one of returns, raises and side_effect, not several.'
            )
        self.slug = slug
        self.step_id = step_id
        self.calls: list[StepCall] = []
        self._returns = None if returns is UNSET else returns
        self._raises = raises
        self._side_effect = side_effect
        self._times = times

    def __repr__(self) -> str:
        return f"<stand-in for {self.slug} {self.step_id!r}, asked {len(self.calls)} times>"

    @property
    def called(self) -> bool:
        """Whether it was asked at all."""
        return bool(self.calls)

    @property
    def spent(self) -> bool:
        """Whether it has stood in as often as it should."""
        return self._times is not None and len(self.calls) >= self._times

    def answer(self, asked: StepCall) -> Any:
        """What comes of being asked; perhaps to be awaited."""
        self.calls.append(asked)
        if self._raises is not None:
            raise _fresh(self._raises)
        return self._returns if self._side_effect is None else self._side_effect(*asked.args, **asked.kwargs)


class FunctionMock:
    """Stands in for a whole function. `calls` has the data that it was started with, in order."""

    def __init__(
        self,
        slug: str,
        returns: Any,
        raises: BaseException | type[BaseException] | None,
        side_effect: Callable[[Any], Any] | None,
    ) -> None:
        self.slug = slug
        self.calls: list[Any] = []
        self._returns = None if returns is UNSET else returns
        self._raises = raises
        self._side_effect = side_effect

    @property
    def called(self) -> bool:
        """Whether it was started at all."""
        return bool(self.calls)

    def answer(self, data: Any) -> bytes:
        """What it returns, as JSON. Raises what it is to raise."""
        self.calls.append(data)
        if self._raises is not None:
            raise _fresh(self._raises)
        value = self._returns if self._side_effect is None else self._side_effect(data)
        return codec.encode(value, f"What the stand-in for {self.slug} returned")


def _fresh(error: BaseException | type[BaseException]) -> BaseException | type[BaseException]:
    """An exception without the traces of an earlier time that it was raised."""
    if isinstance(error, BaseException):
        error.__context__ = None
        return error.with_traceback(None)
    return error


class Mocks:
    """All stand-ins of a test. Implements `sdk.standing_in.StandIns`."""

    def __init__(self) -> None:
        self._steps: defaultdict[tuple[str, str], list[StepMock]] = defaultdict(list)
        self.functions: dict[str, FunctionMock] = {}
        self.reached: defaultdict[str, dict[str, None]] = defaultdict(dict)
        """Ids of steps that were run, by function."""
        self.running: defaultdict[str, weakref.WeakSet[Call]] = defaultdict(weakref.WeakSet)
        """Calls in which steps have run, by run."""

    def add(self, mock: StepMock) -> StepMock:
        """Let it stand in, before those that came earlier."""
        self._steps[mock.slug, mock.step_id].insert(0, mock)
        return mock

    def of(self, slug: str, step_id: str) -> StepMock | None:
        """What stands in for a step now."""
        found = self._steps.get((slug, step_id), ())
        return next((mock for mock in found if not mock.spent), None)

    def has_any(self, slug: str) -> bool:
        """Whether something stands in for a step of this function."""
        return any(mocked == slug for mocked, _ in self._steps)

    def code_for(self, call: Call, step: Step, code: Callable[..., Any]) -> Callable[..., Any]:
        """What runs in the place of a step's code."""
        slug, step_id = call.function.slug, step.key.step_id
        self.running[call.job.run_id].add(call)
        self.reached[slug][step_id] = None
        mock = self.of(slug, step_id)
        if mock is None:
            return code
        run_id, attempt = call.job.run_id, call.job.attempt

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return mock.answer(StepCall(args, kwargs, run_id, attempt))

        async def stand_in_async(*args: Any, **kwargs: Any) -> Any:
            value = mock.answer(StepCall(args, kwargs, run_id, attempt))
            return await value if inspect.isawaitable(value) else value

        return stand_in_async if call.function.is_async else stand_in

    def misspelt(self) -> list[UnknownStep]:
        """Stand-ins that nobody asked, for steps whose id is nearly that of one which was run."""
        found = []
        for (slug, step_id), mocks in self._steps.items():
            if step_id in self.reached[slug] or any(mock.called for mock in mocks):
                continue
            hint = near(step_id, self.reached[slug])
            if hint.startswith(" Did you mean"):
                found.append(UnknownStep(f'No run of {slug} came to a step "{step_id}".{hint}'))
        return found


def check_step_id(function: Function[Any, Any], step_id: str) -> None:
    """Raises `UnknownStep` if a function's own code has no such text, but one that is nearly the same.

    Ids may be used in helpers or made at run time (f"page-{n}"), so what is merely not found is let through.
    """
    known = {text for text in _texts(function.handler) if 1 < len(text) < 100}
    if step_id in known or any(_may_begin(text, step_id) for text in known):
        return
    hint = near(step_id, sorted(known))
    if hint.startswith(" Did you mean"):
        raise UnknownStep(f'{function.slug} has no step "{step_id}" in its code.{hint}')


def _may_begin(text: str, step_id: str) -> bool:
    """Whether a text looks like the beginning of an id that is made at run time."""
    rest = step_id.removeprefix(text)
    return rest != step_id and (not text[-1].isalnum() or rest[:1].isdigit())


def _texts(handler: Callable[..., Any]) -> set[str]:
    """The texts in the code of a function and of those inside of it."""
    code = getattr(inspect.unwrap(handler), "__code__", None)
    found: set[str] = set()
    waiting = [code] if code is not None else []
    while waiting:
        for const in waiting.pop().co_consts:
            if isinstance(const, str):
                found.add(const)
            elif inspect.iscode(const):
                waiting.append(const)
    return found
