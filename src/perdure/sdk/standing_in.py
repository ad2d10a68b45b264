"""What runs in the place of a step's code: in tests, whatever stands in for a model, a bank or a mailbox."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any, Protocol

from perdure.sdk.call import Call, Step


class StandIns(Protocol):
    """Knows what stands in for which step."""

    def code_for(self, call: Call, step: Step, code: Callable[..., Any]) -> Callable[..., Any]:
        """What to run: `code` itself, or something else that takes the same arguments."""


STAND_INS: contextvars.ContextVar[StandIns | None] = contextvars.ContextVar("perdure_stand_ins", default=None)
"""Set around the start of a call; the function's tasks and threads inherit it."""


def stand_in(call: Call, step: Step, code: Callable[..., Any]) -> Callable[..., Any]:
    """The code that a step runs."""
    stand_ins = STAND_INS.get()
    return code if stand_ins is None else stand_ins.code_for(call, step, code)
