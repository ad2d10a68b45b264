"""Logging that knows the run and the step, and does not repeat itself.

Code between steps is run again by every call of a run, and would log the same lines again. A logger made here says
nothing while the function is on its way through saved steps. Lines of the standard library's loggers can be
held back in the same way where they are handled, by `LogContext`.

What is logged in functions (INFO and above) is also shown on the run by servers that take it. It is caught where
the standard library makes its records, so that it does not matter which handlers there are, or whether there are
any.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from perdure.sdk.strands import CURRENT, IN_STEP

SENT_FROM = logging.INFO
"""Lines below this level stay where they are."""
OWN = "perdure"
"""The SDK's own logger: what it says is for whoever runs the app."""


class FunctionLogger(logging.Logger):
    """A logger in front of the standard library's of the same name, whose level and handlers it uses."""

    def __init__(self, target: logging.Logger) -> None:
        super().__init__(target.name)
        self.parent = self._target = target

    def isEnabledFor(self, level: int) -> bool:
        """Whether somebody will read it: a handler, or whoever looks at the run."""
        call = CURRENT.get()
        if call is not None:
            if IN_STEP.get() is None and call.replaying:
                return False
            if call.step_logs is not None and level >= SENT_FROM and level > self.manager.disable:
                return True
        return self._target.isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        """Give a record to the handlers, if its level is enough for them."""
        if self._target.isEnabledFor(record.levelno):
            self._target.handle(record)

    # What is set on it is set on the logger behind it, as if it was that.

    def setLevel(self, level: int | str) -> None:
        """Set the level of the logger of this name."""
        self._target.setLevel(level)

    def getEffectiveLevel(self) -> int:
        """The level of the logger of this name, or of one above it."""
        return self._target.getEffectiveLevel()

    def addHandler(self, hdlr: logging.Handler) -> None:
        """Add a handler to the logger of this name."""
        self._target.addHandler(hdlr)

    def removeHandler(self, hdlr: logging.Handler) -> None:
        """Remove a handler from it."""
        self._target.removeHandler(hdlr)

    def addFilter(self, filter: Any) -> None:
        """Add a filter to it."""
        self._target.addFilter(filter)

    def removeFilter(self, filter: Any) -> None:
        """Remove a filter from it."""
        self._target.removeFilter(filter)

    def __reduce__(self) -> tuple[Callable[[str], logging.Logger], tuple[str]]:
        return logger, (self.name,)


def logger(name: str | None = None) -> logging.Logger:
    """A logger for functions and for what they call: as `logging.getLogger`, but silent while saved steps are
    passed, and shown on the run.

    `name` is by default that of the module that asks for it. Outside of functions it is an ordinary logger.
    """
    if name is None:
        name = str(sys._getframe(1).f_globals.get("__name__", "root"))
    return FunctionLogger(logging.getLogger(name))


class LogContext(logging.Filter):
    """Gives records `run_id`, `function_id`, `step_id` and `attempt`, and holds back repeated ones.

    Add it to a handler, `handler.addFilter(perdure.LogContext())`, and a format may name them: `%(run_id)s`. Outside
    of functions they are empty (`attempt` 0). With OpenTelemetry in the process there are `trace_id` and `span_id`
    as well.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        call, key = CURRENT.get(), IN_STEP.get()
        if call is not None and key is None and call.replaying and not _is_own(record.name):
            return False
        found: dict[str, Any] = {"run_id": "", "function_id": "", "step_id": "", "attempt": 0}
        if call is not None:
            found = {"run_id": call.job.run_id, "function_id": call.slug, "attempt": call.job.attempt}
            found["step_id"] = "" if key is None else key.step_id
        found.update(_trace())
        for name, value in found.items():
            record.__dict__.setdefault(name, value)
        return True


def _trace() -> dict[str, str]:
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return {}
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {"trace_id": "", "span_id": ""}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _is_own(name: str) -> bool:
    return name == OWN or name.startswith(f"{OWN}.")


class _Catching:
    """Makes the records of the standard library, and tells of those made in functions."""

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        call = CURRENT.get()
        if call is not None and call.step_logs is not None and record.levelno >= SENT_FROM:
            key = IN_STEP.get()
            if (key is not None or not call.replaying) and not _is_own(record.name):
                call.step_logs.line(call, key, record)
        return record


def catch_records() -> None:
    """Have records caught from now on; once is enough."""
    current = logging.getLogRecordFactory()
    if not isinstance(current, _Catching):
        logging.setLogRecordFactory(_Catching(current))
