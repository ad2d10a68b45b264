"""`perdure why`: why a run waits, or what became of an event that has no run.

The server makes the sentences; here they are laid out, with what stands behind them: who holds the places, and what
events that nearly matched were compared with.
"""

from __future__ import annotations

import click
import msgspec

from perdure.protocol.durations import parse_time
from perdure.terminal import printing
from perdure.terminal.arguments import make_client, server_options
from perdure.terminal.failures import NotThere
from perdure.terminal.rendering import UNCUT, status_word
from perdure.terminal.text import Line, Piece, clean, cut, duration, fitted, line

SHARED = "which functions share"
"""Said of a limit whose scope is wider than the function."""
SHOWN_MISSES = 3
"""Near misses that are shown; `--json` has more."""


class _Holder(msgspec.Struct):
    run_id: str
    doing: str | None = None


class _Limit(msgspec.Struct):
    kind: str
    open: bool
    limit: int
    taken: int
    key: str | None = None
    scope: str | None = None
    holders: list[_Holder] = []


class _Side(msgspec.Struct):
    text: str
    value: msgspec.Raw = msgspec.Raw()
    missing: bool = False
    error: str = ""


class _Compared(msgspec.Struct):
    left: _Side
    operator: str = ""
    right: _Side | None = None
    holds: bool = False


class _NearMiss(msgspec.Struct):
    event_id: str
    compared: list[_Compared] = []
    error: str | None = None


class _Cause(msgspec.Struct):
    text: str
    limits: list[_Limit] = []
    near_misses: list[_NearMiss] = []


class _Guard(msgspec.Struct):
    text: str


class Why(msgspec.Struct):
    """The server's answer about a run, as far as it is laid out."""

    run_id: str
    function: str
    status: str
    text: str
    next_at: str | None = None
    causes: list[_Cause] = []
    more: int = 0
    guards: list[_Guard] = []
    notes: list[str] = []


class EventWhy(msgspec.Struct):
    """The server's answer about an event."""

    internal_id: str
    name: str
    text: str
    functions: list[_Fate] = []
    effects: list[_Effect] = []
    more_effects: bool = False


class _Fate(msgspec.Struct):
    function: str
    text: str
    fate: str = ""
    run_ids: list[str] = []


class _Effect(msgspec.Struct):
    how: str
    run_id: str
    function: str
    text: str


@click.command()
@click.argument("some_id", metavar="ID")
@server_options
@printing.explained
def why(some_id: str, url: str, signing_key: str | None, as_json: bool) -> None:
    """Say why a run waits: for what, who has it, its place in line, and when something happens next.

    With the ID of an event: what became of it for each function that it met, and for runs that waited for it.
    """
    client = make_client(url, signing_key)
    try:
        found, now = client.why(some_id)
    except NotThere as missing:
        of_event = client.why_event(some_id)
        if of_event is None:
            raise missing from None
        if as_json:
            printing.show_json(of_event)
        else:
            printing.show(event_lines(client.read(of_event, EventWhy), printing.width()))
        return
    if as_json:
        printing.show_json(found)
    else:
        printing.show(why_lines(client.read(found, Why), now, printing.width()))


def why_lines(found: Why, now: int, width: int | None) -> list[Line]:
    """Why a run waits, for people."""
    lines = [line(status_word(found.status), "  ", Piece(clean(found.function), "strong"))]
    if not found.causes:
        lines.append(line("  ", clean(found.text)))
    for cause in found.causes:
        lines.append(line("  ", clean(cause.text)))
        lines += _behind(cause)
    if found.more:
        lines.append(line("  ", Piece(f"and {found.more} more", "dim")))
    lines += [
        line("  ", Piece(clean(text), "dim")) for text in (*(g.text for g in found.guards), *found.notes)
    ]
    if found.next_at is not None:
        away = duration(max(0, parse_time(found.next_at) - now))
        lines.append(line("  ", Piece(f"next: {found.next_at}, in {away}", "dim")))
    return [fitted(pieces, width or UNCUT) for pieces in lines]


def _behind(cause: _Cause) -> list[Line]:
    """Who holds the places of a limit, and what nearly matched."""
    lines = []
    for limit in cause.limits:
        if limit.open:
            continue
        if limit.kind != "throttle":
            key = f" by {limit.key}" if limit.key else ""
            wide = f", {SHARED}" if limit.scope in ("env", "account") else ""
            text = f"{limit.taken} of {limit.limit} taken{clean(key)}{wide}"
            lines.append(line("    ", Piece(text, "dim")))
        for holder in limit.holders:
            doing = f"  {clean(holder.doing)}" if holder.doing else ""
            lines.append(line("    ", Piece(holder.run_id), Piece(doing, "dim")))
    for miss in cause.near_misses[:SHOWN_MISSES]:
        text = clean(miss.error) if miss.error else ", ".join(map(_compared, miss.compared))
        lines.append(line("    ", Piece(miss.event_id), Piece(f"  {text}", "dim")))
    return lines


def _compared(made: _Compared) -> str:
    mark = "✓" if made.holds else "✗"
    right = "" if made.right is None else f" {made.operator} {_side(made.right)}"
    return f"{mark} {_side(made.left)}{right}"


def _side(side: _Side) -> str:
    """A side with its value; a literal is its own value."""
    value = "missing" if side.missing else side.error or bytes(side.value).decode()
    return cut(value if side.text == value else f"{side.text} ({value})", 60)


def event_lines(found: EventWhy, width: int | None) -> list[Line]:
    """What became of an event, for people."""
    lines = [line(Piece(found.internal_id, "strong"), "  ", clean(found.name))]
    for fate in found.functions:
        lines.append(line("  ", Piece(clean(fate.function), "strong"), "  ", clean(fate.text)))
    lines += [line("  ", clean(effect.text)) for effect in found.effects]
    if found.more_effects:
        lines.append(line("  ", Piece(f"and so for more runs than these {len(found.effects)}", "dim")))
    if not found.functions and not found.effects:
        lines.append(line("  ", clean(found.text)))
    return [fitted(pieces, width or UNCUT) for pieces in lines]
