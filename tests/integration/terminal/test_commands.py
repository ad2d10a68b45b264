"""Every command against a real server, for people and for programs."""

from __future__ import annotations

import json
import os
import pty
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.terminal.conftest import Terminal
from tests.sdk.bare_app import Answer, BareApp, Scripted, function_config, op, ops, ran, register
from tests.sdk.driver import PERDURE, Server, until

Make = Callable[..., Scripted]

UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
BOOM = Answer(500, {"name": "CardError", "message": "declined", "stack": "Traceback:\n  File a.py"})
NAP = ops(op("Sleep", "nap", name="1s"))
LONG = ops(op("Sleep", "nap", name="1h"))


def waiting_run(scripted: Make) -> tuple[Scripted, str]:
    """A function, and a run of it that sleeps."""
    made = scripted([LONG])
    run = made.server.run_of(made.trigger(), made.slug)["run_id"]
    until("the sleep", lambda: made.calls)
    return made, run


class TestSend:
    def test_an_event_and_the_run_that_it_starts(self, terminal: Terminal, scripted: Make):
        made = scripted([Answer(200, 1)])
        sent = terminal.json("send", f"bare/{made.slug}", "--data", '{"n": 7}', "--user", '{"id": 1}')
        assert set(sent) == {"id", "name", "runs"}
        assert sent["name"] == f"bare/{made.slug}"
        assert sent["runs"] == [run["run_id"] for run in made.server.runs(sent["id"])] != []
        made.server.ended(sent["runs"][0])
        event = made.calls[0].body["event"]
        assert (event["data"], event["user"]) == ({"n": 7}, {"id": 1})

    def test_the_same_for_people(self, terminal: Terminal, scripted: Make):
        made = scripted([Answer(200, 1)])
        lines = terminal("send", f"bare/{made.slug}").out.splitlines()
        assert [text.split()[0] for text in lines] == ["sent", "run"]
        assert made.server.run(lines[1].split()[1])["event_id"] == lines[0].split()[1]

    def test_no_run_is_said(self, terminal: Terminal):
        assert "started no run" in terminal("send", "nobody/listens").out
        assert terminal.json("send", "nobody/listens")["runs"] == []

    def test_what_holds_or_drops_it_is_said(self, terminal: Terminal, scripted: Make):
        held = scripted([], debounce={"period": "1h"})
        assert terminal("send", f"bare/{held.slug}").out.splitlines()[1].split()[:2] == ["held", held.slug]
        dropped = scripted([Answer(200, 1)], rateLimit={"limit": 1, "period": "1h"})
        told = [terminal("send", f"bare/{dropped.slug}").out.splitlines()[1].split() for _ in range(2)]
        assert (told[0][0], told[1][:3]) == ("run", ["no", "run", dropped.slug])

    def test_one_id_starts_one_run(self, terminal: Terminal, scripted: Make):
        made = scripted([Answer(200, 1)])
        first, second = (terminal.json("send", f"bare/{made.slug}", "--id", made.slug) for _ in range(2))
        told = terminal("send", f"bare/{made.slug}", "--id", made.slug).out.splitlines()
        assert told[1].startswith(f"no run {made.slug}  an event of the same id was taken before")
        assert (len(first["runs"]), len(second["runs"])) == (1, 0)

    def test_data_from_a_file_and_from_standard_input(
        self, terminal: Terminal, server: Server, tmp_path: Path
    ):
        path = tmp_path / "data.json"
        path.write_text('{"from": "file"}')
        assert terminal("send", "terminal/data", "--data", f"@{path}").code == 0
        assert terminal("send", "terminal/data", "--data", "-", given='{"from": "stdin"}').code == 0
        assert [event["data"]["from"] for event in server.events("terminal/data")] == ["stdin", "file"]

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            ("{a", "not a JSON object"), ("[1]", "not a JSON object"), ("", "not a JSON object"),
            ("@/nowhere", "cannot be read"), ("[" * 100_000, "not a JSON object"),
        ],
    )  # fmt: skip
    def test_bad_data_is_a_wrong_command_line(self, terminal: Terminal, data: str, text: str):
        assert text in terminal.error("send", "x", "--data", data, code=2)

    def test_what_the_server_refuses(self, terminal: Terminal):
        assert "did not take the event" in terminal.error("send", "")


