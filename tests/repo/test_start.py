"""What the server has loaded when it has started: what is seldom needed waits for its first use.

A list of modules, and not a time or a size, because these fail on the machine of the day.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# The client for apps behind TLS or redirects, the page's query language, the tests' own libraries, and the
# heavy parts of the web framework that no route of a plain start needs.
NOT_AT_START = (
    "aiohttp",
    "fastapi",
    "google.protobuf",
    "graphql",
    "hypothesis",
    "inngest",
    "jinja2",
    "perdure.reading.trace",
    "perdure.server.graphql.schema",
    "perdure.terminal",
    "pydantic",
    "requests",
    "rich",
    "schemathesis",
    "strawberry",
    "typer",
    "websockets",
)
# Expressions are compiled when the first function that has one is registered.
NOT_WITHOUT_EXPRESSIONS = ("cel_expr_python",)

# Runs the command line as a user does; uvicorn's "started" is the moment at which the modules are listed.
PROBE = """
import json, sys, uvicorn

async def listed(self, sockets=None):
    await self._started(sockets)
    print("MODULES " + json.dumps(sorted(sys.modules)), flush=True)
    self.should_exit = True

uvicorn.Server._started = uvicorn.Server.startup
uvicorn.Server.startup = listed
from perdure.cli import main
sys.argv = ["perdure", "dev", "--port", "0", "--no-discovery", "--no-open", "--data-dir", sys.argv[1]]
main()
"""


def modules_after(code: str, *arguments: str, cwd: Path) -> set[str]:
    """Run code in a new Python; the modules that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("MODULES ")]
    assert lines, done.stdout + done.stderr
    return set(json.loads(lines[0].removeprefix("MODULES ")))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("start")
    return modules_after(PROBE, str(folder / "data"), cwd=folder)


def test_the_probe_saw_a_server(started: set[str]) -> None:
    assert {"perdure.cli", "perdure.bootstrap", "uvicorn", "apsw"} <= started


@pytest.mark.parametrize("module", NOT_AT_START + NOT_WITHOUT_EXPRESSIONS)
def test_not_loaded_at_start(module: str, started: set[str]) -> None:
    assert module not in started


def test_help_loads_no_server(tmp_path: Path) -> None:
    code = """
import json, sys
from perdure.cli import main
sys.argv = ["perdure", "--help"]
try:
    main()
finally:
    print("MODULES " + json.dumps(sorted(sys.modules)))
"""
    loaded = modules_after(code, cwd=tmp_path)
    assert {"uvicorn", "starlette", "apsw", "aiohttp"} & loaded == set()
