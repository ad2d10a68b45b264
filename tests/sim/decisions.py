"""Decisions that raise, as a mistake in the engine would: some while they find out what follows, some half-way
through carrying it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from perdure.core import planning
from perdure.shard import matching
from perdure.shard.state import State

PLANS = ("plan_reply", "plan_timer", "plan_checkpoint", "plan_request_answer")


class Mistake(Exception):
    """What a decision raises."""


@contextmanager
def mistakes(seed: int, probability: float, allowed: Callable[[], bool]) -> Iterator[None]:
    """Let decisions raise with a probability, while that is allowed."""
    if not probability:
        yield
        return
    random = Random(f"decisions {seed}")

    def breaking(real: Callable[..., Any], chance: float) -> Callable[..., Any]:
        def perhaps(*args: Any, **kwargs: Any) -> Any:
            if allowed() and random.random() < chance:
                raise Mistake(f"a mistake in {real.__name__}")
            return real(*args, **kwargs)

        return perhaps

    places: list[tuple[object, str, float]] = [(planning, name, probability) for name in PLANS]
    places += [(matching, "plan_match", probability), (State, "_save", probability / 2)]
    before = [(where, name, getattr(where, name)) for where, name, _ in places]
    try:
        for where, name, chance in places:
            setattr(where, name, breaking(getattr(where, name), chance))
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)