class TestInvoke:
    def test_a_run_of_a_function(self, terminal: Terminal, scripted: Make):
        made = scripted([Answer(200, 1)])
        started = terminal.json("invoke", made.slug, "--data", '{"n": 1}')
        assert set(started) == {"event_id", "run_id"}
        assert made.server.ended(started["run_id"])["status"] == "Completed"
        assert made.calls[0].body["event"]["data"]["n"] == 1

    def test_waiting_prints_what_it_gave(self, terminal: Terminal, scripted: Make):
        made = scripted([NAP, Answer(200, {"a": [1, 2]})])
        done = terminal("invoke", made.slug, "--wait")
        assert (done.code, json.loads(done.out)) == (0, {"a": [1, 2]})

    def test_waiting_for_one_that_fails(self, terminal: Terminal, scripted: Make):
        done = terminal("invoke", scripted([BOOM]).slug, "--wait")
        assert (done.code, done.out) == (3, "")
        assert "CardError: declined" in done.err
        run = terminal.json("invoke", scripted([BOOM]).slug, "--wait", code=3)
        assert (run["status"], run["error"]["message"]) == ("FAILED", "declined")

    def test_what_holds_or_drops_it_is_said(self, terminal: Terminal, scripted: Make):
        held = scripted([], debounce={"period": "1h"})
        assert terminal("invoke", held.slug).out.splitlines()[1].split()[:2] == ["held", held.slug]
        dropped = scripted([Answer(200, 1)], rateLimit={"limit": 1, "period": "1h"})
        assert terminal("invoke", dropped.slug, "--wait").code == 0
        assert "dropped by a rate limit" in terminal.error("invoke", dropped.slug, "--wait")

    def test_a_name_or_a_slug_without_its_app(self, terminal: Terminal, server: Server, bare: BareApp):
        for app in ("first", "second"):
            own = function_config(bare, f"{app}-own-{app}", name=f"Own of {app}")
            both = function_config(bare, f"{app}-both", name="In both")
            register(server, bare, app, [own, both], url=f"{bare.origin}/{app}")
        bare.on("first-own-first", lambda _: Answer(200, "it"))
        for name in ("first-own-first", "own-first", "own of FIRST"):
            assert terminal("invoke", name, "--wait").out == '"it"\n'
        assert "first-both, second-both; name one" in terminal.error("invoke", "both")
        assert "Did you mean first-own-first?" in terminal.error("invoke", "first-own-frist")


class TestRuns:
    def test_newest_first(self, terminal: Terminal, scripted: Make):
        made = scripted(lambda _: Answer(200, 1))
        ids = [made.run()["run_id"] for _ in range(3)]
        found = terminal.json("runs", "--function", made.slug)
        assert [run["id"] for run in found] == ids[::-1]
        assert set(found[0]) == {
            "id", "status", "function", "event_name", "event_ids", "cron", "queued_at", "started_at", "ended_at",
            "original_run_id",
        }  # fmt: skip
        assert found[0]["function"]["slug"] == made.slug
        assert [run["id"] for run in terminal.json("runs", "--limit", "2")] == ids[:0:-1]
        table = terminal("runs", "--function", made.slug).out.splitlines()
        assert table[0].split() == ["STATUS", "RUN", "AGE", "TOOK", "FUNCTION"]
        assert [text.split()[2] for text in table[1:]] == ids[::-1]

    def test_by_status(self, terminal: Terminal, scripted: Make):
        good, bad = scripted([Answer(200, 1)]), scripted([BOOM])
        ids = {status: made.run()["run_id"] for status, made in (("completed", good), ("failed", bad))}
        mine = ["--function", good.slug, "--function", bad.slug]
        for status, run in ids.items():
            assert [each["id"] for each in terminal.json("runs", *mine, "--status", status.upper())] == [run]
        assert len(terminal.json("runs", *mine, "--status", "failed", "--status", "completed")) == 2
        assert terminal("runs", *mine, "--status", "queued").out == "There are no such runs.\n"
        assert "'nope' is not one of" in terminal.error("runs", "--status", "nope", code=2)

    def test_since(self, terminal: Terminal, scripted: Make):
        made = scripted([Answer(200, 1)])
        run = made.run()["run_id"]
        for since, found in (("1h", [run]), ("2020-01-01T00:00:00Z", [run]), ("2999-01-01T00:00:00Z", [])):
            mine = terminal.json("runs", "--function", made.slug, "--since", since)
            assert [each["id"] for each in mine] == found
        assert "neither a duration" in terminal.error("runs", "--since", "yesterday", code=2)

    def test_more_than_the_server_gives_at_once(self, terminal: Terminal, scripted: Make):
        made = scripted(lambda _: Answer(200, 1))
        made.server.send(*[{"name": f"bare/{made.slug}"}] * 450)
        ask = ("runs", "--function", made.slug, "--limit")
        assert len({run["id"] for run in terminal.json(*ask, "1000")}) == 450
        assert len(terminal.json(*ask, "401")) == 401


