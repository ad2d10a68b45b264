"""The package as a stranger gets it: built, installed into a clean environment from the lock, run in an empty folder.

This is what `pipx run perdure dev` does, with the wheel in place of a download.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import perdure
from tests.repo.running import free_port, request, started, wait_for
from tests.repo.tracked import ROOT, SOURCE, tracked


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command; its output. Fails with what it said."""
    # Neither this checkout nor the packages of the tests may be seen from the clean environment.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a clean environment that holds the wheel and the server's lock, and nothing else."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    pip: list[str | Path] = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    run(*pip, "--require-hashes", "-r", "requirements/server.txt")
    run(*pip, "--no-deps", wheel)
    return folder / "bin"


def test_wheel_holds_every_module_and_the_licence(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {f"perdure/{path.relative_to(SOURCE).as_posix()}" for path in tracked("src/perdure/*.py")}
    assert modules - names == set()
    assert {name for name in names if not name.startswith(("perdure/", "perdure-"))} == set()
    assert "perdure/py.typed" in names
    assert any(name.endswith("/LICENSE") for name in names)


def test_nothing_is_missing_from_the_dependencies(installed: Path) -> None:
    run(installed / "python", "-m", "pip", "check")


def test_wheel_is_this_version(installed: Path) -> None:
    assert perdure.__version__ in run(installed / "perdure", "--version", cwd=installed)


def test_server_runs_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    folder, log, port = tmp_path / "empty", tmp_path / "log", free_port()
    folder.mkdir()
    command = [str(installed / "perdure"), "dev", "--port", str(port), "--no-discovery", "--no-open"]
    with started(command, folder, log) as server:
        health = wait_for("/health", lambda: request(f"http://127.0.0.1:{port}/health"), 30, log)
        assert health["status"] == 200
        assert request(f"http://127.0.0.1:{port}/dev")["version"].startswith(perdure.__version__)
        assert (folder / ".perdure").is_dir()
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0, log.read_text()
