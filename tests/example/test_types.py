"""The examples pass both type checkers in their strictest mode, and a handler of the wrong type does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRONG = """
from __future__ import annotations

import perdure
from examples.opportunity_tracker.jobs import TranscriptUploaded, email_wanted

app = perdure.App("wrong")


@app.function(email_wanted)
async def takes_another_type(event: TranscriptUploaded, step: perdure.Step) -> None: ...
"""

pytestmark = pytest.mark.slow


def pyright(folder: Path) -> dict[str, Any]:
    """What pyright says of a folder, strictly."""
    settings = {
        "extraPaths": [str(ROOT), str(ROOT / "src")],
        "typeCheckingMode": "strict",
        "pythonVersion": "3.11",
    }
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(settings))
    command = [
        sys.executable,
        "-m",
        "pyright",
        "--project",
        str(project),
        "--pythonpath",
        sys.executable,
        "--outputjson",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_pyright_passes_the_examples(tmp_path: Path) -> None:
    # A copy, since pyright looks at nothing outside of the folder of its settings.
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    report = pyright(tmp_path)
    assert report["summary"]["filesAnalyzed"] > 15
    problems = [
        f"{one['file']}:{one['range']['start']['line'] + 1}: {one['message']}"
        for one in report["generalDiagnostics"]
    ]
    assert problems == []


def test_pyright_refuses_a_handler_of_another_type(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    report = pyright(tmp_path)
    assert report["summary"]["errorCount"] > 0
    assert "TranscriptUploaded" in json.dumps(report["generalDiagnostics"])
