"""The files of the repository, as git lists them: tracked ones, and new ones that are not ignored."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "perdure"


def tracked(*patterns: str) -> list[Path]:
    """Files that match one of the patterns (all without one); those deleted and not yet committed are left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def texts(*patterns: str) -> list[tuple[Path, str]]:
    """The same files with their text; files that are not UTF-8 are left out."""
    found = []
    for path in tracked(*patterns):
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return found
