"""What a replay finds: the first difference between a recorded run and the code as it is now, in words."""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.testing.failures import Differs
from perdure.testing.recording import RecordedStep
from perdure.testing.run_steps import RunError

Kind = Literal["renamed", "order", "missing", "new", "output", "end"]


class Difference(msgspec.Struct, frozen=True):
    """The first thing that the code does otherwise, after `after` recorded steps.

    `kind` is `renamed` (the code comes to a step that the recording has not, in the place of one that it has),
    `order` (to one that comes later), `missing` (the code ends without coming to a recorded step), `new` (it comes to
    one more step), `output` (it returns something else) or `end` (it fails where the run had returned, or the other way
    round, or ends where the run was under way). `recorded` and `found` are the two sides, in words.
    """

    kind: Kind
    after: int
    recorded: str
    found: str
    text: str

    def __str__(self) -> str:
        return self.text


class Replay(msgspec.Struct, frozen=True):
    """What came of a replay. `steps` are the ids of the recorded steps that the code came to, before a difference."""

    function: str
    steps: list[str]
    difference: Difference | None = None

    @property
    def same(self) -> bool:
        """Whether the code does what the recording says."""
        return self.difference is None

    def __str__(self) -> str:
        lines = [f"{'✓' if self.same else '✗'} {self.function}, replayed"]
        lines += [f"  ✓ {step}" for step in self.steps]
        if self.difference is not None:
            lines.append(f"  ✗ {self.difference}")
        return "\n".join(lines)

    def assert_same(self) -> None:
        """Raises `Differs` with the first difference, if there is one."""
        if self.difference is not None:
            raise Differs(str(self))


class Told(msgspec.Struct):
    """What a call came to: steps (hash to id) it stands at, or its end."""

    steps: dict[str, str]
    ended: bool
    planned: list[str] = []
    output: bytes = b"null"
    error: RunError | None = None

    def __str__(self) -> str:
        if self.error is not None:
            return f"fails with {self.error}"
        if self.ended:
            return f"returns {_short(self.output)}"
        if not self.steps:
            return "comes to no step, and does not end"
        return f"comes to {listed(list(self.steps.values()))}"


def new_step(count: int, names: list[str]) -> Difference:
    """The code comes to steps that the recording has not."""
    what = listed(names)
    found = f"comes to {what}"
    text = (
        f"After {count} recorded steps the code comes to {what}, which the recording has not. It was not run; "
        "results={...} gives it a result, and the replay goes on."
    )
    return Difference("new", count, "has no such step", found, text)


def place_after(steps: list[RecordedStep]) -> str:
    """Where in a run: after these steps."""
    if not steps:
        return "At its beginning"
    return f'After {len(steps)} recorded steps (the last is "{steps[-1].name}")'


def in_the_past(recorded: Told) -> str:
    """How the recorded run ended."""
    return f"failed with {recorded.error}" if recorded.error else f"returned {_short(recorded.output)}"


def listed(names: list[str]) -> str:
    """Ids of steps in a sentence."""
    return ", ".join(f'"{name}"' for name in names)


def _short(raw: bytes) -> str:
    text = msgspec.json.format(raw, indent=-1).decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:199]}…"