class TestRun:
    def test_its_trace(self, terminal: Terminal, scripted: Make):
        failed = ops(op("StepError", "pay", error={"name": "CardError", "message": "declined"}))
        made = scripted(
            [ops(ran("load", {"n": 1})), failed, ops(ran("pay", "paid")), Answer(200, {"ok": 1})], retries=1
        )
        run = made.run(key="k")["run_id"]
        shown = terminal.json("run", run.lower())
        assert (shown["id"], shown["status"], shown["output"], shown["error"]) == (
            run,
            "COMPLETED",
            {"ok": 1},
            None,
        )
        assert shown["events"][0]["data"] == {"key": "k"}
        steps = {span["name"]: span for span in shown["trace"]["children"]}
        assert (steps["load"]["op"], steps["load"]["output"]) == ("RUN", {"n": 1})
        assert steps["pay"]["output"] == "paid"
        assert [
            (each["status"], each["error"] and each["error"]["message"]) for each in steps["pay"]["children"]
        ] == [
            ("FAILED", "declined"),
            ("COMPLETED", None),
        ]
        text = terminal("run", run).out
        assert text.startswith(f"✓ completed  {made.slug}  ")
        for part in (
            'load                 {"n": 1}',
            "✗ Attempt 0",
            "CardError: declined",
            'output    {"ok": 1}',
        ):
            assert part in text

    def test_stacks_whole(self, terminal: Terminal, scripted: Make):
        run = scripted([BOOM]).run()["run_id"]
        assert "File a.py" not in terminal("run", run).out
        assert re.search(r"\n {26}  File a\.py\n", terminal("run", run, "--full").out)

    def test_more_results_than_the_server_gives_at_once(self, terminal: Terminal, scripted: Make):
        made = scripted([*[ops(ran(f"s{n}", n)) for n in range(25)], Answer(200, None)])
        spans = terminal.json("run", made.run()["run_id"])["trace"]["children"]
        assert [span["output"] for span in spans[:25]] == list(range(25))

    def test_watching_until_it_has_completed(self, terminal: Terminal, scripted: Make):
        made = scripted([ops(ran("load", 1)), NAP, Answer(200, "done")])
        run = made.server.run_of(made.trigger(), made.slug)["run_id"]
        done = terminal("run", run, "--watch")
        assert done.code == 0
        log, _, end = done.out.partition("\n\n")
        assert "◌ waiting    nap  sleeps until" in log
        assert "✓ completed  nap" in log
        assert end.startswith("✓ completed")
        assert 'output    "done"' in end

    def test_watching_one_that_fails(self, terminal: Terminal, scripted: Make):
        made = scripted([NAP, BOOM])
        run = made.server.run_of(made.trigger(), made.slug)["run_id"]
        done = terminal("run", run, "--watch", "--json")
        documents = [json.loads(text) for text in done.out.splitlines()]
        assert done.code == 3
        assert (documents[0]["status"], documents[-1]["status"]) == ("RUNNING", "FAILED")

    def test_watching_one_that_is_cancelled(self, terminal: Terminal, scripted: Make):
        _, run = waiting_run(scripted)
        watching = terminal.start("run", run, "-w")
        assert terminal("cancel", run).code == 0
        out, _ = watching.communicate(timeout=20)
        assert (watching.returncode, "⊘ cancelled" in out.decode()) == (3, True)


