"""Build the pages from `ui/` into the package: `python3 scripts/pages.py`. Nothing is done if they are up to date.

The stamp in the built folder holds a hash of all that the build reads, so that pages are built anew exactly when
something of them has changed. Standard library only, and readable by Python 3.7.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "ui"
BUILT = ROOT / "src" / "perdure" / "server" / "pages" / "static"
STAMP = BUILT / "built-from.txt"
OLDEST_NODE = (20, 19)
"""What Vite needs."""
_READ = (
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    "public",
    "src",
)


def fingerprint() -> str:
    """A hash of all that the build reads."""
    digest = hashlib.sha256()
    for name in _READ:
        path = UI / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and ".test." not in file.name:
                digest.update(file.relative_to(UI).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def current() -> bool:
    """Whether the built pages are those of the sources (or there are no sources to build from)."""
    if not UI.is_dir():
        return True
    return STAMP.is_file() and STAMP.read_text().strip() == fingerprint()


def npm_of_this_machine() -> list[str] | None:
    """The command for npm, if this machine has one and its Node.js is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    done = subprocess.run([node, "--version"], stdout=subprocess.PIPE, text=True, check=False)
    version = tuple(int(part) for part in done.stdout.strip().lstrip("v").split(".")[:2] if part.isdigit())
    return [npm] if version >= OLDEST_NODE else None


def install(npm: list[str], *, checks: bool) -> None:
    """Install what the build needs; with `checks`, also what checking the sources needs."""
    _run(npm, ["ci", *([] if checks else ["--omit=dev"])])


def build(npm: list[str]) -> None:
    """Build the pages. What the build needs is installed."""
    _run(npm, ["run", "build"])
    STAMP.write_text(fingerprint() + "\n")


def _run(npm: list[str], arguments: list[str]) -> None:
    """Run npm in ui/. Exits with its own words if that fails."""
    path = os.pathsep.join([str(Path(npm[0]).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*npm, *arguments],
        cwd=UI,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": path},
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nBuilding the pages failed (above). In ui/: npm {' '.join(arguments)}")


if __name__ == "__main__":
    if not current():
        found = npm_of_this_machine()
        if found is None:
            sys.exit("Node.js 20.19 or later was not found. `make ui` brings one of its own.")
        install(found, checks=False)
        build(found)
