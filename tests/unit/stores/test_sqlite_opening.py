"""Opening a database: whose it is, how old it is, and who else has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from perdure.errors import AlreadyRunning, StoreError, StoreUnavailable
from perdure.stores.sqlite import SqliteStore
from perdure.stores.sqlite.lock import DatabaseLock
from perdure.stores.sqlite.migrations import APPLICATION_ID, known_migrations

HOLDER = """
import sys, time
from pathlib import Path
from perdure.stores.sqlite.lock import DatabaseLock
lock = DatabaseLock.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def write(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()


def read(path: Path, statement: str) -> object:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute(statement).get
    finally:
        connection.close()


class TestLock:
    async def test_a_second_server_is_told_the_first_ones_process(self, tmp_path: Path):
        path = tmp_path / "perdure.db"
        first = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdout=subprocess.PIPE)
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        try:
            with pytest.raises(AlreadyRunning, match=f"process {first.pid}"):
                SqliteStore.open(path)
        finally:
            first.kill()
            first.wait()
        store = SqliteStore.open(path)
        await store.close()

    async def test_holds_within_one_process_too(self, tmp_path: Path):
        store = SqliteStore.open(tmp_path / "perdure.db")
        with pytest.raises(AlreadyRunning, match=str(os.getpid())):
            SqliteStore.open(tmp_path / "perdure.db")
        await store.close()

    def test_is_let_go_when_opening_fails(self, tmp_path: Path):
        path = tmp_path / "perdure.db"
        path.write_bytes(b"no database at all, but long enough to look like one" * 100)
        for _ in range(2):
            with pytest.raises(StoreError, match="damaged"):
                SqliteStore.open(path)
        DatabaseLock.take(path).release()


class TestSchema:
    async def test_a_new_file_is_marked_as_ours(self, tmp_path: Path):
        path = tmp_path / "perdure.db"
        await SqliteStore.open(path).close()
        assert read(path, "PRAGMA application_id") == APPLICATION_ID
        assert read(path, "PRAGMA user_version") == known_migrations()[-1].number
        assert read(path, "SELECT count(*) FROM schema_migrations") == len(known_migrations())

    async def test_opening_again_applies_nothing_again(self, tmp_path: Path):
        path = tmp_path / "perdure.db"
        await SqliteStore.open(path).close()
        version = read(path, "PRAGMA schema_version")
        await SqliteStore.open(path).close()
        assert read(path, "PRAGMA schema_version") == version

    async def test_a_newer_one_is_refused_with_advice(self, tmp_path: Path):
        path = tmp_path / "perdure.db"
        await SqliteStore.open(path).close()
        write(path, "PRAGMA user_version = 99")
        with pytest.raises(StoreError, match=r"newer Perdure \(schema 99; this version knows \d+\)"):
            SqliteStore.open(path)

    def test_a_database_of_another_program_is_refused_untouched(self, tmp_path: Path):
        path = tmp_path / "other.db"
        write(path, "CREATE TABLE customers (name TEXT)")
        with pytest.raises(StoreError, match="another program"):
            SqliteStore.open(path)
        assert read(path, "SELECT count(*) FROM sqlite_schema") == 1
        assert read(path, "PRAGMA application_id") == 0

    def test_migrations_are_numbered_without_a_gap(self):
        assert [found.number for found in known_migrations()] == list(range(1, len(known_migrations()) + 1))


class TestDamage:
    async def test_a_torn_database_is_reported_as_such(self, tmp_path: Path):
        path = tmp_path / "perdure.db"
        await SqliteStore.open(path).close()
        whole = path.read_bytes()
        path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))
        with pytest.raises(StoreError, match="damaged"):
            SqliteStore.open(path)

    def test_a_folder_that_does_not_exist(self, tmp_path: Path):
        with pytest.raises(StoreUnavailable, match="folder must exist"):
            SqliteStore.open(tmp_path / "nowhere" / "perdure.db")

    def test_a_folder_in_its_place(self, tmp_path: Path):
        (tmp_path / "perdure.db").mkdir()
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            SqliteStore.open(tmp_path / "perdure.db")


FORK = """
import os, sys, time
from pathlib import Path
from perdure.stores.sqlite.lock import DatabaseLock
lock = DatabaseLock.take(Path(sys.argv[1]))
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


def test_a_forked_child_does_not_hold_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    path = tmp_path / "perdure.db"
    parent = subprocess.Popen([sys.executable, "-c", FORK, str(path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(AlreadyRunning):
            DatabaseLock.take(path)
        parent.kill()
        parent.wait()
        os.kill(child, 0)
        DatabaseLock.take(path).release()
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()
