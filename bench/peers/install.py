"""The peers' own environments: a virtualenv and a node_modules under bench/.peers, made on first use."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import BENCH

HOME = BENCH / ".peers"
PINS = BENCH / "peers"
PYTHON = HOME / "venv" / "bin" / "python"
GRANIAN = HOME / "venv" / "bin" / "granian"


class PeerMissing(RuntimeError):
    """A peer, or what it stands on, cannot be had on this machine; the text says what would help."""


def restate_server() -> Path:
    """The Restate server's program, installed if need be; PeerMissing if there is none for this machine."""
    _node()
    found = sorted(HOME.glob("node/node_modules/@restatedev/restate-server-*/bin/restate-server"))
    if not found:
        raise PeerMissing("npm has no restate-server for this machine")
    return found[0]


def python() -> Path:
    """The interpreter of the peers' virtualenv, installed if need be."""
    lock = PINS / "requirements.txt"
    if not _fresh(lock, HOME / "venv"):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME / "venv")], check=True)
        subprocess.run(
            [str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock)], check=True
        )
        _remember(lock, HOME / "venv")
    return PYTHON


def _node() -> None:
    lock, folder = PINS / "package-lock.json", HOME / "node"
    if _fresh(lock, folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(PINS / name, folder / name)
    install_node(folder)
    _remember(lock, folder)


def javascript_app() -> None:
    """node_modules of the JavaScript app, installed if need be."""
    lock, folder = BENCH / "js" / "package-lock.json", BENCH / "js" / "node_modules"
    if not _fresh(lock, folder):
        install_node(folder.parent)
        _remember(lock, folder)


def install_node(folder: Path) -> None:
    """Install what the folder's lock file names; none of the packages needs its install script."""
    if shutil.which("npm") is None:
        raise PeerMissing("npm is not installed; Debian's `npm` or Node's own packages bring it")
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=folder, check=True
    )


def _fresh(lock: Path, folder: Path) -> bool:
    mark = folder / ".installed-from"
    return mark.exists() and mark.read_bytes() == lock.read_bytes()


def _remember(lock: Path, folder: Path) -> None:
    shutil.copy(lock, folder / ".installed-from")


def main() -> None:
    """Install all of it."""
    python()
    _node()
    javascript_app()


if __name__ == "__main__":
    main()
