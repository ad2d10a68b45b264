"""`make test`: every check of the project, in parts that are named and timed. `run_tests.py unit repo`: two of them.

A part that takes longer than its limit is ended and counts as failed, so that the whole ends within its bound whatever
hangs. What is not run (a folder that is not there, tests that skip themselves) is listed at the end with its reason:
a green run says what it did not look at.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "ui"
BIN = ROOT / ".venv" / "bin"
# Node.js, if this machine has none of its own (scripts/environment.py).
NODE_BIN = ROOT / ".venv" / "node" / "bin"
# The parts are meant to fit a machine of two cores; the sum of their limits is above this on purpose, since not all
# of them are slow on the same day.
TOTAL_SECONDS = 40 * 60
NO_TESTS_COLLECTED = 5
# Parts whose tests mostly wait for timers: two files at a time take half as long.
WAITING_PARTS = frozenset(("integration", "sdk"))
SIDE_BY_SIDE = ["-n", "2", "--dist", "loadfile"]


@dataclass
class Outcome:
    """What came of one part. `not_run` maps a reason to how many tests it kept from running."""

    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    not_run: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Part:
    """One part: what runs it, and after how many seconds it is ended."""

    run: Callable[[str, float], Outcome]
    limit: float


def execute(command: list[str], limit: float) -> int | None:
    """Run a command with its output shown; its exit code, or None if it had to be ended with all that it started."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", ""), str(NODE_BIN)])
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL, start_new_session=True
    ) as child:
        try:
            return child.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Also what a finished run left behind: servers of tests that failed.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)


def run_lint(_: str, limit: float) -> Outcome:
    """Style, format, types and layers; each counts as one check."""
    checks = {
        "ruff check": [str(BIN / "ruff"), "check", "--quiet"],
        "ruff format": [str(BIN / "ruff"), "format", "--check", "--quiet"],
        "mypy --strict": [str(BIN / "mypy"), "--strict"],
        "import-linter": [str(BIN / "lint-imports")],
    }
    return run_checks(checks, limit)


def run_ui(_: str, limit: float) -> Outcome:
    """Types, style and tests of the pages' own code; each counts as one check."""
    if not (UI / "node_modules" / ".bin" / "tsc").exists():
        return Outcome(not_run=Counter({"the packages of ui are not installed (no Node.js)": 1}))
    checks = {
        name: ["npm", "--prefix", str(UI), "run", "--silent", name] for name in ("check", "lint", "test")
    }
    return run_checks(checks, limit)


def run_checks(checks: dict[str, list[str]], limit: float) -> Outcome:
    """Run commands one after the other; each is a check that its exit code decides."""
    outcome = Outcome()
    deadline = time.monotonic() + limit
    for name, command in checks.items():
        code = execute(command, max(1.0, deadline - time.monotonic()))
        if code == 0:
            outcome.passed += 1
        else:
            outcome.failed += 1
            outcome.problems.append(f"{name}: {'took too long' if code is None else f'exit code {code}'}")
    return outcome


def run_pytest(part: str, limit: float) -> Outcome:
    """The tests of one folder, with what pytest counted."""
    outcome = Outcome()
    folder = ROOT / "tests" / part
    if not any(folder.rglob("test_*.py")):
        outcome.not_run[f"tests/{part} holds no tests yet"] += 1
        return outcome
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        workers = SIDE_BY_SIDE if part in WAITING_PARTS else []
        command = [
            str(BIN / "python"),
            "-m",
            "pytest",
            "-q",
            *workers,
            f"--junitxml={report}",
            f"tests/{part}",
        ]
        code = execute(command, limit)
        if report.exists():
            count(report, outcome)
    if code is None:
        outcome.failed += 1
        outcome.problems.append(f"took longer than {limit:.0f} s and was ended")
    elif code == NO_TESTS_COLLECTED:
        outcome.failed += 1
        outcome.problems.append("there are test files, and pytest found no test in them")
    elif code and not outcome.failed:
        outcome.failed += 1
        outcome.problems.append(f"pytest ended with exit code {code}")
    return outcome


def count(report: Path, outcome: Outcome) -> None:
    """Add up pytest's report."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
            outcome.problems.append(f"{case.get('classname')}::{case.get('name')}")
        elif skipped is not None:
            outcome.not_run[skipped.get("message") or "no reason given"] += 1
        else:
            outcome.passed += 1


PARTS = {
    "lint": Part(run_lint, 240),
    "ui": Part(run_ui, 240),
    "unit": Part(run_pytest, 420),
    "contract": Part(run_pytest, 300),
    "integration": Part(run_pytest, 900),
    "sdk": Part(run_pytest, 900),
    "sim": Part(run_pytest, 420),
    "example": Part(run_pytest, 600),
    "browser": Part(run_pytest, 300),
    "repo": Part(run_pytest, 300),
}


def unnamed_folders() -> list[str]:
    """Folders of tests that belong to no part: they would never be run."""
    found = {path.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("test_*.py")}
    return sorted(found - set(PARTS))


def main(names: list[str]) -> int:
    """Run the named parts, or all. 0 if everything passed."""
    if unknown := [name for name in names if name not in PARTS]:
        print(f"There is no part {unknown[0]!r}. The parts are: {' '.join(PARTS)}", file=sys.stderr)
        return 2
    outcomes: dict[str, Outcome] = {}
    end = time.monotonic() + float(os.environ.get("TEST_TIME_LIMIT", TOTAL_SECONDS))
    for name in names or PARTS:
        part = PARTS[name]
        started = time.monotonic()
        limit = min(part.limit, end - started)
        print(f"\n=== {name} (at most {max(limit, 0):.0f} s)", flush=True)
        if limit <= 0:
            outcomes[name] = Outcome(failed=1, problems=["not started: the time of the whole run was over"])
            continue
        outcomes[name] = part.run(name, limit)
        outcomes[name].seconds = time.monotonic() - started
    return report(outcomes, whole=not names)


def report(outcomes: dict[str, Outcome], whole: bool) -> int:
    """Print what came of each part, and the sum. 0 if everything passed."""
    if whole:
        for folder in unnamed_folders():
            outcomes[folder] = Outcome(
                failed=1, problems=[f"tests/{folder} belongs to no part and is never run"]
            )
    print("\n=== result")
    for name, outcome in outcomes.items():
        print(
            f"{name:<12} {outcome.passed:>5} passed {outcome.failed:>4} failed "
            f"{sum(outcome.not_run.values()):>4} not run {outcome.seconds:>8.1f} s"
        )
    for name, outcome in outcomes.items():
        for reason, times in outcome.not_run.items():
            print(f"NOT RUN  {name}: {reason}" + (f" ({times} tests)" if times > 1 else ""))
        for problem in outcome.problems:
            print(f"FAILED   {name}: {problem}")
    if not (shutil.which("node") or (NODE_BIN / "node").exists()):
        print("NOT RUN  sdk: everything on the JavaScript SDK, since there is no Node.js")
    passed = sum(outcome.passed for outcome in outcomes.values())
    failed = sum(outcome.failed for outcome in outcomes.values())
    skipped = sum(sum(outcome.not_run.values()) for outcome in outcomes.values())
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
