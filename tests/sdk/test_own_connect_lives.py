"""Workers on Perdure's own SDK that connect: killed, drained, cancelled, and with a server that dies beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sdk.conftest import Starter
from tests.sdk.driver import Server, free_port, until
from tests.sdk.test_sdk_keys import hashed

SHORT = ("--connect-lease", "3")
"""A worker that shows no sign of life for so many seconds has lost its calls."""


@pytest.mark.parametrize("app_id", ["own-connect", "own-connect-sync"])
def test_a_worker_killed_in_a_step_loses_nothing_that_was_finished(
    app_id: str, start_app: Starter, tmp_path: Path
) -> None:
    server = Server.start(tmp_path, *SHORT)
    try:
        first = start_app(app_id, on=server)
        until("the functions", lambda: first.slug("four-steps") in server.functions())
        sent = first.trigger("four-steps", c=2, key="killed")
        first.saw(sent.key, "the third step", lambda log: "c" in log.steps())
        assert first.log(sent.key).steps() == ["a", "b", "c"]
        first.process.kill()
        second = start_app(app_id, on=server)
        run = second.wait(sent, "four-steps")
        assert (run.status, run.output) == ("Completed", "four")
        assert second.log(sent.key).steps() == ["c", "d"], "a and b were saved"
    finally:
        server.stop()


@pytest.mark.parametrize("app_id", ["own-connect", "own-connect-sync"])
def test_a_worker_outlives_its_server_and_answers_the_next_one(
    app_id: str, start_app: Starter, tmp_path: Path
) -> None:
    server = Server.start(tmp_path)
    try:
        app = start_app(app_id, on=server)
        until("the functions", lambda: app.slug("four-steps") in server.functions())
        sent = app.trigger("four-steps", c=1.5, key="outlived")
        app.saw(sent.key, "the third step", lambda log: "c" in log.steps())
        server.process.kill()
        port = int(server.url.rsplit(":", 1)[1])
        server.process = Server.start(tmp_path, port=port).process
        run = app.wait(sent, "four-steps")
        assert (run.status, run.output) == ("Completed", "four")
        assert run.log.steps()[:2] == ["a", "b"]
        assert run.log.steps().count("d") == 1
        assert run.log.steps().count("b") == 1, "what was saved is not run again"
    finally:
        server.stop()


def test_a_drained_worker_leaves_the_rest_of_a_run_to_another(start_app: Starter, tmp_path: Path) -> None:
    server = Server.start(tmp_path)
    try:
        first = start_app("own-connect", on=server)
        until("the functions", lambda: first.slug("four-steps") in server.functions())
        sent = first.trigger("four-steps", b=4, key="drained")
        first.saw(sent.key, "the second step", lambda log: "b" in log.steps())
        second = start_app("own-connect", on=server)
        assert first.process.terminate() in {0, -signal.SIGTERM}
        run = second.wait(sent, "four-steps")
        assert (run.status, run.output) == ("Completed", "four")
        assert second.log(sent.key).steps() == ["c", "d"], "b was finished where it had begun"
    finally:
        server.stop()


def test_what_a_worker_cannot_finish_in_time_another_begins_at_once(
    start_app: Starter, tmp_path: Path
) -> None:
    server = Server.start(tmp_path)
    try:
        first = start_app("own-connect", on=server)
        until("the functions", lambda: first.slug("four-steps") in server.functions())
        sent = first.trigger("four-steps", b=8, key="given-back")
        first.saw(sent.key, "the second step", lambda log: "b" in log.steps())
        second = start_app("own-connect", on=server)
        first.process.terminate()
        second.saw(sent.key, "the second step again", lambda log: log.steps() == ["b"])
        server.process.kill()
    finally:
        server.stop()


def test_a_cancelled_run_stops_the_step_that_runs(start_app: Starter, tmp_path: Path) -> None:
    server = Server.start(tmp_path)
    try:
        app = start_app("own-connect", on=server)
        until("the functions", lambda: app.slug("stoppable") in server.functions())
        sent = app.trigger("stoppable")
        app.saw(sent.key, "the step", lambda log: "work" in log.steps())
        run_id = server.run_of(sent.event_id, app.slug("stoppable"))["run_id"]
        server.cancel(run_id)
        begun = time.monotonic()
        app.saw(sent.key, "the cancellation", lambda log: "cancelled" in log.steps())
        assert time.monotonic() - begun < 10, "not when the step would have ended"
        assert server.ended(run_id)["status"] == "Cancelled"
        assert app.log(sent.key).steps() == ["work", "cancelled"]
    finally:
        server.stop()


@pytest.mark.slow
def test_all_runs_end_whoever_is_killed_meanwhile(start_app: Starter, tmp_path: Path) -> None:
    port = free_port()
    server = Server.start(tmp_path, *SHORT, port=port)
    try:
        workers = [start_app("own-connect", on=server) for _ in range(2)]
        slug = workers[0].slug("four-steps")
        until("the functions", lambda: slug in server.functions())
        sent: list[str] = []
        for number in range(120):
            data = {"key": f"storm-{number}", "b": number % 3 * 0.1, "d": number % 5 * 0.1}
            sent += server.send({"name": "own-connect/four-steps", "data": data})
            if number in {30, 90}:
                workers.pop(0).process.kill()
                workers.append(start_app("own-connect", on=server))
            if number == 60:
                server.process.kill()
                server.process = Server.start(tmp_path, *SHORT, port=port).process
        for event_id in sent:
            run = server.ended(server.run_of(event_id, slug)["run_id"], timeout=60)
            assert (run["status"], run["output"]) == ("Completed", "four")
    finally:
        server.stop()


def test_keys_let_a_worker_in_also_while_they_are_changed(start_app: Starter, tmp_path: Path) -> None:
    old, new, other = (f"signkey-prod-{digits * 16}" for digits in ("ab12", "cd34", "9999"))
    server = Server.start(
        tmp_path, "--signing-key", old, "--event-key", "ek", token=hashed(old), event_key="ek"
    )
    try:
        env = {"PERDURE_SIGNING_KEY": new, "PERDURE_SIGNING_KEY_FALLBACK": old, "PERDURE_EVENT_KEY": "ek"}
        app = start_app("own-connect", on=server, env=env)
        until("the functions", lambda: app.slug("three-steps") in server.functions())
        run = app.run("three-steps")
        assert (run.status, run.output) == ("Completed", [1, 2, 3])
        assert {post["status"] for post in run.log.checkpoints()} == {200}
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        refused = subprocess.run(
            [sys.executable, str(script), server.url], env={**os.environ, "PERDURE_SIGNING_KEY": other},
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert refused.returncode != 0
        assert "refused the worker's signing key. Compare PERDURE_SIGNING_KEY." in refused.stderr
    finally:
        server.stop()


SCRIPT = """
import sys, perdure

