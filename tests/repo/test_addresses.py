"""Nothing in the repository says where packages come from or where this checkout lies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from urllib.parse import urlsplit

from tests.repo.tracked import ROOT, texts, tracked

ADDRESS_OPTIONS = re.compile(
    r'"resolved": *"http|--(extra-)?index-url[ =]+http|--find-links[ =]+http|^registry *=', re.M
)
URL = re.compile(r"[a-z]+://", re.IGNORECASE)
# In pieces, so that this file does not name them either.
PUBLIC_HOSTS = tuple(
    ".".join(parts) for parts in (("files", "pythonhosted", "org"), ("registry", "npmjs", "org"))
)
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


def hosts_in_use() -> set[str]:
    """The hosts that the package clients of this machine are set to."""
    said = [value for name, value in os.environ.items() if re.match(r"(pip|uv|npm)_", name, re.IGNORECASE)]
    commands = [[sys.executable, "-m", "pip", "config", "list"]]
    if npm := shutil.which("npm"):
        commands.append([npm, "config", "get", "registry"])
    for command in commands:
        said.append(subprocess.run(command, capture_output=True, text=True, check=False, cwd="/").stdout)
    found = {urlsplit(url).hostname for text in said for url in re.findall(r"https?://[^\s'\",]+", text)}
    return {host for host in found if host and host not in LOCAL_HOSTS}


def test_no_file_names_a_package_host() -> None:
    hosts = hosts_in_use() | set(PUBLIC_HOSTS)
    found = [(str(path.relative_to(ROOT)), host) for path, text in texts() for host in hosts if host in text]
    assert found == []


def test_no_file_sets_an_address_for_packages() -> None:
    found = [
        (str(path.relative_to(ROOT)), match.group())
        for path, text in texts()
        if path.suffix != ".py"
        for match in ADDRESS_OPTIONS.finditer(text)
    ]
    assert found == []


def test_no_file_names_this_checkout() -> None:
    assert [str(path) for path, text in texts() if f"{ROOT}/" in text] == []


def test_python_locks_hold_versions_and_hashes_and_nothing_else() -> None:
    locks = tracked("requirements/*.txt")
    assert {path.name for path in locks} == {"server.txt", "example.txt", "test.txt", "node.txt"}
    for path in locks:
        text = path.read_text()
        assert URL.findall(text) == [], path
        for entry in re.split(r"\n(?=[^\s#])", text.split("\n\n")[-1].strip()):
            if not entry.startswith("#"):
                assert re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+", entry), entry
                assert "--hash=sha256:" in entry, entry


def test_smaller_locks_agree_with_the_largest() -> None:
    def versions(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.M))

    largest = versions("test")
    for smaller in ("server", "example"):
        assert versions(smaller).items() <= largest.items()
    assert versions("server").items() <= versions("example").items()


def test_javascript_locks_name_no_address() -> None:
    for path in tracked("package-lock.json", "**/package-lock.json"):
        packages = json.loads(path.read_text())["packages"]
        assert {name: entry["resolved"] for name, entry in packages.items() if "resolved" in entry} == {}
        assert [name for name, entry in packages.items() if name and "integrity" not in entry] == []
        settings = (path.parent / ".npmrc").read_text().splitlines()
        assert "omit-lockfile-registry-resolved=true" in settings, f"{path.parent}/.npmrc"
