"""Moves the write-ahead log into the database, beside the writer.

SQLite would do this inside of a commit, every thousand pages, and that commit would wait for it. Here it is
done in two passes. The first copies what is in the log from a thread with a connection of its own, while the
writer goes on appending; it takes nearly all of the time. The second is the writer's own, between two commits,
and copies the little that came meanwhile, in some milliseconds: only a log that has been copied to its end can
start over, and under load only the writer can find the moment in which nothing is appended. A log that a
reader still needs stays as it is, and grows, until that reader is done: reads are kept short for that reason.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import apsw

from perdure.stores.sqlite.connections import connect_writer
from perdure.stores.sqlite.settings import SqliteSettings

IDLE_LOG_BYTES = 1024 * 1024
"""A log below this size is left alone at idle."""

_log = logging.getLogger("perdure.stores.sqlite")


class Checkpointer:
    """Watches the log of one database.

    `copied` is True when a first pass is done: the writer then owes a call of `catch_up`.
    """

    def __init__(self, path: Path, settings: SqliteSettings) -> None:
        self._path = path
        self._connection = connect_writer(path)
        self._connection.set_busy_timeout(0)
        self._page_bytes = int(self._connection.pragma("page_size"))
        self._step_pages = max(1, settings.log_bytes // self._page_bytes)
        self._next_pages = self._step_pages
        self._idle_seconds = settings.idle_seconds
        self._pages = 0
        self._commits = 0
        self._stopping = False
        self._failing = False
        self.copied = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="perdure-checkpoint", daemon=True)
        self._thread.start()

    def watch(self, writer: apsw.Connection) -> None:
        """Hear of each commit of `writer`."""
        writer.set_wal_hook(self._notice)

    def catch_up(self, writer: apsw.Connection) -> None:
        """The second pass, in the thread that owns `writer`. Never raises."""
        self.copied = False
        self._copy(writer, apsw.SQLITE_CHECKPOINT_PASSIVE)

    @property
    def log_bytes(self) -> int:
        """Size of what the log holds, in bytes, at the last commit or copy."""
        return self._pages * self._page_bytes

    def stop(self) -> None:
        """End the thread and close its connection."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        self._connection.close()

    def _notice(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._commits += 1
        self._pages = pages
        if pages < self._step_pages:
            self._next_pages = self._step_pages
        elif pages >= self._next_pages:
            # Once a step, so that a log which cannot start over does not mean a copy for every commit.
            self._next_pages = pages + self._step_pages
            self._wake.set()
        return apsw.SQLITE_OK

    def _run(self) -> None:
        seen = 0
        while not self._stopping:
            if self._wake.wait(self._idle_seconds):
                self._wake.clear()
                if not self._stopping:
                    self._copy(self._connection, apsw.SQLITE_CHECKPOINT_PASSIVE)
                    self.copied = True
            elif self._commits == seen and self.log_bytes > IDLE_LOG_BYTES:
                self._copy(self._connection, apsw.SQLITE_CHECKPOINT_TRUNCATE)
            seen = self._commits

    def _copy(self, connection: apsw.Connection, mode: int) -> None:
        try:
            pages, _ = connection.wal_checkpoint(mode=mode)
            if mode == apsw.SQLITE_CHECKPOINT_TRUNCATE:
                self._pages = pages
            self._failing = False
        except apsw.BusyError:
            pass
        except apsw.Error as error:
            # Nothing is lost: all of it is in the log, and the writer meets the same trouble and reports it.
            if not self._failing:
                _log.warning("%s: the log could not be copied into the database (%s)", self._path, error)
            self._failing = True
