"""Rules of style that need no reader: the length of files, and where time and chance may come from."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.repo.tracked import ROOT, SOURCE, tracked

LONGEST_FILE = 500
# Everything else gets time, random bytes and ids as arguments: that is what makes a simulated history repeatable.
MAY_ASK_THE_WORLD = ("bootstrap.py", "cli.py", "sdk/world.py", "transports/")
BANNED_CALLS = {
    "time.time",
    "time.time_ns",
    "uuid.uuid1",
    "uuid.uuid4",
    "os.urandom",
    "os.getrandom",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
}
BANNED_MODULES = {"random", "secrets"}


def source_files() -> list[Path]:
    return tracked("src/*.py")


def banned_in(text: str) -> list[str]:
    """The banned calls and imports in a module, each as `line: name`, whatever they were imported as."""
    names: dict[str, str] = {}
    found: list[tuple[int, str]] = []
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                if alias.name.partition(".")[0] in BANNED_MODULES:
                    found.append((node.lineno, alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            if node.module.partition(".")[0] in BANNED_MODULES:
                found.append((node.lineno, node.module))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and (name := dotted(node, names)) in BANNED_CALLS:
            found.append((node.lineno, name))
    return [f"{line}: {name}" for line, name in sorted(set(found))]


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name that an expression such as `dt.now` stands for, or "" if it is something else."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value, names)):
        return f"{owner}.{node.attr}"
    return ""


def test_there_is_source() -> None:
    assert SOURCE / "__init__.py" in source_files()


def test_no_source_file_is_too_long() -> None:
    lengths = {str(path): len(path.read_text().splitlines()) for path in source_files()}
    assert {path: length for path, length in lengths.items() if length > LONGEST_FILE} == {}


def test_time_and_chance_are_arguments() -> None:
    found = {}
    for path in source_files():
        inside = path.relative_to(SOURCE).as_posix()
        if not inside.startswith(MAY_ASK_THE_WORLD) and (banned := banned_in(path.read_text())):
            found[inside] = banned
    assert found == {}


THE_AUTHORS_OWN = {"django", "flask", "litestar", "nacl", "opentelemetry", "pydantic", "starlette"}
"""What the SDK imports only where the author's code has done so."""


def test_every_library_is_declared() -> None:
    """What src imports is in the dependencies, also if another package happens to bring it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {normal(re.split(r"[^\w.-]", entry)[0]) for entry in project["dependencies"]}
    distributions = importlib.metadata.packages_distributions()
    missing = {}
    for path in source_files():
        for module in imported(path.read_text()) - set(sys.stdlib_module_names) - {"perdure"}:
            if module in THE_AUTHORS_OWN and path.is_relative_to(SOURCE / "sdk"):
                continue
            if module == "pytest" and path == SOURCE / "testing" / "plugin.py":
                continue  # pytest loads it, nobody else
            if not declared & {normal(name) for name in distributions.get(module, [])}:
                missing[module] = str(path)
    assert missing == {}


def imported(text: str) -> set[str]:
    """The top-level names of the modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import time\ntime.time()", ["2: time.time"]),
        ("import time as t\nnow = t.time", ["2: time.time"]),
        ("from time import time\ntime()", ["2: time.time"]),
        ("from datetime import datetime\ndatetime.now()", ["2: datetime.datetime.now"]),
        ("import datetime as dt\ndt.datetime.now(dt.UTC)", ["2: datetime.datetime.now"]),
        ("from uuid import uuid4 as new\nnew()", ["2: uuid.uuid4"]),
        ("import random", ["1: random"]),
        ("from secrets import token_hex", ["1: secrets"]),
        ("import os\nos.urandom(8)", ["2: os.urandom"]),
        ("import time\ntime.monotonic()", []),
        ("clock.time()\nrun.random", []),
    ],
)
def test_the_rule_sees_what_it_should(text: str, found: list[str]) -> None:
    assert banned_in(text) == found
