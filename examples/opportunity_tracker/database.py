"""The database: SQLite, or PostgreSQL by its URL.

SQLite takes the lock of a writer only at the first write, and then may refuse a transaction that has read before.
So transactions that write begin with the lock, and wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from examples.opportunity_tracker.settings import SettingsError
from examples.opportunity_tracker.tables import Table

LOCK_SECONDS = 10
# Any number, the same in all processes: who holds it makes the tables.
MAKING_TABLES = 8_288_001


class Database:
    """Sessions to read and to write in. Makes the tables that are missing."""

    def __init__(self, url: str) -> None:
        """Raises SettingsError if the URL cannot be used, SQLAlchemyError if there is no database."""
        self.url = _parse(url)
        self._engine = _engine(self.url)
        self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        with self._writer.begin() as connection:
            if self.url.get_backend_name() == "postgresql":
                # Two processes that start together would both make them.
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MAKING_TABLES})"))
            Table.metadata.create_all(connection)

    @contextmanager
    def reading(self) -> Generator[Session]:
        """A session that only reads. What it gave can be used after its end."""
        with Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Generator[Session]:
        """A session in one transaction, which is committed at the end, or undone by an exception."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()


def _parse(given: str) -> URL:
    try:
        url = make_url(given)
    except ArgumentError:
        raise SettingsError(
            f"DATABASE_URL {given!r} is no URL of a database, such as sqlite:///tracker.db or "
            "postgresql://user:password@host/name."
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingsError(
            f"DATABASE_URL begins with {url.drivername}; it may be sqlite:// or postgresql://."
        )
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url, pool_pre_ping=True)
        except ModuleNotFoundError as error:
            raise SettingsError(
                f"For PostgreSQL {error.name} is needed: pip install 'psycopg[binary]'"
            ) from None
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Its transactions are begun below, not by the driver.
    connection.isolation_level = None
    run: Callable[[str], object] = connection.execute
    run("PRAGMA journal_mode = WAL")
    run("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
