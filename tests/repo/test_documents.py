"""What the documents say leads somewhere: links, headings, commands."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.repo.tracked import ROOT, tracked

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]*`")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
MAKE = re.compile(r"(?:`|^ {4}|^)make ([a-z]+)", re.MULTILINE)


def documents() -> list[Path]:
    return tracked("*.md")


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    found = set()
    for heading in HEADING.findall(FENCE.sub("", path.read_text())):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def broken_links(path: Path) -> list[str]:
    """The links of a document, to files or headings of this repository, that lead nowhere."""
    broken = []
    for link in LINK.findall(CODE.sub("", FENCE.sub("", path.read_text()))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = unquote(link).partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_every_link_leads_somewhere() -> None:
    found = {str(path.relative_to(ROOT)): broken for path in documents() if (broken := broken_links(path))}
    assert found == {}


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two\n[a](#one-two) [b](#three) [c](none.md) [d](page.md#one-two) `[e](f)` [g](https://h)\n"
    )
    assert broken_links(page) == ["#three", "none.md"]


def test_readme_names_both_commands() -> None:
    commands = MAKE.findall((ROOT / "README.md").read_text())
    assert {"run", "test"} <= set(commands)


def test_every_make_command_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(path.name, target) for path in documents() for target in MAKE.findall(path.read_text())}
    assert {(name, target) for name, target in named if target not in targets} == set()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", ".ci/run"])
def test_what_people_look_for_is_there(name: str) -> None:
    assert (ROOT / name).read_text().strip()


def test_ci_runs_what_everybody_runs() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
