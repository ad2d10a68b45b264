"""The benchmark's program: rounds of all contestants in turn, medians, a table.

Rates on a shared machine are only worth comparing within one run, so contestants alternate: each round measures
every one of them once, and the table shows the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvloop

from bench import report
from bench.measure import load_average, machine
from bench.peers.install import PeerMissing
from bench.peers.registry import PEERS
from bench.processes import BENCH
from bench.server import DEFAULT_COMMAND, ServerLauncher
from bench.session import WORKLOADS, Figures, ingest_round, protocol_round
from bench.workloads import cold_start

APPS = {
    "own": "own SDK",
    "own-ten": "own SDK, ten steps a post",
    "own-connect": "own SDK, connected",
    "python": "Python SDK",
    "js": "JS SDK",
    "bare": "bare app",
}
QUICK_APPS = "own,python"
ALL = {*WORKLOADS, "W5", "start"}


def arguments(argv: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", default="", help="workloads, such as W3,W4 (default: all, with W5 and start)"
    )
    parser.add_argument("--apps", help=f"apps behind the server, some of {','.join(APPS)} (default: all)")
    parser.add_argument("--peers", help=f"all, none, or some of {','.join(PEERS)}")
    parser.add_argument("--repeat", type=int, help="rounds; the medians are shown (default 3)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of the own and the official Python SDK, without peers: about a minute",
    )
    parser.add_argument("--url", help="a running server of the protocol, measured in place of ours")
    parser.add_argument("--name", default="perdure", help="what to call the server in the table")
    parser.add_argument("--server-command", default=DEFAULT_COMMAND, help="with {port} and {data_dir}")
    parser.add_argument("--folder", type=Path, default=BENCH / ".results", help="for data, logs and results")
    parser.add_argument("--json", action="store_true", help="print the record instead of the table")
    parser.add_argument("--markdown", action="store_true", help="print the table only, for RESULTS.md")
    options = parser.parse_args(argv)
    apps, peers, repeat = (QUICK_APPS, "none", 1) if options.quick else (",".join(APPS), "all", 3)
    options.apps = apps if options.apps is None else options.apps
    options.peers = options.peers or peers
    options.repeat = options.repeat or repeat
    return options


class Recorder:
    """Collects the figures of all rounds."""

    def __init__(self) -> None:
        self.rounds: report.Rounds = {}
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.seconds: dict[str, float] = {}
        """How long each contestant was measured, over all rounds."""

    @contextmanager
    def timing(self, who: str) -> Iterator[None]:
        """Count the time of a block as a contestant's."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.seconds[who] = self.seconds.get(who, 0.0) + time.monotonic() - before

    def add(self, who: str, figures: Figures) -> None:
        """Add one round's figures."""
        row = self.rounds.setdefault(who, {})
        for figure, value in figures.items():
            row.setdefault(figure, []).append(value)

    def skipped(self, who: str, reason: PeerMissing) -> None:
        """Note that a peer cannot be had on this machine."""
        line = f"{who} was not measured: {reason}"
        if line not in self.notes:
            self.notes.append(line)

    def failed(self, who: str, error: BaseException) -> None:
        """Note that a contestant could not be measured; the others go on."""
        parts = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
        line = f"{who}: {'; '.join(f'{type(part).__name__}: {part}' for part in parts)}"
        self.failures.append(line)
        print(f"FAILED {line}", file=sys.stderr)


