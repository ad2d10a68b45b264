"""`perdure clock`: where the clock of a development server stands, and travel in time."""

from __future__ import annotations

import click
import msgspec

from perdure.protocol.durations import parse_duration, parse_time
from perdure.terminal import printing
from perdure.terminal.arguments import make_client, server_options
from perdure.terminal.text import SECOND, Line, Piece, clean, date_and_time, duration, line, table

SHOWN_TIMERS = 10
"""Things that a move has brought about that are shown; `--json` has up to 100."""
NEXT = "next"


class Timer(msgspec.Struct):
    """Something that happens at a time."""

    due_at: str
    kind: str
    function: str | None = None
    run_id: str | None = None
    step: str | None = None


class Clock(msgspec.Struct):
    """The server's answer."""

    now: str
    ahead_ms: int
    next: Timer | None
    moved_ms: int | None = None
    happened: list[Timer] = []
    more_happened: bool = False


def _move(_: click.Context, __: click.Parameter, text: str | None) -> dict[str, str] | None:
    """What the server is asked for; None for no move."""
    if text is None:
        return None
    if text.strip().lower() == NEXT:
        return {"to": NEXT}
    wanted = text.strip().removeprefix("+")
    try:
        ms = parse_duration(wanted)
    except ValueError:
        raise click.BadParameter(
            f"{text[:60]!r} is neither {NEXT} nor a duration, like +30d or +1h30m."
        ) from None
    if ms < 0:
        raise click.BadParameter(f"{text[:60]!r} is negative; the clock can only be moved forward.")
    return {"by": wanted}


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("move", metavar="[+DURATION|next]", required=False, callback=_move)
@server_options
@printing.explained
def clock(move: dict[str, str] | None, url: str, signing_key: str | None, as_json: bool) -> None:
    """Show the server's clock and what is due next, or move it on: by a DURATION, or to what is due next.

    So a sleep of 30 days, a schedule or a retry can be tried at once. Only a development server without keys moves
    its clock, and never back.
    """
    client = make_client(url, signing_key)
    found = client.clock(move)
    if as_json:
        printing.show_json(found)
    else:
        printing.show(clock_lines(client.read(found, Clock)))


def clock_lines(clock: Clock) -> list[Line]:
    """The clock, for people."""
    now = parse_time(clock.now)
    lines: list[Line] = []
    if clock.moved_ms is not None:
        lines.append(_labelled("moved", Piece(duration(clock.moved_ms), "strong")))
        shown = table(
            [_row(timer, parse_time(timer.due_at) - now) for timer in clock.happened[:SHOWN_TIMERS]]
        )
        lines += [_labelled("due" if n == 0 else "", *pieces) for n, pieces in enumerate(shown)]
        left = len(clock.happened) - len(shown)
        if left or clock.more_happened:
            count = f"more than {left}" if clock.more_happened else str(left)
            lines.append(_labelled("", Piece(f"and {count} more", "dim")))
        if not shown:
            lines.append(_labelled("due", Piece("nothing came due in between", "dim")))
    ahead = f"{duration(clock.ahead_ms)} ahead" if clock.ahead_ms else "as the clock of the machine"
    lines.append(
        _labelled("clock", date_and_time(now, None), "  ", Piece(ahead, "busy" if clock.ahead_ms else "dim"))
    )
    if clock.next is None:
        lines.append(_labelled("next", Piece("nothing is to come", "dim")))
    else:
        (pieces,) = table([_row(clock.next, parse_time(clock.next.due_at) - now)])
        lines.append(_labelled("next", *pieces))
    return lines


def _labelled(label: str, *pieces: Piece | str) -> Line:
    return line(f"{label:<7}", *pieces)


def _row(timer: Timer, ahead: int) -> list[Piece]:
    """When, what, of which function, in which run."""
    when = (
        f"in {duration(ahead)}"
        if ahead > 0
        else f"{duration(-ahead)} ago"
        if ahead <= -SECOND
        else "just now"
    )
    what = timer.kind if timer.step is None else f"{timer.kind} {clean(timer.step)}"
    return [
        Piece(when, "dim"),
        Piece(what, "strong"),
        Piece(clean(timer.function or "")),
        Piece("" if timer.run_id is None else f"run {timer.run_id}", "dim"),
    ]
