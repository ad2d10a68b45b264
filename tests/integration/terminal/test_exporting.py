"""`perdure export` against a real server."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.terminal.conftest import Terminal
from tests.integration.terminal.test_commands import UNKNOWN, Make
from tests.sdk.bare_app import Answer, ops, ran


def test_to_the_terminal(terminal: Terminal, scripted: Make):
    fn = scripted([ops(ran("a", {"n": 1})), Answer(200, "end")])
    run = fn.run()["run_id"]
    done = terminal("export", run.lower())
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert (document["format"], document["run"]["id"]) == ("perdure.run", run)
    assert done.out.startswith('{\n  "format": "perdure.run"'), "laid out for people who look at it"


def test_to_a_file(terminal: Terminal, scripted: Make, tmp_path: Path):
    fn = scripted([ops(ran("a", {"n": 1})), Answer(200, "end")])
    run = fn.run()["run_id"]
    path = tmp_path / "run.json"
    done = terminal("export", run, "-o", str(path))
    assert (done.code, done.out) == (0, f"saved  {path}  {fn.slug}, completed, 1 finished steps\n")
    assert json.loads(path.read_text())["steps"][0]["name"] == "a"
    told = terminal.json("export", run, "-o", str(path))
    assert told == {"file": str(path), "run_id": run, "function": fn.slug}


def test_what_does_not_work(terminal: Terminal, scripted: Make, tmp_path: Path):
    assert "There is no run" in terminal.error("export", UNKNOWN)
    assert "is not the id of a run" in terminal.error("export", "nonsense")
    run = scripted([Answer(200, "end")]).run()["run_id"]
    path = tmp_path / "missing" / "run.json"
    assert terminal.error("export", run, "-o", str(path)) == (
        f"perdure: {path} cannot be written: No such file or directory.\n"
    )