class TestCancelAndRerun:
    def test_cancel(self, terminal: Terminal, scripted: Make):
        made, run = waiting_run(scripted)
        done = terminal("cancel", run)
        assert (done.code, done.out) == (0, f"⊘ cancelled  {run}\n")
        assert made.server.run(run)["status"] == "Cancelled"
        assert terminal("cancel", run).code == 0

    def test_cancel_several_of_which_one_has_ended(self, terminal: Terminal, scripted: Make):
        _, run = waiting_run(scripted)
        ended = scripted([Answer(200, 1)]).run()["run_id"]
        done = terminal("cancel", ended, UNKNOWN, run, "--json")
        assert done.code == 1
        first, second, third = json.loads(done.out)
        assert first == {"id": ended, "status": "COMPLETED", "error": None}
        assert (second["status"], "no run" in second["error"]) == (None, True)
        assert third["status"] == "CANCELLED"
        assert "has completed already" in done.err

    def test_rerun(self, terminal: Terminal, scripted: Make):
        made = scripted([Answer(200, 1), Answer(200, 2)])
        run = made.run()["run_id"]
        again = terminal.json("rerun", run)
        assert again["original_run_id"] == run
        assert made.server.ended(again["run_id"])["output"] == 2
        assert f"rerun of  {run}" in terminal("run", again["run_id"]).out

    def test_rerun_from_a_step(self, terminal: Terminal, scripted: Make):
        steps = [
            ops(ran("load", 1)),
            ops(ran("pay", 2)),
            Answer(200, 3),
            ops(ran("pay", 20)),
            Answer(200, 30),
        ]
        made = scripted(steps)
        run = made.run()["run_id"]
        again = terminal.json("rerun", run, "--from-step", "pay", "--input", '[{"to": 5}]')["run_id"]
        assert made.server.ended(again)["output"] == 30
        shown = terminal("run", again).out
        assert f'  rerun of  {run}, from step pay\n  new input [{{"to": 5}}]\n' in shown
        assert re.search(r"✓ load +copied: 1\n", shown)
        assert re.search(r"✓ pay +20\n", shown)
        whole = terminal.json("run", again)
        assert whole["from_step"]["input"] == '[{"to": 5}]'
        load, pay = whole["trace"]["children"][:2]
        assert (load["copied_from"], load["input"], load["output"]) == (run, None, 1)
        assert (pay["copied_from"], pay["input"], pay["output"]) == (None, [{"to": 5}], 20)

    def test_rerun_from_a_step_that_cannot_be(self, terminal: Terminal, scripted: Make):
        run = scripted([ops(ran("load", 1)), Answer(200, 3)]).run()["run_id"]
        error = terminal.error("rerun", run, "--from-step", "pay")
        assert f"Run {run} has no step 'pay'. Its steps are: load." in error
        wrong = terminal.error("rerun", run, "--from-step", "load", "--input", "5", code=2)
        assert "'--input': it is not a JSON list" in wrong
        assert "Write it like '[42, \"x\"]'" in wrong
        assert "--input needs --from-step" in terminal.error("rerun", run, "--input", "[5]", code=2)


class TestFunctions:
    def test_apps_with_their_functions(self, terminal: Terminal, scripted: Make):
        made = scripted([])
        apps = {app["name"]: app for app in terminal.json("functions")}
        assert set(apps[made.slug]) == {
            "id",
            "name",
            "url",
            "sdk_language",
            "sdk_version",
            "error",
            "functions",
        }
        (function,) = apps[made.slug]["functions"]
        assert function["slug"] == made.slug
        assert function["triggers"] == [{"type": "EVENT", "value": f"bare/{made.slug}", "condition": None}]
        assert f"  {made.slug}  bare/{made.slug}\n" in terminal("functions").out


@pytest.mark.parametrize("command", [("run",), ("run", "-w"), ("cancel",), ("rerun",)], ids=" ".join)
def test_an_unknown_run(terminal: Terminal, command: tuple[str, ...]):
    assert terminal.error(*command, UNKNOWN) == f"perdure: There is no run {UNKNOWN}; see 'perdure runs'.\n"
    assert "'nope' is not the id of a run" in terminal.error(*command, "nope")


