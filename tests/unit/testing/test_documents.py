"""What docs/testing.md shows is tests that pass, in a project like a user's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import perdure.testing
from tests.unit.testing.test_plugin import Project

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
BLOCK = re.compile(r"^```(?:python|toml)\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in BLOCK.findall(PAGE.read_text()):
        (tmp_path / name).write_text(text)
    settings = tmp_path / "pyproject.toml"
    more = 'pythonpath = ["."]\nasyncio_default_fixture_loop_scope = "function"\nfilterwarnings = ["error"]\n'
    settings.write_text(settings.read_text() + more)
    return tmp_path


def test_every_block_is_a_file_of_the_project() -> None:
    text = PAGE.read_text()
    assert len(BLOCK.findall(text)) == len(re.findall(r"^```\w", text, re.MULTILINE)) >= 8


def test_the_tests_pass(folder: Path) -> None:
    code, out = Project(folder).pytest()
    assert code == 0, out
    assert "7 passed" in out, out


@pytest.mark.parametrize("checker", [["mypy", "--strict", "--no-error-summary"], ["pyright", "--warnings"]])
def test_the_type_checkers_are_content(folder: Path, checker: list[str]) -> None:
    files = sorted(path.name for path in folder.glob("*.py"))
    command = [sys.executable, "-m", *checker, *files]
    if checker[0] == "pyright":
        command = [sys.executable, "-m", *checker, "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_of_the_page_exists() -> None:
    text = PAGE.read_text()
    server, run = perdure.testing.Server, perdure.testing.Run
    actions = re.findall(
        r"^\| `(\w+)[(`]", text.partition("| of a run")[0].partition("| action")[2], re.MULTILINE
    )
    assert len(actions) >= 8
    assert [name for name in actions if not hasattr(server, name)] == []
    looks = re.findall(r"`(\w+)[(`]", text.partition("| of a run")[2].partition("\n\n")[0])
    known = {
        *dir(run),
        *dir(perdure.testing.RunStep),
        *perdure.testing.Wait._fields,
        *perdure.testing.RunError._fields,
    }
    statuses = {"queued", "running", "completed", "failed", "cancelled", "skipped"}
    made = {"id", "kind", "timed_out"}
    assert [name for name in looks if name not in known | statuses | made] == []
