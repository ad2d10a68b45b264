"""Connections to the database file, and what SQLite's errors mean for the person who reads them."""

from __future__ import annotations

from pathlib import Path

import apsw

from perdure.errors import StoreError, StoreUnavailable

WRITER_CACHE_KIB = 8 * 1024
"""Page cache of the writer, in KiB. SQLite fills it as needed; an idle server stays far below."""

READER_CACHE_KIB = 2 * 1024
"""Page cache of each reading connection, in KiB."""

LOG_FILE_BYTES = 64 * 1024 * 1024
"""A log file that has grown beyond this is cut to it when it starts over."""

STATEMENT_CACHE = 256
"""Prepared statements kept by a connection; all statements of the store are fewer."""

_WRITE_FLAGS = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
_READ_FLAGS = apsw.SQLITE_OPEN_READONLY


def connect_writer(path: Path) -> apsw.Connection:
    """A connection that writes: WAL, and every commit on disk before it returns."""
    connection = apsw.Connection(str(path), flags=_WRITE_FLAGS, statementcachesize=STATEMENT_CACHE)
    try:
        connection.set_busy_timeout(5000)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_FILE_BYTES}")
        connection.wal_autocheckpoint(0)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> apsw.Connection:
    """A connection that cannot write: it sees each commit once that has returned, and never holds up the writer."""
    connection = apsw.Connection(str(path), flags=_READ_FLAGS, statementcachesize=STATEMENT_CACHE)
    try:
        connection.set_busy_timeout(1000)
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def explain(error: apsw.Error, path: Path) -> StoreError:
    """The error of the store that says what happened to the database at `path`, and what to do."""
    for kind, advice in _TEMPORARY:
        if isinstance(error, kind):
            return StoreUnavailable(f"{path}: {advice} (SQLite: {error})")
    if isinstance(error, apsw.NotADBError | apsw.CorruptError):
        return StoreError(
            f"{path} is damaged, or is not a database of Perdure (SQLite: {error}). Stop the server, move the file and "
            "its -wal and -shm companions aside together, and put back a backup, or start with an empty folder."
        )
    return StoreError(
        f"{path}: SQLite refused a statement ({type(error).__name__}: {error}). This is a bug in Perdure."
    )


_TEMPORARY: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.FullError, "the disk is full. Nothing was written; free some space and it goes on by itself."),
    (
        apsw.IOError,
        "the disk refused to read or write. Check its health, its free space and the limits of this user.",
    ),
    (
        apsw.ReadOnlyError,
        "the database cannot be written. Make the file and its folder writable for this user.",
    ),
    (
        apsw.CantOpenError,
        "the database cannot be opened. The folder must exist and be writable for this user.",
    ),
    (
        apsw.PermissionsError,
        "access to the database was denied. Make it readable and writable for this user.",
    ),
    (
        apsw.BusyError,
        "another program has locked the database for more than 5 s. Close it and it goes on by itself.",
    ),
    (apsw.LockedError, "the database is locked. Close the other program that uses it."),
    (
        apsw.ProtocolError,
        "the database's locks cannot be taken. Keep it on a local disk, not a network share.",
    ),
    (apsw.NoMemError, "the machine has no memory left for it. Free some and it goes on by itself."),
    (
        apsw.InterruptError,
        "the query took too long and was stopped. Ask for less: a shorter time, a name, a page.",
    ),
)
