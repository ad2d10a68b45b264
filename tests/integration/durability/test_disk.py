"""A disk that is full, or cannot be written: a clear answer, nothing lost, and on by itself when there is room.

A process may be forbidden to let any file grow (RLIMIT_FSIZE), which needs no rights; a small file system of its own
fills up as a disk does, and needs a kernel that lets a process mount one for itself alone.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.durability import checks, jobs
from tests.integration.durability.journal import Journal
from tests.integration.durability.ledger import Ledger
from tests.integration.durability.load import Load
from tests.integration.durability.processes import ROOT, Site, get, post, site, until

pytestmark = pytest.mark.slow

RUNS = 200
CALLS_END_S = 1.0
"""Calls that were under way when the disk filled up have ended by then; the bare app answers at once."""
STAYS_FULL_S = 2.0
FILE_SYSTEM_BYTES = 64 * 1024 * 1024

OWN_MOUNTS = ["unshare", "--map-root-user", "--mount"]


@dataclass
class Disk:
    """A server whose disk can be filled and freed, and what it then says."""

    site: Site
    fill: Callable[[], None]
    free: Callable[[], None]
    read: Callable[[], Ledger]
    cause: str


def limit_files(pid: int, size: int) -> None:
    """Let no file of the process grow over so many bytes, from now on."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@contextlib.contextmanager
def limited(folder: Path) -> Iterator[Disk]:
    """Files that may not grow: the log of the database is at its end as it is."""
    with site(folder, "bare") as running:
        pid = running.server.pid
        log = running.data / "perdure.db-wal"
        yield Disk(
            running,
            lambda: limit_files(pid, log.stat().st_size),
            lambda: limit_files(pid, resource.RLIM_INFINITY),
            lambda: Ledger.read(running.database),
            "the disk refused",
        )


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Disk]:
    """A file system of the server's own. It is gone with the process."""
    needs_own_mounts()
    data = folder / "data"
    data.mkdir()
    mount = f'mount -t tmpfs -o size={FILE_SYSTEM_BYTES} none "{data}" && exec "$0" "$@"'
    with site(folder, "bare", prefix=[*OWN_MOUNTS, "sh", "-c", mount]) as running:
        pid = running.server.pid
        filler = Path(f"/proc/{pid}/root{data}/filler")
        inside = ["nsenter", "--target", str(pid), "--user", "--mount", f"--wd={ROOT}"]
        yield Disk(
            running,
            lambda: fill_up(filler),
            filler.unlink,
            lambda: Ledger.read_behind(inside, running.database),
            "the disk is full",
        )


