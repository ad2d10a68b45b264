"""What running steps tell, on every way that leads to the server; cancellation that comes back; secrets kept."""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pytest

from perdure.middleware import Encryption, Payload
from tests.sdk.driver import App, until

pytestmark = pytest.mark.apps(
    "own", "own-sync", "own-connect", "own-connect-sync", "own-embedded", "own-embedded-sync", "own-flask"
)

KEY = "a key that the server does not have"


def logs(app: App, run_id: str) -> Any:
    answer = app.server.http.get(f"/v1/runs/{run_id}/logs")
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def run_of(app: App, event_id: str, fn: str) -> str:
    return str(app.server.run_of(event_id, app.slug(fn))["run_id"])


def test_lines_of_functions_and_steps_are_on_their_run_each_once(app: App) -> None:
    run = app.run("telling")
    assert (run.status, run.output) == ("Completed", "told")
    assert len(run.log.calls) >= 3, "the function's code has been run again"
    found = until("all lines", lambda: len(logs(app, run.run_id)["lines"]) >= 5 and logs(app, run.run_id))
    time.sleep(0.5)  # what would come twice has come
    found = logs(app, run.run_id)
    names = {one["step"]: one["name"] for one in found["steps"]}
    said = [(names[line["step"]], line["message"], line["attempt"]) for line in found["lines"]]
    first = [("", "begins", 0), ("work", "attempt 0", 0)]
    if said[2] == ("", "begins", 1):
        said.pop(2)  # the function is a new attempt as well, and may say so
    assert said == [*first, ("work", "attempt 1", 1), *said[3:4], ("", "ends", 0)]
    assert said[3][:2] == ("", "between")
    assert found["lines"][1]["fields"] == {"amount": 7}
    assert found["lines"][1]["logger"] == "tests.telling"
    (work,) = [one for one in found["steps"] if one["name"] == "work"]
    assert (work["progress"], work["message"], work["attempt"]) == (1.0, "all of it", 1)
    assert [one["name"] for one in app.server.run(run.run_id)["steps"]].count("work") == 1


def test_progress_is_shown_while_the_step_runs_and_a_cancelled_run_stops_it(app: App) -> None:
    sent = app.trigger("long")
    app.saw(sent.key, "the step", lambda log: "begins" in log.steps())
    run_id = run_of(app, sent.event_id, "long")

    def progress() -> float:
        steps = app.server.run(run_id).get("steps") or [{"progress": 0}]
        return float(steps[0]["progress"] or 0)

    seen = until("some progress", progress)
    until("more progress", lambda: progress() > seen)
    assert app.server.cancel(run_id) == 200
    app.saw(sent.key, "the end of the step", lambda log: "stopped" in log.steps(), 10)
    stopped = next(note for note in app.log(sent.key).notes if note["step"] == "stopped")
    expected = "RunCancelledError" if "sync" in app.app_id or "flask" in app.app_id else "CancelledError"
    assert stopped["error"] == expected
    assert app.server.run(run_id)["status"] == "Cancelled"


def test_the_server_has_no_secret(app: App) -> None:
    run = app.run("secret", n=1)
    assert run.status == "Completed"
    assert [note["value"] for note in run.log.notes] == [{"password": "hunter2"}]
    history = app.server.http.get(f"/v1/runs/{run.run_id}/history").text
    assert "hunter2" not in history + json.dumps(run.output)
    opened = Encryption(KEY).transform_input(run.output, Payload("function", app.slug("secret")))
    assert msgspec.json.decode(bytes(opened)) == [{"password": "hunter2"}, 1]


@pytest.mark.apps("own", "own-stream")
def test_an_async_step_that_tells_nothing_is_stopped_as_well(app: App) -> None:
    """Over HTTP by the signs of life that long calls give: of the other ways their own tests tell."""
    sent = app.trigger("stoppable")
    app.saw(sent.key, "the step", lambda log: "work" in log.steps())
    assert app.server.cancel(run_of(app, sent.event_id, "stoppable")) == 200
    app.saw(sent.key, "the end of the step", lambda log: "cancelled" in log.steps(), 15)
