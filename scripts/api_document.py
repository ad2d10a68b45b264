"""Write the document of the pages' API to `ui/api.json`, from which the pages' types are made."""

from __future__ import annotations

import json
from pathlib import Path

from perdure.server.api.openapi import document
from perdure.server.api.routes import ENDPOINTS

FILE = Path(__file__).resolve().parent.parent / "ui" / "api.json"


def text() -> str:
    """The document as it is kept: without the version of the server, which the types do not hold."""
    return json.dumps(document(ENDPOINTS, ""), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
