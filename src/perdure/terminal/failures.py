"""What can go wrong between the terminal and the server. Each text says what to do next."""

from __future__ import annotations

from perdure.errors import PerdureError


class TerminalError(PerdureError):
    """A command could not be done; the text is for the person at the terminal."""


class Unreachable(TerminalError):
    """No server answers at the URL."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"No server answers at {url} ({reason}). Start one with 'perdure dev', or name another with --url "
            "or PERDURE_URL."
        )


class Unavailable(TerminalError):
    """The server answers that it cannot do it now."""


class WrongKey(TerminalError):
    """The server wants a key, or another one."""


class NotThere(TerminalError):
    """What was named does not exist."""


class Refused(TerminalError):
    """The server did not do it; its own words."""
