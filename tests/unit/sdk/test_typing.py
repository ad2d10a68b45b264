"""The types of the SDK say what is right, and refuse what is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent / "typing"
ROOT = Path(__file__).parents[3]
ERROR = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: .*\[(?P<code>[a-z-]+)\]$")
EXPECTED = re.compile(r"# expect: (?P<codes>[a-z, -]+)$")


def errors_of(name: str) -> dict[int, set[str]]:
    """The codes of mypy's errors in a file, by line."""
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--no-pretty",
        str(HERE / name),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    found: dict[int, set[str]] = {}
    for line in done.stdout.splitlines():
        match = ERROR.match(line)
        if match and match["file"].endswith(name):
            found.setdefault(int(match["line"]), set()).add(match["code"])
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    assert found or done.returncode == 0, done.stdout
    return found


def test_ordinary_uses_pass() -> None:
    assert errors_of("right.py") == {}


def test_every_wrong_use_is_refused_and_nothing_else() -> None:
    expected = {
        number: set(match["codes"].replace(" ", "").split(","))
        for number, line in enumerate((HERE / "wrong.py").read_text().splitlines(), 1)
        if (match := EXPECTED.search(line))
    }
    found = errors_of("wrong.py")
    assert set(found) == set(expected)
    assert {line: codes for line, codes in found.items() if not codes & expected[line]} == {}
