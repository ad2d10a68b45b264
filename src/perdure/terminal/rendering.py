"""What the commands print for people: lists of runs, apps with their functions, what was sent.

Everything here is text from records: no clock, no terminal. `width` is that of the terminal in columns, and
None where nothing has to be cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.protocol.durations import parse_time
from perdure.terminal.records import App, Function, Run, Trigger
from perdure.terminal.text import Line, Piece, Tone, age, clean, cut, duration, fitted, line, table

UNCUT = 10_000
_SIGNS: dict[str, tuple[str, Tone]] = {
    "COMPLETED": ("✓", "good"),
    "FAILED": ("✗", "bad"),
    "CANCELLED": ("⊘", "dim"),
    "SKIPPED": ("⊘", "dim"),
    "RUNNING": ("●", "busy"),
    "WAITING": ("◌", "busy"),
    "QUEUED": ("○", "busy"),
}

_PAUSED = {"hold": "paused, new runs wait", "skip": "paused, new runs are skipped"}


def sign(status: str) -> Piece:
    """The mark of a status. Its word always stands somewhere near: colours and marks alone do not tell."""
    return Piece(*_SIGNS.get(status, ("?", "")))


def status_word(status: str) -> Piece:
    """Mark and word of a status, in its colour."""
    mark, tone = _SIGNS.get(status, ("?", ""))
    return Piece(f"{mark} {clean(status.lower())}", tone)


def took(started_at: str | None, ended_at: str | None, now: int) -> str:
    """How long something has taken, or takes already; "" before it has begun."""
    if started_at is None:
        return ""
    return duration(max(0, (parse_time(ended_at) if ended_at else now) - parse_time(started_at)))


def runs_table(runs: Sequence[Run], now: int, width: int | None) -> list[Line]:
    """A line for each run, newest first."""
    if not runs:
        return [line("There are no such runs.")]
    rows = [[Piece(head, "dim") for head in ("STATUS", "RUN", "AGE", "TOOK", "FUNCTION")]]
    fixed = 0
    for run in runs:
        row = [
            status_word(run.status),
            Piece(run.id),
            Piece(age(max(0, now - parse_time(run.queued_at)))),
            Piece(took(run.started_at, run.ended_at, now)),
        ]
        rows.append([*row, Piece(clean(run.function.name))])
    fixed = sum(max(len(row[n].text) for row in rows) + 2 for n in range(4))
    free = max(12, (width or UNCUT) - fixed)
    for row in rows:
        row[4] = Piece(cut(row[4].text, free), row[4].tone)
    return table(rows, right=frozenset((2, 3)))


def apps_list(apps: Sequence[App], width: int | None) -> list[Line]:
    """The apps, and below each one its functions with what starts them."""
    if not apps:
        return [
            line("No app is known. Start yours, or name it: perdure dev -u http://localhost:3000/api/inngest")
        ]
    lines: list[Line] = []
    for app in apps:
        if lines:
            lines.append([])
        lines += _app(app, width or UNCUT)
    return lines


def _indented(text: str, width: int) -> str:
    """A line with the spaces before it, since what stands there may point at the line above it."""
    spaces = len(text) - len(text.lstrip(" "))
    return " " * min(spaces, width) + cut(text.strip(), max(1, width - spaces))


def _app(app: App, width: int) -> list[Line]:
    sdk = f"{app.sdk_language} {app.sdk_version}".strip()
    heading = line(Piece(cut(app.name or app.url or app.id, 40), "strong"))
    for part in (app.url, sdk):
        if part:
            heading += line("  ", Piece(clean(part), "dim"))
    lines = [fitted(heading, width)]
    if app.error:
        first, *others = app.error.splitlines() or [""]
        lines.append(line("  ", Piece(cut(f"✗ its last sync failed: {first}", width - 2), "bad")))
        lines += [line("    ", Piece(_indented(text, width - 4), "bad")) for text in others]
    if not app.functions:
        lines.append(line("  ", Piece("no functions", "dim")))
        return lines
    functions = sorted(app.functions, key=lambda function: function.slug)
    rows = [[Piece(clean(function.slug)), Piece(_triggers(function), "dim")] for function in functions]
    longest = max(len(row[0].text) for row in rows)
    free = width - 2 - longest - 2
    if free >= 20:
        rows = [[slug, Piece(cut(triggers.text, free), "dim")] for slug, triggers in rows]
        return lines + [[Piece("  "), *row] for row in table(rows)]
    for slug, triggers in rows:
        lines += [
            line("  ", Piece(cut(slug.text, width - 2))),
            line("      ", Piece(cut(triggers.text, width - 6), "dim")),
        ]
    return lines


def _triggers(function: Function) -> str:
    texts = [_trigger(trigger) for trigger in function.triggers or []]
    told = ", ".join(texts) if texts else "invoked only"
    given = msgspec.json.decode(function.overrides, type=dict[str, msgspec.Raw] | None)
    if given:
        told = f"{', '.join(map(clean, given))} set by hand; {told}"
    return f"{_PAUSED.get(function.paused, function.paused)}; {told}" if function.paused else told


def _trigger(trigger: Trigger) -> str:
    text = f"cron {trigger.value}" if trigger.type == "CRON" else trigger.value
    return f"{text} if {trigger.condition}" if trigger.condition else text