async def measure_all(options: argparse.Namespace, folder: Path, recorder: Recorder) -> None:
    """All rounds of all contestants."""
    wanted = {name.strip() for name in options.only.split(",") if name.strip()} or ALL
    if unknown := wanted - ALL:
        raise SystemExit(f"unknown workload {', '.join(sorted(unknown))}; there are {', '.join(sorted(ALL))}")
    source = options.url or ServerLauncher.of(options.server_command, folder, folder)
    for round_ in range(options.repeat):
        for kind in filter(None, options.apps.split(",")):
            with recorder.timing(APPS[kind]):
                await _protocol(options, source, kind, wanted, folder, recorder, round_)
        with recorder.timing("server alone"):
            await _server_alone(options, source, wanted, folder, recorder)
        for name in _peers(options.peers):
            _say(f"round {round_ + 1}: {name}")
            try:
                with recorder.timing(name):
                    recorder.add(name, await PEERS[name](wanted, folder))
            except PeerMissing as error:
                recorder.skipped(name, error)
            except Exception as error:
                recorder.failed(name, error)


async def _protocol(
    options: argparse.Namespace,
    source: ServerLauncher | str,
    kind: str,
    wanted: set[str],
    folder: Path,
    recorder: Recorder,
    round_: int,
) -> None:
    if not wanted & set(WORKLOADS):
        return
    who = f"{options.name}, {APPS[kind]}"
    _say(f"round {round_ + 1}: {who}")
    try:
        figures, alone = await protocol_round(source, kind, wanted, folder)
    except Exception as error:
        recorder.failed(who, error)
        return
    recorder.add(who, figures)
    if alone:
        recorder.add(f"no server, {APPS[kind]}", alone)


async def _server_alone(
    options: argparse.Namespace,
    source: ServerLauncher | str,
    wanted: set[str],
    folder: Path,
    recorder: Recorder,
) -> None:
    try:
        if "W5" in wanted:
            _say("events accepted")
            recorder.add(options.name, await ingest_round(source, folder))
        if "start" in wanted and isinstance(source, ServerLauncher):
            _say("cold start")
            recorder.add(options.name, await cold_start.measure(source))
    except Exception as error:
        recorder.failed(options.name, error)


def _peers(asked: str) -> list[str]:
    if asked == "none":
        return []
    names = list(PEERS) if asked == "all" else asked.split(",")
    if unknown := set(names) - set(PEERS):
        raise SystemExit(f"unknown peer {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    return names


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run; 1 if anything could not be measured. A goal that is not reached is shown, and is no error."""
    options = arguments(sys.argv[1:] if argv is None else argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=options.folder))
    recorder = Recorder()
    record: dict[str, Any] = {"when": time.strftime("%Y-%m-%d %H:%M:%S %z"), "machine": machine(folder)}
    record |= {"command": ["python", "-m", "bench", *(argv or sys.argv[1:])], "load_before": load_average()}
    # The driver's own collector must not pause in the middle of a latency.
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(measure_all(options, folder, recorder))
    finally:
        record |= {"load_after": load_average(), "rounds": recorder.rounds, "failures": recorder.failures}
        record |= {"notes": recorder.notes, "seconds": recorder.seconds}
        report.write_json(options.folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json", record)
        if not recorder.failures:
            shutil.rmtree(folder, ignore_errors=True)
    _print(options, record, recorder, folder)
    return 1 if recorder.failures else 0


def _print(options: argparse.Namespace, record: dict[str, Any], recorder: Recorder, folder: Path) -> None:
    if options.json:
        import json

        print(json.dumps(record, indent=1))
        return
    print(f"machine: {record['machine']}")
    print(f"load average: {record['load_before']} before, {record['load_after']} after\n")
    print(report.table(recorder.rounds))
    if compared := report.ratios(recorder.rounds, f"{options.name}, {APPS['python']}"):
        print(f"\n**Ratios within this run**\n\n{compared}")
    if not options.markdown:
        print(f"\n{report.goals(recorder.rounds)}")
    parts = ", ".join(f"{who} {seconds:.0f} s" for who, seconds in recorder.seconds.items())
    print(f"\nmeasuring took {sum(recorder.seconds.values()) / 60:.1f} minutes: {parts}")
    for note in recorder.notes:
        print(note)
    for line in recorder.failures:
        print(f"could not be measured: {line}\nlogs: {folder}")


if __name__ == "__main__":
    sys.exit(main())
