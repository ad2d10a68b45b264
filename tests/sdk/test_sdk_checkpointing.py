"""The JavaScript SDK's default: a function goes on running while its finished steps are posted on the side."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.sdk.driver import App, Log

pytestmark = [pytest.mark.apps("js"), pytest.mark.node]


def posted(log: Log) -> list[list[str]]:
    """Names of the steps of each checkpoint that was taken."""
    return [[name for _, name in post["ops"]] for post in log.checkpoints() if post["status"] == 200]


def test_each_step_is_posted_and_the_call_ends_the_run(app: App) -> None:
    run = app.run("four-steps")
    assert (run.status, run.output) == ("Completed", "four")
    assert run.log.steps() == ["a", "b", "c", "d"]
    assert posted(run.log) == [["a"], ["b"], ["c"], ["d"]]
    assert [call["ops"] for call in run.log.calls] == [["RunComplete"]]


def test_buffered_steps_are_posted_together_and_the_rest_comes_with_the_answer(app: App) -> None:
    run = app.run("buffered")
    assert (run.status, run.output) == ("Completed", "four")
    assert run.log.steps() == ["a", "b", "c", "d"]
    assert posted(run.log) == [["a", "b", "c"]]
    assert [call["ops"] for call in run.log.calls] == [["StepRun", "RunComplete"]]


def test_sleep_ends_the_call_and_the_next_one_goes_on(app: App) -> None:
    run = app.run("sleep")
    assert run.status == "Completed"
    assert run.log.steps() == ["before", "after"]
    assert posted(run.log) == [["before"], ["after"]]
    assert [call["ops"] for call in run.log.calls] == [["Sleep"], ["RunComplete"]]


def test_maximum_runtime_splits_the_run_without_repeating_a_step(app: App) -> None:
    run = app.run("max-runtime", a=0.6, b=0.6, c=0.6, d=0)
    assert (run.status, run.output) == ("Completed", "four")
    assert run.log.steps() == ["a", "b", "c", "d"]
    assert len(run.log.calls) >= 2


def test_maximum_runtime_without_steps_is_one_call(app: App) -> None:
    run = app.run("max-runtime-no-steps")
    assert (run.status, run.output) == ("Completed", "slept inside")
    assert run.log.steps() == ["body"]
    assert len(run.log.calls) == 1


def test_failing_step_comes_with_the_answer_and_is_tried_again(app: App) -> None:
    run = app.run("flaky")
    assert run.log.attempts("flaky") == [0, 1, 2]
    assert [call["ops"] for call in run.log.calls[:2]] == [["StepError"], ["StepError"]]
    assert [call["attempt"] for call in run.log.calls] == [0, 1, 2, 0]


def test_checkpoint_of_a_cancelled_run_is_refused_and_stops_the_function(app: App) -> None:
    sent = app.trigger("slow-step", seconds=0.7)
    app.saw(sent.key, "the slow step", lambda log: "slow" in log.steps())
    app.server.cancel(app.server.run_of(sent.event_id, app.slug("slow-step"))["run_id"])
    app.saw(sent.key, "the checkpoint", lambda log: log.checkpoints() and log.checkpoints()[-1]["status"])
    time.sleep(0.4)
    log = app.log(sent.key)
    assert {post["status"] for post in log.checkpoints()} == {409}
    assert log.steps() == ["slow"]


class ImpatientProxy:
    """Stands before an app and answers its first POST with 504 after `patience_s`, while the app goes on."""

    def __init__(self, app_url: str, patience_s: float) -> None:
        self.refused = 0
        proxy = self
        origin = app_url.removeprefix("http://").split("/", 1)[0]

        class Handler(BaseHTTPRequestHandler):
            def relay(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                upstream = http.client.HTTPConnection(origin, timeout=30)
                upstream.request(self.command, self.path, body, dict(self.headers.items()))
                if self.command == "POST" and not proxy.refused:
                    proxy.refused += 1
                    time.sleep(patience_s)
                    self.reply(504, {"content-type": "text/html"}, b"<html>504 Gateway Time-out</html>")
                    return
                answer = upstream.getresponse()
                kept = {
                    n: v
                    for n, v in answer.getheaders()
                    if n.lower() not in {"transfer-encoding", "connection"}
                }
                self.reply(answer.status, kept, answer.read())

            do_GET = do_POST = do_PUT = relay

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() != "content-length":
                        self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def proxied(app: App) -> Iterator[App]:
    """The app, synced through an impatient proxy, and synced directly again afterwards."""
    proxy = ImpatientProxy(app.url, patience_s=1)
    connection = http.client.HTTPConnection(proxy.origin, timeout=10)
    connection.request("PUT", app.path, headers={"x-inngest-server-kind": "dev", "content-length": "0"})
    assert connection.getresponse().status == 200
    yield app
    assert proxy.refused == 1
    proxy.close()
    assert app.sync().status_code == 200


def test_call_given_up_by_a_proxy_cannot_go_on_beside_its_successor(proxied: App) -> None:
    run = proxied.run("four-steps", a=3)
    assert (run.status, run.output) == ("Completed", "four")
    counts = {step: run.log.steps().count(step) for step in "abcd"}
    assert counts == {"a": 2, "b": 1, "c": 1, "d": 1}
    assert [(call["generation"], call["attempt"]) for call in run.log.calls] == [("1", 0), ("2", 1), ("1", 0)]
    zombie = run.log.checkpoints()[0]
    assert (zombie["ops"], zombie["status"]) == ([["StepRun", "a"]], 409)
    assert posted(run.log) == [["b"], ["c"], ["d"]], "a retry brings its step with the answer"
