"""Storage in a SQLite file: for one machine, without any set-up."""

from __future__ import annotations

from perdure.stores.sqlite.reader import SqliteReader
from perdure.stores.sqlite.settings import SqliteSettings
from perdure.stores.sqlite.store import SqliteStore

__all__ = ["SqliteReader", "SqliteSettings", "SqliteStore"]
