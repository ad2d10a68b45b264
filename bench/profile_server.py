"""Where the server's CPU goes: W3 and W4 against the bare app (or another), with py-spy looking on.

    python -m bench.profile_server [--only W3] [--top 40] [--rate 500] [--app own]

py-spy reads the process's memory from outside without stopping it, so the server runs at its usual speed. Shares are of
the samples in which the server was not idle, by `self` (in this very function) and `cum` (in it or in what it called);
CPU in us a run or a step follows from the CPU clock of the process over the same time. Native time inside extensions
(SQLite, uvloop, codecs) counts for the Python function that called them.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.app import KINDS, start_app
from bench.measure import cpu_seconds
from bench.processes import BENCH
from bench.rig import Rig
from bench.server import DEFAULT_COMMAND, ServerLauncher
from bench.targets import ServerTarget
from bench.workloads import w3_runs, w4_steps

PASSES = 5
"""How often the workload runs while py-spy samples: more passes, more samples."""

WARM_UP = 200


@dataclass(frozen=True)
class Subject:
    """A workload's function, its runs, and what one unit of it is called."""

    function: str
    runs: int
    units: int
    unit: str


SUBJECTS = {
    "W3": Subject("instant", w3_runs.RUNS, w3_runs.RUNS, "run"),
    "W4": Subject("five", w4_steps.RUNS, w4_steps.RUNS * w4_steps.STEPS, "step"),
}


@dataclass
class Profile:
    """Samples by function, and the CPU they stand for."""

    own: Counter[str]
    cumulative: Counter[str]
    samples: int
    cpu_us_a_unit: float

    def show(self, top: int, unit: str) -> str:
        """The heaviest functions, by own time and by time with what they call."""
        parts = [f"{self.samples} samples; {self.cpu_us_a_unit:.0f} us of server CPU a {unit}"]
        for title, counts in (("self", self.own), ("cum", self.cumulative)):
            parts.append(f"\n{title:>6}  us/{unit:<5} function")
            for name, count in counts.most_common(top):
                share = count / max(1, self.samples)
                parts.append(f"{share:6.1%}  {share * self.cpu_us_a_unit:8.1f}  {name}")
        return "\n".join(parts)


def read_stacks(raw: str) -> tuple[Counter[str], Counter[str], int]:
    """Own and cumulative samples by function from py-spy's raw format: `a;b;c 12` a line, outermost first."""
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    samples = 0
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [frame for frame in stack.split(";") if not frame.startswith(("process ", "thread "))]
        if not frames:
            continue
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            cumulative[frame] += int(count)
    return own, cumulative, samples


async def sampled(
    pid: int, rate: int, native: bool, work: Callable[[], Awaitable[None]]
) -> tuple[str, float]:
    """Do the work while py-spy samples the process; (raw stacks, CPU seconds of the process meanwhile)."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "stacks"
        program = Path(sys.executable).parent / "py-spy"
        if not program.exists():
            raise SystemExit("py-spy is not installed: python -m pip install -r bench/requirements.txt")
        command = [str(program), "record", "--pid", str(pid), "--nonblocking"]
        command += ["--subprocesses", "--function", "--full-filenames", "--rate", str(rate)]
        command += ["--format", "raw", "--output", str(output), "--duration", "unlimited"]
        command += ["--native"] if native else []
        spy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            await asyncio.sleep(1.0)
            if spy.poll() is not None:
                assert spy.stderr is not None
                raise RuntimeError(f"py-spy cannot sample the server: {spy.stderr.read().decode()}")
            before = cpu_seconds(pid)
            await work()
            spent = cpu_seconds(pid) - before
        finally:
            if spy.poll() is None:
                spy.send_signal(2)
        await asyncio.to_thread(spy.wait, 60)
        return output.read_text(), spent


async def profile(subject: Subject, options: argparse.Namespace, folder: Path) -> Profile:
    """One workload on a fresh server."""
    launcher = ServerLauncher.of(options.server_command, folder, folder)
    app = start_app(options.app, launcher.url, folder)
    server = launcher.start_ready()
    target = ServerTarget(server.url)
    try:
        await target.sync(app.url)
        rig = Rig(target, app, {"server": server.pid})
        await rig.burst(subject.function, WARM_UP)

        async def work() -> None:
            for _ in range(PASSES):
                await rig.burst(subject.function, subject.runs)

        stacks, spent = await sampled(server.pid, options.rate, options.native, work)
    finally:
        target.close()
        server.stop()
        app.stop()
    own, cumulative, samples = read_stacks(_shorter(stacks))
    return Profile(own, cumulative, samples, spent / (PASSES * subject.units) * 1e6)


def _shorter(stacks: str) -> str:
    """Paths from the package on, so that a line fits."""
    for prefix in sorted({path for path in sys.path if path}, key=len, reverse=True):
        stacks = stacks.replace(prefix.rstrip("/") + "/", "")
    return stacks.replace(str(BENCH.parent / "src") + "/", "")


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile_server", description=__doc__)
    parser.add_argument("--only", default="W3,W4")
    parser.add_argument("--top", type=int, default=40, help="functions a list")
    parser.add_argument("--rate", type=int, default=500, help="samples a second")
    parser.add_argument("--app", default="bare", choices=KINDS)
    parser.add_argument("--native", action="store_true", help="show frames of C code too (slower)")
    parser.add_argument("--server-command", default=DEFAULT_COMMAND)
    parser.add_argument("--folder", type=Path, default=BENCH / ".results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="profile-", dir=options.folder))
    for name in options.only.split(","):
        subject = SUBJECTS[name]
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(profile(subject, options, folder))
        print(f"== {name}: {found.show(options.top, subject.unit)}\n", flush=True)


if __name__ == "__main__":
    main()