def needs_own_mounts() -> None:
    """Skip where the kernel forbids it."""
    tried = subprocess.run(
        [*OWN_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        pytest.skip(f"no process may mount a file system for itself here: {tried.stderr.strip()}")


def fill_up(filler: Path) -> None:
    """Write until nothing more fits, down to the last page."""
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


KINDS = {"file-size-limit": limited, "small-file-system": mounted}


@pytest.fixture(params=KINDS)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with KINDS[request.param](tmp_path) as ready:
        yield ready


def health(disk: Disk) -> tuple[int, Any, dict[str, str]]:
    return get(f"{disk.site.server.url}/health")


def send(disk: Disk, key: int) -> tuple[int, Any, dict[str, str]]:
    event = {"name": f"{jobs.APP}/{jobs.FIVE}", "data": {"key": key}}
    return post(f"{disk.site.server.url}/e/test", event)


def test_full_under_load(disk: Disk, entropy: random.Random) -> None:
    journal = Journal(disk.site.journal_path)
    server = disk.site.server
    load = Load(server.url, journal, RUNS, RUNS // 2, entropy)
    load.start()
    until("some of the load", lambda: journal.count("ran") > RUNS, 20, server.tail)
    disk.fill()
    until("an unhealthy answer", lambda: health(disk)[0] == 503, 10, server.tail)
    time.sleep(CALLS_END_S)
    stored = disk.read()
    calls = journal.count("call")
    end = time.monotonic() + STAYS_FULL_S
    while time.monotonic() < end:
        status, body, _ = health(disk)
        assert (status, disk.cause in body["message"]) == (503, True), body
        status, body, headers = send(disk, -1)
        assert (status, headers.get("retry-after"), disk.cause in body["error"]) == (503, "1", True), body
        time.sleep(0.1)
    assert journal.count("call") == calls, "calls started although nothing could be recorded"
    assert disk.read() == stored
    disk.free()
    until("a healthy answer", lambda: health(disk)[0] == 200, 10, server.tail)

    def over() -> bool:
        journal.read()
        return load.all_accepted and disk.read().at_rest

    until("the end of all runs", over, 40, server.tail)
    load.stop()
    journal.read()
    ledger = disk.read()
    checks.demand(checks.nothing_recorded_changed(stored, ledger))
    checks.demand(checks.all_is_well(ledger, journal, load.accepted))
    checks.demand(checks.attempts_add_up(ledger, every_call_has_an_answer=False))
    assert {status for status, _ in load.refused} == {503}
    assert "Traceback" not in server.tail(1000)


def test_the_first_event_that_does_not_fit_is_refused(disk: Disk) -> None:
    journal = Journal(disk.site.journal_path)
    disk.fill()
    for key in range(3):
        status, body, headers = send(disk, key)
        assert (status, headers.get("retry-after"), disk.cause in body["error"]) == (503, "1", True), body
    disk.free()

    def accepted() -> str:
        status, body, _ = send(disk, 7)
        return body["ids"][0] if status == 200 else ""

    event_id = until("an accepted event", accepted, 10, disk.site.server.tail)
    until("its end", lambda: disk.read().at_rest, 10, disk.site.server.tail)
    journal.read()
    ledger = disk.read()
    checks.demand(checks.all_is_well(ledger, journal, {(jobs.FIVE, event_id)}))


def test_results_of_calls_that_end_while_it_is_full_are_kept(disk: Disk) -> None:
    journal = Journal(disk.site.journal_path)
    event = {"name": f"{jobs.APP}/{jobs.SLOW}", "data": {"key": 1, "takes_s": 1.5}}
    event_id = post(f"{disk.site.server.url}/e/test", event)[1]["ids"][0]
    until("the slow step", lambda: journal.count("call") == 3, 10, disk.site.server.tail)
    disk.fill()
    until("its end at the app", lambda: journal.count("ran") == 3, 10)
    until("an unhealthy answer", lambda: health(disk)[0] == 503, 10, disk.site.server.tail)
    disk.free()
    until("the end of the run", lambda: disk.read().at_rest, 20, disk.site.server.tail)
    journal.read()
    checks.demand(checks.all_is_well(disk.read(), journal, {(jobs.SLOW, event_id)}))
    assert journal.count("ran") == 5, "a step ran again although its result had come"


def start_and_fail(command: list[str]) -> str:
    """What a server says that cannot start."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def server_command(data: Path) -> list[str]:
    return [sys.executable, "-m", "perdure", "dev", "--port", "0", "--no-discovery", "--data-dir", str(data)]


@pytest.mark.parametrize("size", [0, 5000])
@pytest.mark.parametrize("used_before", [False, True])
def test_no_start_on_a_full_disk(size: int, used_before: bool, tmp_path: Path) -> None:
    if used_before:
        with site(tmp_path, "bare"):
            pass
    code = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
        " os.execv(sys.argv[1], sys.argv[1:])"
    )
    said = start_and_fail([sys.executable, "-c", code, *server_command(tmp_path / "data")])
    assert str(tmp_path / "data" / "perdure.db") in said
    assert "space" in said


@pytest.mark.parametrize("used_before", [False, True])
def test_no_start_on_a_read_only_file_system(used_before: bool, tmp_path: Path) -> None:
    needs_own_mounts()
    data = tmp_path / "data"
    data.mkdir()
    if used_before:
        with site(tmp_path, "bare"):
            pass
    before = {path.name: path.read_bytes() for path in data.iterdir()}
    mount = f'mount --bind "{data}" "{data}" && mount -o remount,bind,ro "{data}" && exec "$0" "$@"'
    said = start_and_fail([*OWN_MOUNTS, "sh", "-c", mount, *server_command(data)])
    assert str(data) in said
    assert "writable" in said
    assert {path.name: path.read_bytes() for path in data.iterdir()} == before


def test_no_start_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = start_and_fail(server_command(tmp_path / "file" / "data"))
    assert str(tmp_path / "file" / "data") in said
    assert "--data-dir" in said


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="permissions do not bind root")
def test_no_start_without_permission(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o555)
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    said = start_and_fail([*drop, *server_command(data)])
    assert str(data) in said
    assert "writable" in said
