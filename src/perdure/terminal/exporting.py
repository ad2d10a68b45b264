"""`perdure export`: a run as one JSON document, for `perdure.testing` and for whoever wants to look at it."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from perdure.terminal import printing
from perdure.terminal.arguments import make_client, server_options
from perdure.terminal.failures import TerminalError
from perdure.terminal.text import Piece, clean, line


class _Named(msgspec.Struct):
    slug: str = ""


class _Run(msgspec.Struct):
    status: str = ""


class _Export(msgspec.Struct):
    """The document, as far as it is summed up here."""

    version: int
    run: _Run
    function: _Named | None = None
    steps: list[msgspec.Raw] = []
    events: list[msgspec.Raw] = []


@click.command()
@click.argument("run_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it to this file, and print what is in it.",
)
@server_options
@printing.explained
def export(run_id: str, path: Path | None, url: str, signing_key: str | None, as_json: bool) -> None:
    """Export a run: its function, events, steps, results and history, as one JSON document.

    perdure.testing replays it against changed code. It holds the data of the run: keep it as you keep these.
    """
    document = make_client(url, signing_key).export(run_id)
    text = msgspec.json.format(bytes(document), indent=2)
    if path is None:
        click.echo(text.decode())
        return
    try:
        path.write_bytes(text + b"\n")
    except OSError as error:
        raise TerminalError(f"{path} cannot be written: {error.strerror or error}.") from None
    found = msgspec.json.decode(document, type=_Export)
    slug = found.function.slug if found.function is not None else ""
    if as_json:
        printing.show_json({"file": str(path), "run_id": run_id.upper(), "function": slug or None})
        return
    told = f"{clean(slug) or 'an unknown function'}, {found.run.status.lower()}, {len(found.steps)} finished steps"
    printing.show([line("saved  ", Piece(clean(str(path)), "strong"), "  ", Piece(told, "dim"))])
