"""Make the lock files anew: `make lock`, or `make lock` after a change of pyproject.toml.

Each names every package with the hashes of all its files, for every platform and for Python 3.11 and later,
and no address, so that it says the same wherever packages come from. The smaller locks take their versions from
the largest: installing one over another changes nothing that both name.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# {what}\n# Made by `make lock` from pyproject.toml. Do not edit.\n"
# Largest first: the others are constrained by it.
PROJECT = ["pyproject.toml"]
LOCKS = {
    "test": (
        "Everything: the server, the example app, lint and tests.",
        [*PROJECT, "--extra", "example", "--extra", "dev", "--extra", "lock"],
    ),
    "example": ("The server and the example app.", [*PROJECT, "--extra", "example"]),
    "server": ("The server alone, as `pip install perdure` brings it.", PROJECT),
    "node": ("Node.js, for the tests on a machine that has none.", ["--group", "node"]),
}
ADDRESS = re.compile(r"https?://|file://|--(extra-)?index-url|--find-links", re.IGNORECASE)


def compile_lock(name: str, what: str, sources: list[str]) -> None:
    """Write requirements/<name>.txt. Exits with a message if the resolver fails or an address gets in."""
    target = ROOT / "requirements" / f"{name}.txt"
    command = [
        sys.executable, "-m", "uv", "pip", "compile", *sources,
        "--universal", "--python-version", "3.11", "--generate-hashes",
        "--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header", "--upgrade", "--quiet",
    ]  # fmt: skip
    if name != "test":
        command += ["--constraints", "requirements/test.txt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"requirements/{name}.txt was not made; the old one stays.\n{done.stderr}")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    if found := [line for line in lines if ADDRESS.search(line)]:
        sys.exit(f"requirements/{name}.txt was not made: an address got into it:\n" + "\n".join(found))
    target.write_text(HEADER.format(what=what) + "\n".join(lines) + "\n", encoding="utf-8")
    packages = sum(1 for line in lines if line and not line.startswith(" "))
    print(f"requirements/{name}.txt: {packages} packages")


if __name__ == "__main__":
    for lock, (description, chosen) in LOCKS.items():
        compile_lock(lock, description, chosen)
