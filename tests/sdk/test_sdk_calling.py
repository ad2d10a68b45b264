"""Functions that call functions, send events, wait for signals, or let the server fetch something."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.sdk.driver import App, until


def test_invoke_gives_the_result_of_the_other_function(app: App) -> None:
    run = app.run_among_peers("invoke")
    assert (run.status, run.output) == ("Completed", [{"doubled": 42}, "end"])
    notes = app.log(run.key).notes
    assert [note["event_name"] for note in notes if note["fn"] == "callee"] == ["inngest/function.invoked"]


def test_invoke_of_a_failing_function_throws_its_error(app: App) -> None:
    run = app.run("invoke-by-id", app=app.app_id, function="failing-callee")
    name = "TypeError" if app.js else "ValueError"
    assert (run.status, run.output) == ("Completed", {"name": name, "message": "callee fails"})
    assert app.log(run.key).attempts("body") == [0]


def test_invoke_of_an_unknown_function_fails_the_step(app: App) -> None:
    run = app.run("invoke-by-id", app=app.app_id, function="nowhere")
    message = f"could not find function with ID: {app.slug('nowhere')}"
    assert (run.status, run.output) == ("Completed", {"name": "Error", "message": message})


def test_invoke_times_out(app: App) -> None:
    run = app.run_among_peers("invoke-timeout")
    assert run.status == "Completed"
    assert run.output == {
        "name": "InngestInvokeTimeoutError",
        "message": "Timed out waiting for invoked function to complete",
    }


@pytest.mark.node
@pytest.mark.parametrize(
    ("caller", "callee"), [("fastapi", "js"), ("js", "flask"), ("js3", "fastapi-sync"), ("own", "js")]
)
def test_invoke_of_another_apps_function(apps: Any, caller: str, callee: str) -> None:
    other = apps(callee)
    run = apps(caller).run("invoke-by-id", app=callee, function="callee")
    assert (run.status, run.output) == ("Completed", {"doubled": 8})
    assert [note["step"] for note in other.log(run.key).notes] == ["body"]


def test_send_event_in_a_step_starts_other_functions(app: App) -> None:
    run = app.run("send-event")
    assert run.status == "Completed"
    assert len(run.output) == 2
    app.saw(run.key, "both events received", lambda log: len(log.at("body")) == 2)
    received = {note["n"]: note["id"] for note in app.log(run.key).notes}
    assert [received[1], received[2]] == run.output


SIGNALS = pytest.mark.apps("js", "js-plain", "js3")


@SIGNALS
def test_signal_is_delivered_to_the_one_that_waits(app: App) -> None:
    sent = app.trigger("signal", signal=f"approve-{app.app_id}")
    app.paused(sent, "WaitForSignal")
    sender = app.run("send-signal", signal=f"approve-{app.app_id}", n=8)
    assert sender.status == "Completed"
    run = app.wait(sent, "signal")
    assert (run.status, run.output) == ("Completed", {"signal": f"approve-{app.app_id}", "data": {"n": 8}})
    assert sender.output == {"runId": run.run_id}


@SIGNALS
def test_signal_times_out(app: App) -> None:
    run = app.run("signal", signal=f"never-{app.app_id}", timeout=1)
    assert (run.status, run.output) == ("Completed", None)


@pytest.mark.apps("js-plain")
def test_two_waits_for_one_signal_conflict(app: App) -> None:
    first = app.trigger("signal", signal="one-only")
    app.paused(first, "WaitForSignal")
    second = app.run("signal", signal="one-only")
    assert second.status == "Failed"
    text = "Signal conflict; signal wait already exists for another run"
    assert second.output == {"error": {"error": f"Error: {text}", "name": "Error", "message": text}}
    third = app.trigger("signal", signal="one-only", conflict="replace")
    app.paused(third, "WaitForSignal")
    answer = app.server.http.post("/v1/signals", json={"signal": "one-only", "data": 9})
    assert answer.status_code == 200, answer.text
    run = app.wait(third, "signal")
    assert run.output == {"signal": "one-only", "data": 9}
    assert answer.json()["data"]["run_id"] == run.run_id
    assert app.server.http.post("/v1/signals", json={"signal": "one-only", "data": 9}).status_code == 404
    app.server.cancel(app.server.run_of(first.event_id, app.slug("signal"))["run_id"])


class Target:
    """A server of somebody else: answers `/ok` and `/chat/completions`, refuses `/bad/…`, and keeps what it got."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        target = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                target.requests.append(("POST", self.path, headers, body))
                bad = self.path.startswith("/bad")
                reply = (
                    b'{"refused":true}' if bad else b'{"choices":[{"message":{"content":"hello"}}],"n":1.0}'
                )
                self.send_response(418 if bad else 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def target() -> Iterator[Target]:
    made = Target()
    yield made
    made.close()


@SIGNALS
def test_fetch_is_done_by_the_server(app: App, target: Target) -> None:
    run = app.run("fetch", url=f"{target.url}/ok")
    assert run.status == "Completed"
    assert (run.output["status"], run.output["kind"]) == (200, "application/json")
    assert json.loads(run.output["body"])["choices"] == [{"message": {"content": "hello"}}]
    [(method, path, headers, body)] = target.requests
    assert (method, path, headers["x-test"], body) == ("POST", "/ok", "yes", b"ping")


@SIGNALS
def test_fetch_gives_an_answer_of_any_status(app: App, target: Target) -> None:
    run = app.run("fetch", url=f"{target.url}/bad")
    assert (run.status, run.output["status"], run.output["body"]) == ("Completed", 418, '{"refused":true}')


@pytest.mark.apps("fastapi", "flask", "js", "js-plain", "js3")
def test_infer_is_done_by_the_server(app: App, target: Target) -> None:
    run = app.run("infer", url=target.url)
    assert run.status == "Completed"
    assert run.output == {"choices": [{"message": {"content": "hello"}}], "n": 1.0}
    [(_, path, headers, body)] = target.requests
    assert path.endswith("/chat/completions")
    assert headers["authorization"] == "Bearer sk-test"
    assert headers["content-type"].startswith("application/json")
    sent = json.loads(body)
    assert (sent["model"], sent["messages"], sent["temperature"]) == (
        "small",
        [{"role": "user", "content": "hi"}],
        0.1,
    )


@pytest.mark.apps("fastapi", "js-plain")
def test_infer_that_is_refused_fails_the_step_after_its_retries(app: App, target: Target) -> None:
    run = app.run("infer", url=f"{target.url}/bad")
    assert run.status == "Completed"
    assert run.output["name"] == "AIGatewayError"
    assert run.output["message"] == "Error making AI request: unsuccessful status code: 418"
    until("two requests", lambda: len(target.requests) == 2, 5)
