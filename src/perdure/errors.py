"""Every exception of Perdure, as one tree.

PerdureError
├── ConfigError            a setting or a command line is wrong; the person at the terminal can mend it
├── RequestError           bad input to a public endpoint; answered with its status and message
├── ExpressionError        a CEL expression does not compile or cannot be evaluated
├── StoreError             the store could not do what was asked
│   ├── StoreUnavailable   disk full, read-only or locked for too long: try again later
│   ├── EpochLost          another owner has taken the shard: stop writing at once
│   └── AlreadyRunning     a second server was started on the same data
└── ShardClosed            the shard is stopping or reloading; the caller may try again
"""

from __future__ import annotations


class PerdureError(Exception):
    """Root of the tree."""


class ConfigError(PerdureError):
    """A setting or a command line is wrong. The text says which one and how to mend it."""


class RequestError(PerdureError):
    """Bad input to a public endpoint.

    `status` is the HTTP status, `message` what the caller is told, `code` an optional stable word,
    `data` optional details for the error envelope.
    """

    def __init__(self, status: int, message: str, code: str | None = None, data: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.data = data


class ExpressionError(PerdureError):
    """An expression does not compile, or cannot be evaluated for this event.

    `position` is the 0-based offset in the text, or None if it is not known.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class StoreError(PerdureError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store refuses writes for now (disk full, read-only, locked).

    Nothing was written; try again later.
    """


class EpochLost(StoreError):
    """Another owner has raised the epoch of this shard. This process may not write any more."""


class AlreadyRunning(StoreError):
    """A second server was started on the same data. The text names the first one's process id."""


class ShardClosed(PerdureError):
    """The shard is stopping or reloading and did not take the command. The caller may try again."""
