"""What steps have logged, as `perdure run ID --logs` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import tzinfo

import msgspec

from perdure.protocol.durations import parse_time
from perdure.terminal import printing
from perdure.terminal.client import Client
from perdure.terminal.records import LogLine, StepReport
from perdure.terminal.text import Line, Piece, Tone, clean, clock_time, fitted, line, padded

_TONES: dict[str, Tone] = {"WARNING": "busy", "ERROR": "bad", "CRITICAL": "bad"}
_LEVEL = 8
"""Columns of a level: CRITICAL."""


class Follower:
    """Reads the lines of a run, each once."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._after = 0
        self.steps: Sequence[StepReport] = ()
        """The reports that came with the last lines."""

    def new(self) -> list[LogLine]:
        """The lines that are there now and were not at the last time."""
        found: list[LogLine] = []
        more = True
        while more:
            page = self._client.logs(self._run_id, self._after)
            self.steps = page.steps
            found += page.lines
            self._after = page.lines[-1].n if page.lines else self._after
            more = page.more and bool(page.lines)
        return found


def shown(
    lines: Sequence[LogLine],
    steps: Sequence[StepReport],
    now: int,
    width: int | None,
    zone: tzinfo | None = None,
) -> list[Line]:
    """Lines as they are printed: the time, the level, the step, and what was said, which may take several."""
    names = {report.step: report.name for report in steps}
    made = [one for given in lines for one in _shown(given, names.get(given.step, ""), now, zone)]
    return made if width is None else [fitted(pieces, width) for pieces in made]


def dropped(steps: Sequence[StepReport]) -> list[Line]:
    """Of which steps there was more than is kept."""
    return [
        line(Piece(f"{report.dropped_lines} lines of {clean(report.name) or 'the function'} were over the limit and "
                   "are not kept", "busy"))
        for report in steps
        if report.dropped_lines
    ]  # fmt: skip


def _shown(given: LogLine, name: str, now: int, zone: tzinfo | None) -> Iterator[Line]:
    first, *rest = given.message.splitlines() or [""]
    time = clock_time(parse_time(given.at), now, zone)
    head = f"{time}  "
    attempt = f" ({given.attempt})" if given.attempt else ""
    where = f"{clean(name)}{attempt}  " if name else ""
    pieces = line(
        Piece(head, "dim"),
        Piece(padded(clean(given.level), _LEVEL), _TONES.get(given.level, "")),
        "  ",
        Piece(where, "strong"),
        clean(first),
    )
    if bytes(given.fields) != b"null":
        pieces.append(Piece(f"  {msgspec.json.format(bytes(given.fields), indent=0).decode()}", "dim"))
    yield pieces
    margin = " " * (len(head) + _LEVEL + 2)
    for text in rest:
        yield line(margin, Piece(_indented(text), "dim"))


def _indented(text: str) -> str:
    inner = text.lstrip(" ")
    return " " * (len(text) - len(inner)) + clean(inner)


def show(client: Client, run_id: str, now: int) -> None:
    """Print all lines of a run."""
    follower = Follower(client, run_id)
    lines = follower.new()
    if not lines:
        printing.show([[], line(Piece("Its steps have logged nothing that reached the server.", "dim"))])
        return
    printing.show([[], *shown(lines, follower.steps, now, printing.width()), *dropped(follower.steps)])
