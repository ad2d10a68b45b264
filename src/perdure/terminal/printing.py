"""Onto the terminal: colours where there is one, JSON where it is asked for, and a picture that is redrawn."""

from __future__ import annotations

import functools
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import click
import msgspec

from perdure.terminal.failures import TerminalError
from perdure.terminal.text import Line, fitted, plain

ERROR = 1
NOT_COMPLETED = 3
"""Exit code of a command that waited for a run which failed, was cancelled or was skipped."""
INTERRUPTED = 130

_STYLES: dict[str, dict[str, Any]] = {
    "strong": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "busy": {"fg": "yellow"},
}

F = TypeVar("F", bound=Callable[..., Any])


def on_terminal() -> bool:
    """Whether a person looks at what is printed."""
    return sys.stdout.isatty()


def coloured() -> bool:
    """Whether to use colours: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def width() -> int | None:
    """Columns of the terminal; None off a terminal, where nothing is cut."""
    return max(40, shutil.get_terminal_size().columns) if on_terminal() else None


def painted(pieces: Line, colour: bool) -> str:
    """A line as it goes to the terminal."""
    if not colour:
        return plain(pieces)
    return "".join(
        click.style(piece.text, **_STYLES[piece.tone]) if piece.tone and piece.text.strip() else piece.text
        for piece in pieces
    ).rstrip()


def show(lines: Iterable[Line]) -> None:
    """Print lines."""
    _tolerate()
    colour = coloured()
    click.echo("\n".join(painted(pieces, colour) for pieces in lines))


def show_json(value: object, *, indent: int = 2) -> None:
    """Print a value as one JSON document."""
    _tolerate()
    text = msgspec.json.encode(value)
    click.echo(msgspec.json.format(text, indent=indent).decode() if indent else text.decode())


def _tolerate() -> None:
    """A terminal that lacks a character gets a mark instead of a stack trace."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


class Picture:
    """Lines that are drawn again at the same place. What is higher than the terminal shows its end."""

    def __init__(self) -> None:
        self._height = 0

    def draw(self, lines: list[Line], whole: bool = False) -> None:
        """Draw instead of what was drawn before; `whole` for the last time: then nothing is left out."""
        size = shutil.get_terminal_size()
        shown = lines
        if not whole:
            # A line that the terminal broke, or that has left it, could not be drawn again.
            shown = [fitted(pieces, size.columns) for pieces in lines[max(0, len(lines) - size.lines + 1) :]]
        colour = coloured()
        back = f"\x1b[{self._height}F\x1b[J" if self._height else ""
        _tolerate()
        click.echo(back + "".join(painted(pieces, colour) + "\n" for pieces in shown), nl=False, color=True)
        self._height = len(shown)


def explained(command: F) -> F:
    """Errors become one sentence and exit code 1; an interrupt says nothing more."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except TerminalError as error:
            complain(str(error))
            sys.exit(ERROR)
        except KeyboardInterrupt:
            click.echo(err=True)
            sys.exit(INTERRUPTED)

    return cast(F, run)


def complain(text: str) -> None:
    """One sentence on standard error."""
    click.echo(f"perdure: {text}", err=True)