app = perdure.App("script", url=sys.argv[1])

@app.function("script/go", retries=0)
async def go(step: perdure.Step) -> str:
    return await step.run("a", lambda: "done")

app.connect_sync(instance_id="a script")
print("stopped in order", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_script_may_be_there_before_its_server_and_ends_in_order(
    number: signal.Signals, tmp_path: Path
) -> None:
    port = free_port()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    output = tmp_path / "script.log"
    with output.open("wb") as sink:
        worker = subprocess.Popen(
            [sys.executable, str(script), f"http://127.0.0.1:{port}"],
            stdout=sink,
            stderr=subprocess.STDOUT,
            # Whoever runs the tests in the background has interrupts ignored, which a child inherits.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
    try:
        until("a try", lambda: "cannot be reached" in output.read_text())
        assert "perdure dev" in output.read_text()
        server = Server.start(tmp_path / "server", port=port)
        try:
            until("the function", lambda: "script-go" in server.functions())
            (event_id,) = server.send({"name": "script/go", "data": {}})
            run = server.ended(server.run_of(event_id, "script-go")["run_id"])
            assert (run["status"], run["output"]) == ("Completed", "done")
            worker.send_signal(number)
            assert worker.wait(10) == 0
            assert "stopped in order" in output.read_text()
            assert "Traceback" not in output.read_text()
        finally:
            server.stop()
    finally:
        worker.kill()
        worker.wait()
