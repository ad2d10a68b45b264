"""What can be wrong in a test. All are AssertionErrors, so a test fails by them; each text says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Failure(AssertionError):
    """Root of what `perdure.testing` raises. The text has the timeline of the run where there is one."""


class NotSettled(Failure):
    """What was begun comes to no end: it runs in circles, or waits for something that virtual time cannot bring."""


class UnexpectedRequest(Failure):
    """A function asked for a request (`step.fetch`, `step.ai.infer`) that the test has no answer for."""


class UnknownStep(Failure):
    """There is no step, or no function, of that name."""


class Differs(Failure):
    """Code does something else than a recorded run did."""


def near(name: str, known: Iterable[str]) -> str:
    """What somebody may have meant, as a sentence with a space before it; nothing if nothing is known."""
    names = list(dict.fromkeys(known))
    if not names:
        return ""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f" Did you mean {_quoted(close)}?"
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f" There are: {_quoted(names[:20])}{more}."


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