@pytest.mark.parametrize("command", ["run", "rerun"])
def test_the_id_of_an_event_is_told_from_that_of_a_run(terminal: Terminal, command: str):
    event = terminal.json("send", "nobody/listens")["id"]
    assert terminal.error(command, event.lower()) == (
        f"perdure: {event} is the id of an event, not of a run; 'perdure why {event}' says what became of it.\n"
    )


EVERY = [
    ("send", "x"), ("invoke", "x"), ("runs",), ("run", UNKNOWN), ("run", UNKNOWN, "-w"), ("cancel", UNKNOWN),
    ("rerun", UNKNOWN), ("functions",),
]  # fmt: skip


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_no_server(terminal: Terminal, command: tuple[str, ...]):
    text = terminal.error(*command, PERDURE_URL="http://127.0.0.1:9")
    assert text.startswith(
        "perdure: No server answers at http://127.0.0.1:9 (connection refused). Start one with"
    )


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_another_server(terminal: Terminal, bare: BareApp, command: tuple[str, ...]):
    assert "no Perdure server" in terminal.error(*command, "--url", bare.origin)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "a b"])
def test_what_is_no_url(terminal: Terminal, url: str):
    assert "is not a URL" in terminal.error("runs", "--url", url, code=2)


KEY, EVENT_KEY = "signkey-prod-" + "ab" * 16, "secret-event-key"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    flags = ("--signing-key", KEY, "--event-key", EVENT_KEY)
    running = Server.start(tmp_path_factory.mktemp("guarded"), *flags)
    yield Terminal(running.url)
    running.stop()


class TestKeys:
    @pytest.mark.parametrize("command", EVERY[1:], ids=" ".join)
    def test_without_and_with_a_wrong_one(self, guarded: Terminal, command: tuple[str, ...]):
        assert "asks for its signing key" in guarded.error(*command)
        assert "another signing key" in guarded.error(*command, "--signing-key", "cd" * 16)

    def test_with_the_right_one(self, guarded: Terminal):
        assert guarded("runs", "--signing-key", KEY).code == 0
        assert guarded("functions", PERDURE_SIGNING_KEY=f"{KEY},{'cd' * 16}").code == 0
        assert "not hex" in guarded.error("runs", "--signing-key", "not a key", code=2)

    def test_event_keys(self, guarded: Terminal):
        assert "under an event key only" in guarded.error("send", "x")
        assert "another event key" in guarded.error("send", "x", "--event-key", "no")
        sent = guarded("send", "x", "--json", PERDURE_EVENT_KEY=EVENT_KEY)
        assert json.loads(sent.out)["runs"] is None
        keys = {"PERDURE_EVENT_KEY": EVENT_KEY, "PERDURE_SIGNING_KEY": KEY}
        assert json.loads(guarded("send", "x", "--json", **keys).out)["runs"] == []


def on_a_terminal(url: str, *arguments: str, **env: str) -> str:
    """What a command sends to a terminal of 80 columns."""
    child, screen = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ.update({"PERDURE_URL": url, "TERM": "xterm", "COLUMNS": "80", "LINES": "40", **env})
        os.execv(PERDURE, ["perdure", *arguments])
    parts = []
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.waitpid(child, 0)
    os.close(screen)
    return b"".join(parts).decode()


class TestOnATerminal:
    def test_colours_unless_they_are_not_wanted(self, server: Server, scripted: Make):
        run = scripted([Answer(200, "x" * 200)]).run()["run_id"]
        assert "\x1b[32m✓ completed\x1b[0m" in on_a_terminal(server.url, "run", run)
        plain = on_a_terminal(server.url, "run", run, NO_COLOR="1")
        assert "\x1b" not in plain
        assert max(map(len, plain.splitlines())) <= 80

    def test_watching_draws_in_place(self, server: Server, scripted: Make):
        made = scripted([NAP, Answer(200, "done")])
        run = server.run_of(made.trigger(), made.slug)["run_id"]
        text = on_a_terminal(server.url, "run", run, "--watch", NO_COLOR="1")
        first, *others = text.split("\x1b[J")
        assert "sleeps until" in first
        assert "  why       sleeping until " in first
        assert others
        assert all(each.startswith(("●", "✓")) for each in others)
        assert 'output    "done"' in others[-1]
