"""Brings a database up to the schema that this version knows.

Migrations are the files `migrations/NNNN_name.sql`, applied in order of their number, all in one transaction.
A file is never edited once it has been released: databases out there have run it as it was.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import NamedTuple

import apsw

from perdure.errors import StoreError

APPLICATION_ID = 0x50_45_52_44
"""Marks a file as a database of Perdure ("PERD"), in the header where `file` and SQLite look for it."""


class Migration(NamedTuple):
    """A numbered file of SQL."""

    number: int
    name: str
    sql: str


def known_migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    folder = resources.files("perdure.stores.sqlite").joinpath("migrations")
    found = []
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            number, _, name = file.name.removesuffix(".sql").partition("_")
            found.append(Migration(int(number), name, file.read_text("utf-8")))
    return sorted(found)


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Apply what is missing. Raises `StoreError` for a file that is not ours or was written by a newer
    version."""
    migrations = known_migrations()
    connection.execute("BEGIN IMMEDIATE")
    try:
        have = _schema_number(connection, path)
        if have > migrations[-1].number:
            raise StoreError(
                f"{path} was written by a newer Perdure (schema {have}; this version knows {migrations[-1].number}). "
                "Install that version again, or use another data directory."
            )
        for migration in migrations:
            if migration.number > have:
                _apply(connection, migration)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _schema_number(connection: apsw.Connection, path: Path) -> int:
    """Number of the last migration that was applied, 0 for a new file."""
    if connection.pragma("application_id") == APPLICATION_ID:
        number = connection.pragma("user_version")
        assert isinstance(number, int)
        return number
    if connection.execute("SELECT count(*) FROM sqlite_schema").get:
        raise StoreError(
            f"{path} is a database of another program. Give Perdure a file of its own, or an empty data directory."
        )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    return 0


def _apply(connection: apsw.Connection, migration: Migration) -> None:
    connection.execute(migration.sql)
    connection.execute("INSERT INTO schema_migrations VALUES (?, ?)", (migration.number, migration.name))
    connection.execute(f"PRAGMA user_version = {migration.number}")
