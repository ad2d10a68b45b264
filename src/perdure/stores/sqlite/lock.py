"""One process a database: an advisory lock on a file beside it, held for life.

Two servers on one database would take the shards from each other for ever. The lock goes with the process,
however it dies, so a leftover file never stands in the way of the next start.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from perdure.errors import AlreadyRunning, StoreUnavailable


class DatabaseLock:
    """Exclusive use of a database by one process. `<database>.lock` holds the process id of its owner, as
    text."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        _HELD.add(self)

    @classmethod
    def take(cls, database: Path) -> DatabaseLock:
        """Take the lock, without waiting.

        Raises `AlreadyRunning` if a process holds it, `StoreUnavailable` if the file cannot be written.
        """
        path = database.with_name(database.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreUnavailable(
                f"Cannot open {path} ({error.strerror}). The folder must exist and be writable for this user."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise AlreadyRunning(
                f"{database} is in use by another Perdure server (process {owner}). "
                "Stop it first, or give this one its own data directory."
            ) from error
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailable(
                f"Cannot lock {path} ({error.strerror}). Keep the database on a local disk, not a network share."
            ) from error
        cls._write_owner(descriptor, path)
        return cls(descriptor, path)

    @staticmethod
    def _write_owner(descriptor: int, path: Path) -> None:
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise StoreUnavailable(
                f"Cannot write {path} ({error.strerror}). Free some disk space and start again."
            ) from error

    def release(self) -> None:
        """Let go. The file stays: removing it would let two processes lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_HELD: weakref.WeakSet[DatabaseLock] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child must not hold the lock on when its parent has died: it has the same open file."""
    for lock in list(_HELD):
        lock.release()


os.register_at_fork(after_in_child=_let_go_in_child)
