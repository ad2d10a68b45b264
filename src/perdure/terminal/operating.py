"""`perdure pause`, `resume` and `limits`: what a person sets for a function at run time."""

from __future__ import annotations

from urllib.parse import quote

import click
import msgspec

from perdure.protocol.overrides import FIELDS
from perdure.terminal import printing
from perdure.terminal.arguments import LIMITS, make_client, read_json, server_options
from perdure.terminal.client import Client
from perdure.terminal.rendering import UNCUT
from perdure.terminal.text import Line, Piece, clean, columns, cut, line, table

_PAUSED = {
    "hold": "New runs wait until it is resumed; those that have begun go on.",
    "skip": "New runs are written down as skipped; those that have begun go on.",
}
_PROPER = {name.lower(): name for name in FIELDS}
NONE = "none"


class FunctionState(msgspec.Struct):
    """A function with what its code says (`config`) and what a person has set instead (`overrides`)."""

    id: str
    paused: str | None
    config: dict[str, msgspec.Raw]
    overrides: dict[str, msgspec.Raw] | None


class _Retries(msgspec.Struct):
    attempts: msgspec.Raw = msgspec.Raw()


class _Step(msgspec.Struct):
    retries: _Retries | None = None


def _path(client: Client, named: str, what: str = "") -> str:
    """The URL path of a function of this name, or of what belongs to it."""
    return f"/v1/functions/{quote(client.function(named).id, safe='')}{what}"


@click.command()
@click.argument("function")
@click.option("--skip", is_flag=True, help="Skip new runs, instead of letting them wait.")
@server_options
@printing.explained
def pause(function: str, skip: bool, url: str, signing_key: str | None, as_json: bool) -> None:
    """Let a FUNCTION start no new runs until it is resumed."""
    client = make_client(url, signing_key)
    body = msgspec.json.encode({"mode": "skip" if skip else "hold"})
    _show_pause(client, client.ask("POST", _path(client, function, "/pause"), body), as_json)


@click.command()
@click.argument("function")
@server_options
@printing.explained
def resume(function: str, url: str, signing_key: str | None, as_json: bool) -> None:
    """Let a paused FUNCTION start runs again. Those that were held begin now."""
    client = make_client(url, signing_key)
    _show_pause(client, client.ask("POST", _path(client, function, "/resume")), as_json)


def _show_pause(client: Client, answer: msgspec.Raw, as_json: bool) -> None:
    if as_json:
        printing.show_json(answer)
        return
    state = client.read(answer, FunctionState)
    if state.paused is None:
        printing.show([line("resumed  ", Piece(clean(state.id), "strong"))])
    else:
        told = _PAUSED.get(state.paused, "")
        printing.show([line("paused  ", Piece(clean(state.id), "strong")), line(Piece(told, "dim"))])


@click.command()
@click.argument("function")
@click.option(
    "--set",
    "wanted",
    metavar="JSON",
    callback=lambda _, parameter, text: read_json(parameter, text, LIMITS),
    help="Set these fields, and no others, in place of the code's; null takes one away. Read like --data.",
)
@click.option("--reset", is_flag=True, help="Go back to what the code says.")
@server_options
@printing.explained
def limits(
    function: str, wanted: msgspec.Raw | None, reset: bool, url: str, signing_key: str | None, as_json: bool
) -> None:
    """Show the limits of a FUNCTION, or set them at run time.

    Shows what its code says beside what a person has set, which stays over syncs and restarts.
    """
    if wanted is not None and reset:
        raise click.UsageError("--set and --reset contradict each other.")
    client = make_client(url, signing_key)
    if reset:
        answer = client.ask("DELETE", _path(client, function, "/overrides"))
    elif wanted is not None:
        answer = client.ask("PUT", _path(client, function, "/overrides"), bytes(wanted))
    else:
        answer = client.ask("GET", _path(client, function))
    if as_json:
        printing.show_json(answer)
    else:
        printing.show(limits_table(client.read(answer, FunctionState), printing.width()))


def limits_table(state: FunctionState, width: int | None) -> list[Line]:
    """A line for each field that the code has, or that a person has set: what is not in force is dim."""
    code = code_limits(state.config)
    given = {_PROPER.get(name.lower(), name): value for name, value in (state.overrides or {}).items()}
    heading = line(Piece(clean(state.id), "strong"))
    if state.paused:
        heading += line("  ", Piece(f"paused ({clean(state.paused)})", "busy"))
    names = [name for name in FIELDS if name in code or name in given]
    if not names:
        return [heading, line("  ", Piece("no limits, neither in its code nor set", "dim"))]
    room = ((width or UNCUT) - 2 - max(map(columns, names)) - 4) // 2
    rows = [[Piece(head, "dim") for head in ("FIELD", "CODE", "SET")]]
    for name in names:
        said = cut(_text(code.get(name)), max(room, 12))
        put = cut(_text(given[name]) or NONE, max(room, 12)) if name in given else ""
        rows.append([Piece(name), Piece(said or "-", "dim" if put or not said else ""), Piece(put, "busy")])
    return [heading, *([Piece("  "), *row] for row in table(rows))]


def code_limits(config: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The fields of a registered configuration that can be set at run time, by their proper names."""
    found = {_PROPER[name.lower()]: value for name, value in config.items() if name.lower() in _PROPER}
    try:
        steps = msgspec.json.decode(config.get("steps", b"{}"), type=dict[str, _Step])
    except msgspec.MsgspecError:
        steps = {}
    for step in steps.values():
        if step.retries is not None and bytes(step.retries.attempts):
            found["retries"] = step.retries.attempts
    return {name: value for name, value in found.items() if _text(value)}


def _text(value: msgspec.Raw | None) -> str:
    """A JSON value on one line; "" for null and for nothing."""
    text = b"" if value is None else msgspec.json.format(bytes(value), indent=0)
    return "" if text == b"null" else text.decode()
