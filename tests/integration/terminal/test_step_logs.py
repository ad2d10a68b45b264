"""`perdure run ID --logs`: what steps have logged, and how far they are, on a real server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from tests.integration.terminal.conftest import Terminal
from tests.sdk.bare_app import Answer, Call, Scripted, ops, ran, sha1
from tests.sdk.driver import Server, until

Make = Callable[..., Scripted]
STEP = sha1("charge")


def entry(run_id: str, **fields: Any) -> dict[str, Any]:
    own = {"run_id": run_id, "step": STEP, "step_id": "charge", "attempt": 0, "ts": 1_767_225_600_000}
    return {**own, **fields}


def tell(server: Server, *entries: dict[str, Any]) -> None:
    answer = server.http.post("/v1/step-logs", json=list(entries))
    assert answer.json()["dropped"] == 0, answer.text


def told_all(server: Server, run_id: str, count: int) -> None:
    def there() -> bool:
        return len(server.http.get(f"/v1/runs/{run_id}/logs").json()["data"]["lines"]) == count

    until("the lines", there)


def test_lines_are_shown_below_the_tree(terminal: Terminal, server: Server, scripted: Make) -> None:
    fn = scripted([ops(ran("charge", 1)), Answer(200, "end")])
    run_id = fn.run()["run_id"]
    assert "logged nothing" in terminal("run", run_id, "--logs").out
    tell(
        server,
        entry(run_id, level="INFO", message="7 charged", fields={"amount": 7}),
        entry(run_id, level="ERROR", message="bad\x1b[2J\nTraceback\n  File x", attempt=1),
        {**entry(run_id, level="WARNING", message="between"), "step": "", "step_id": ""},
    )
    told_all(server, run_id, 3)
    out = terminal("run", run_id, "--logs").out
    assert "✓ charge" in out
    lines = out.splitlines()
    assert 'INFO      charge  7 charged  {"amount": 7}' in out
    assert "ERROR     charge (1)  bad\ufffd[2J" in out
    assert [text.strip() for text in lines if "Traceback" in text or "File x" in text] == [
        "Traceback",
        "File x",
    ]
    assert "WARNING   between" in out
    assert "\x1b" not in out
    assert "charged" not in terminal("run", run_id).out
    found = terminal.json("run", run_id, "--logs")
    assert found["logs"][0]["message"] == "7 charged"
    assert [step["name"] for step in found["steps"]] == ["", "charge"]
    assert "logs" not in terminal.json("run", run_id)


def test_lines_over_the_limit_are_told(terminal: Terminal, server: Server, scripted: Make) -> None:
    fn = scripted([ops(ran("charge", 1)), Answer(200, "end")])
    run_id = fn.run()["run_id"]
    for _ in range(8):
        server.http.post("/v1/step-logs", json=[entry(run_id, level="INFO", message="x" * 10_000)])
    told_all(server, run_id, 6)
    assert "2 lines of charge were over the limit and are not kept" in terminal("run", run_id, "--logs").out


def test_following_a_run_shows_progress_and_lines_as_they_come(
    terminal: Terminal, server: Server, scripted: Make
) -> None:
    go_on = threading.Event()

    def script(call: Call) -> Answer:
        go_on.wait(20)
        return Answer(200, "end")

    fn = scripted(script)
    fn.trigger()
    call = until("the call", lambda: fn.calls and fn.calls[0])
    run_id = call.ctx["run_id"]
    tell(
        server,
        entry(run_id, progress=0.4, message="40 of 100 pages"),
        entry(run_id, level="INFO", message="early"),
    )
    until("its report", lambda: server.run(run_id).get("steps"))
    assert "progress  charge: 40%, 40 of 100 pages (" in terminal("run", run_id).out
    watching = terminal.start("run", run_id, "--watch", "--logs")
    assert watching.stdout is not None
    seen = []
    while "early" not in "".join(seen):
        seen.append(watching.stdout.readline().decode())
    tell(server, entry(run_id, level="INFO", message="later"))
    while "later" not in "".join(seen):
        seen.append(watching.stdout.readline().decode())
    go_on.set()
    tell(server, entry(run_id, level="INFO", message="at last"))
    rest, _ = watching.communicate(timeout=30)
    out = "".join(seen) + rest.decode()
    assert watching.returncode == 0
    for text in ("early", "later", "at last"):
        assert out.count(text) == 1
    last = terminal("run", run_id, "--watch", "--logs", "--json").out.splitlines()[-1]
    assert [line["message"] for line in json.loads(last)["logs"]] == ["early", "later", "at last"]
