"""What processes cost and what the machine is: read from /proc, so nothing is added to what is measured."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
"""Unit of the CPU time of ended children in /proc/<pid>/stat, in s (usually 0.01)."""


def _stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the third one on; the second may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def tree(pid: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found, queue = [], [pid]
    while queue:
        found.append(queue[0])
        queue += children.get(queue.pop(0), [])
    return found


def _process_clock(pid: int) -> int:
    """Linux's id of the CPU clock of a process: all its threads, also those that ended, in ns."""
    return (~pid << 3) | 2


def cpu_seconds(pid: int) -> float:
    """User and system CPU of the process, its threads, its descendants, and its children that ended, in s."""
    total = 0.0
    for member in tree(pid):
        try:
            total += time.clock_gettime(_process_clock(member))
            if member == pid:
                ended = _stat(member)
                total += (int(ended[13]) + int(ended[14])) * TICK_S
        except OSError:
            continue
    return total


def rss_mb(pid: int) -> float:
    """Resident memory of the process and its descendants, in MB (10^6). Pages they share count in each."""
    pages = 0
    for member in tree(pid):
        try:
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def pss_mb(pid: int) -> float:
    """Memory of the process and its descendants, in MB, with pages that n of them share counted 1/n in each.

    The fair figure for a server that forks around a large shared buffer, as PostgreSQL does.
    """
    kb = 0
    for member in tree(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue
        kb += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kb * 1024 / 1e6


class Window:
    """CPU spent by named processes between its making and `close`, and the driver's own."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        self._driver = time.process_time()
        self._start = time.monotonic()

    def wall(self) -> float:
        """Seconds since the window opened."""
        return time.monotonic() - self._start

    def close(self) -> dict[str, float]:
        """CPU seconds by name, `driver` among them, and `wall`."""
        spent = {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}
        return spent | {
            "driver": time.process_time() - self._driver,
            "wall": self.wall(),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def fdatasync_ms(folder: Path, count: int = 200) -> float:
    """Median time of one fdatasync after a write of 4 KiB, in `folder`."""
    path = folder / "fdatasync.probe"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(b"x" * 4096)
            before = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - before)
    path.unlink()
    return statistics.median(taken) * 1000


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return "absent"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else "?"


def _packages(*names: str) -> dict[str, str]:
    from importlib import metadata

    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def machine(folder: Path) -> dict[str, object]:
    """The line under which figures stand: without it they mean nothing."""
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    here = Path(__file__).parent
    return {
        "cores": os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": round(memory_kb / 2**20, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "node": _version("node", "--version"),
        "wrk": _version("wrk", "--version"),
        "packages": _packages("perdure", "inngest", "fastapi", "uvicorn", "uvloop", "apsw"),
        "commit": _version("git", "-C", str(here), "log", "-1", "--format=%h"),
        "fdatasync_ms": round(fdatasync_ms(folder), 3),
    }


def load_average() -> list[float]:
    """Load over 1, 5 and 15 minutes: above the benchmark's own three processes somebody else is working too."""
    return [round(value, 2) for value in os.getloadavg()]
