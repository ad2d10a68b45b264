"""Runs of a real server, exported and replayed against the app's code in this process."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.testing import replay_export
from tests.sdk.driver import HERE, App

pytestmark = pytest.mark.apps("own", "own-sync", "own-connect")

SAME = (
    "three-steps",
    "loop",
    "caught",
    "uncaught",
    "sleep",
    "fetch",
    "invoke",
    "send-event",
    "parallel",
    "parallel-failing",
    "typed",
)


@pytest.fixture
def code(app: App, monkeypatch: pytest.MonkeyPatch) -> perdure.App:
    """The app as its process has it."""
    monkeypatch.syspath_prepend(str(HERE / "apps"))
    log = importlib.import_module("call_log").CallLog()
    module = importlib.import_module("own_sync" if app.app_id.endswith("sync") else "own_async")
    made = perdure.App(app.app_id)
    module.Scenarios(made, log)
    return made


def exported(app: App, run_id: str) -> dict[str, Any]:
    document: dict[str, Any] = app.server.http.get(f"/v1/runs/{run_id}/export").raise_for_status().json()
    return document


@pytest.mark.parametrize("fn", SAME)
def test_the_same_code_does_the_same(app: App, code: perdure.App, fn: str) -> None:
    more = {"url": f"{app.process.url}/log"} if fn == "fetch" else {}
    run = app.run(fn, **more)
    document = exported(app, run.run_id)
    replay = replay_export(document, code)
    replay.assert_same()
    assert len(replay.steps) == len(document["steps"]) > 0


def test_a_run_that_waits(app: App, code: perdure.App, tmp_path: Path) -> None:
    sent = app.trigger("wait-for-signal")
    app.paused(sent, "WaitForSignal")
    run_id = app.server.run_of(sent.event_id, app.slug("wait-for-signal"))["run_id"]
    path = tmp_path / "run.json"
    path.write_bytes(app.server.http.get(f"/v1/runs/{run_id}/export").content)
    assert replay_export(path, code).same
    other = code.functions[app.slug("three-steps")]
    difference = replay_export(path, code, function=other).difference
    assert difference is not None
    assert (difference.kind, difference.recorded) == (
        "renamed",
        'waits in "signal"',
    ) or difference.kind == "new"
    app.server.cancel(run_id)


def test_changed_code(app: App, code: perdure.App) -> None:
    run = app.run("three-steps")
    document = exported(app, run.run_id)
    last = document["steps"][-1]
    last["name"], last["id"] = "old-name", "0" * 40
    difference = replay_export(document, code).difference
    assert difference is not None
    assert (difference.kind, difference.recorded) == ("renamed", 'goes on with "old-name"')
