"""A run as text: what a failed assertion shows."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.protocol.durations import SECOND, format_duration
from perdure.testing.clock import shown

if TYPE_CHECKING:
    from perdure.testing.run_steps import RunStep
    from perdure.testing.runs import Run, Wait

SIGNS = {
    "queued": "○",
    "running": "●",
    "waiting": "●",
    "completed": "✓",
    "failed": "✗",
    "cancelled": "⊘",
    "skipped": "⊘",
}
WIDTH = 100


def draw(run: Run[Any], now: int, began: int) -> str:
    """What happened to a run. `now` and `began` are ms since the epoch."""
    lines = [f"{SIGNS[run.status]} {run.function} {run.status}"]
    lines += [f"  event   {event.name} {_short(event.data)}" for event in run.events]
    ahead = f", {_length(now - began)} later" if now > began else ""
    lines.append(f"  began   {shown(began)}; it is {shown(now)}{ahead}")
    steps = run.steps
    width = max((len(_name(step)) for step in steps), default=0)
    column = max((len(_when(step.ended_at, began)) for step in steps), default=0)
    for step in steps:
        lines += _step(step, width, column, began)
    lines += [f"  waits   {_wait(wait)}" for wait in run.waits]
    if run.status == "completed":
        lines.append(f"  output  {_short(run.output)}")
    if run.error is not None:
        lines.append(f"  error   {_cut(str(run.error))}")
        lines += _last_lines(run.error.stack)
    return "\n".join(lines)


def _step(step: RunStep, width: int, column: int, began: int) -> list[str]:
    head = f"  {_when(step.ended_at, began):>{column}} {SIGNS[step.status]} {_name(step):<{width}}  {step.kind:<8}"
    lines = [f"{head} {_outcome(step)}".rstrip()]
    failed = [one for one in step.attempts if one.error is not None]
    if len(step.attempts) > 1 or (failed and step.error is None):
        lines += [
            f"  {'':{column}}   attempt {one.number + 1} at {_when(one.at, began)}: {_cut(str(one.error))}"
            for one in failed
        ]
    return lines


def _name(step: RunStep) -> str:
    return f"{step.id} #{step.index}" if step.index else step.id


def _outcome(step: RunStep) -> str:
    if step.error is not None:
        return _cut(str(step.error))
    if step.status == "completed":
        if step.kind == "sleep":
            return ""
        return "nothing came in time" if step.timed_out else _short(step.output)
    return step.status


def _wait(wait: Wait) -> str:
    what = f"{wait.kind} {wait.name}".strip()
    step = f" in {wait.step}" if wait.step else ""
    condition = f" if {wait.expression}" if wait.expression else ""
    return f"{what}{step}{condition}, until {wait.until:%Y-%m-%d %H:%M:%S}"


def _when(at: datetime | None, began: int) -> str:
    return "" if at is None else f"+{_length(max(0, round(at.timestamp() * 1000) - began))}"


def _length(ms: int) -> str:
    """A length of time; beside many seconds nobody cares about milliseconds."""
    return format_duration(ms if ms < 10 * SECOND else ms - ms % SECOND) or "0s"


def _short(value: object) -> str:
    try:
        text = msgspec.json.encode(value, enc_hook=_plain).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):
        text = repr(value)
    return _cut(text)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else repr(value)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def _last_lines(stack: str | None) -> list[str]:
    """The end of a traceback: the line that raised."""
    lines = [line.strip() for line in (stack or "").splitlines() if line.strip()]
    last = max((place for place, line in enumerate(lines) if line.startswith("File ")), default=None)
    if last is None:
        return []
    shown = [line for line in lines[last : last + 3] if set(line) - set("^~ ")]
    return [f"          {line}" for line in shown[:2]]
