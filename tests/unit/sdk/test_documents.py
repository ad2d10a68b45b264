"""What docs/sdk.md shows is code that runs."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import perdure
from perdure import middleware

PAGE = Path(__file__).parents[3] / "docs" / "sdk.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """All blocks of the page as one module."""
    monkeypatch.setenv("PAYLOAD_KEY", "a long random text")
    module = types.ModuleType("perdure_docs_sdk")
    sys.modules[module.__name__] = module
    code = "\n".join(BLOCK.findall(PAGE.read_text()))
    exec(compile(code, str(PAGE), "exec"), vars(module))
    return module


def test_the_examples_declare_what_they_say(shown: types.ModuleType) -> None:
    app: perdure.App = shown.app
    slugs = set(app.functions)
    assert slugs >= {"shop-fulfil", "shop-audit", "shop-every-morning", "shop-side-by-side", "shop-plain"}
    assert "shop-with-plan-b-failure" in slugs
    for function in app.functions.values():
        assert function.config("http://localhost/api/inngest")["id"] == function.slug


def test_the_examples_pass_the_type_checker(tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text("from __future__ import annotations\n" + "\n".join(BLOCK.findall(PAGE.read_text())))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PAGE.parents[1], check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_option_and_name_of_the_page_exists() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"`(?:\w+=)?([A-Z]\w+)\(", text)) - {"App", "Litestar"}
    known = {*perdure.__all__, *middleware.__all__}
    assert named <= known, named - known
    for step in re.findall(r"`step\.(\w+)\(", text):
        assert hasattr(perdure.Step, step) or step == "ai", step
