"""The pages: their types are those of the server, and what a browser gets first is small."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from perdure.server.api.openapi import document
from perdure.server.api.routes import ENDPOINTS
from perdure.server.pages.files import FOLDER
from tests.repo.tracked import ROOT

UI = ROOT / "ui"
FIRST_PAGE_BYTES = 250 * 1024
"""What a browser loads for the list of runs, compressed."""


def test_the_document_in_ui_is_that_of_the_server() -> None:
    kept = json.loads((UI / "api.json").read_text())
    now = json.loads(json.dumps(document(ENDPOINTS, "")))
    assert kept == now, "the API has changed: `make ui` makes the pages' types anew"


def test_the_types_are_made_from_the_document() -> None:
    """Every operation and every shape of the document has its type: a cheap look that the generator was run."""
    types = (UI / "src" / "shared" / "api" / "schema.ts").read_text()
    kept = json.loads((UI / "api.json").read_text())
    names = [one["operationId"] for path in kept["paths"].values() for one in path.values()]
    missing = [
        name for name in [*names, *kept["components"]["schemas"]] if not re.search(rf"\b{name}: \{{", types)
    ]
    assert not missing


@pytest.fixture(scope="module")
def built() -> Path:
    assert (FOLDER / "index.html").is_file(), "the pages are not built: `make ui`"
    return FOLDER


def test_the_first_page_is_small(built: Path) -> None:
    html = (built / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="\./(assets/[^"]+)"', html)
    assert len(loaded) > 1
    sizes = {name: len(gzip.compress((built / name).read_bytes(), 9)) for name in loaded}
    assert sum(sizes.values()) <= FIRST_PAGE_BYTES, sizes


def test_addresses_are_relative(built: Path) -> None:
    """So that the pages can be shown under any path."""
    html = (built / "index.html").read_text()
    assert not re.search(r'(?:src|href)="/(?!")', html)
    assert '<base href="/" />' in html, "the server writes its path here"
