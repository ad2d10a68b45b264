"""Commands about functions and many runs, against a real server: pause, limits, cancel and replay in bulk, jobs."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.server.conftest import SLOW_PAGES, start_with
from tests.integration.terminal.conftest import Terminal
from tests.sdk.bare_app import Answer, BareApp, Scripted, op, ops
from tests.sdk.driver import PERDURE, Server, until

Make = Callable[..., Scripted]

UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
LONG = ops(op("Sleep", "nap", name="1h"))
BOOM = Answer(400, {"name": "Error", "message": "no"}, {"x-inngest-no-retry": "true"})


def send(fn: Scripted, count: int) -> list[str]:
    return fn.server.send(*({"name": f"bare/{fn.slug}", "data": {"n": n}} for n in range(count)))


def asleep(scripted: Make, count: int) -> tuple[Scripted, list[str]]:
    """A function, and so many runs of it that sleep."""
    fn = scripted(lambda _: LONG)
    events = send(fn, count)
    until("the sleeps", lambda: len(fn.calls) >= count)
    return fn, [fn.server.run_of(event, fn.slug)["run_id"] for event in events]


def failed(scripted: Make, count: int) -> tuple[Scripted, list[str]]:
    """A function, and the events of so many runs of it that have failed."""
    fn = scripted(lambda _: BOOM)
    events = send(fn, count)
    for event in events:
        fn.ended(event)
    return fn, events


def cancelled(fn: Scripted, runs: list[str]) -> int:
    return sum(fn.server.run(run)["status"] == "Cancelled" for run in runs)


INTERRUPT = "\x03"


@dataclass
class Screen:
    """A command on a terminal of its own, typed to by the test."""

    url: str
    arguments: tuple[str, ...]
    text: str = ""
    _typed: str = ""
    _ids: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        child, screen = pty.fork()
        if child == 0:
            os.environ.update(PERDURE_URL=self.url, TERM="xterm", COLUMNS="80", LINES="40", NO_COLOR="1")
            os.execv(PERDURE, ["perdure", *self.arguments])
        self._ids = child, screen

    def shows(self, text: str) -> None:
        """Read until it shows a text."""
        while text not in self.text:
            self.text += os.read(self._ids[1], 65536).decode()

    def type(self, text: str) -> None:
        self._typed = text
        os.write(self._ids[1], text.encode())

    def interrupt(self) -> None:
        os.kill(self._ids[0], signal.SIGINT)

    def end(self) -> int:
        """Read to its end; its exit code.

        An interrupt is typed again when nothing has come for some seconds: one just before Python waits for a line is
        seen at the next only.
        """
        try:
            while True:
                if self._typed == INTERRUPT and not select.select([self._ids[1]], [], [], 5)[0]:
                    self.type(INTERRUPT)
                    continue
                part = os.read(self._ids[1], 65536)
                if not part:
                    break
                self.text += part.decode()
        except OSError:
            pass
        os.close(self._ids[1])
        return os.waitstatus_to_exitcode(os.waitpid(self._ids[0], 0)[1])


class TestPause:
    def test_pause_and_resume(self, terminal: Terminal, scripted: Make):
        fn = scripted(lambda _: Answer(200, 1))
        done = terminal("pause", fn.slug)
        assert (done.code, done.out.splitlines()[0]) == (0, f"paused  {fn.slug}")
        assert "New runs wait" in done.out
        event = fn.trigger()
        assert fn.server.run_of(event, fn.slug)["status"] == "Scheduled"
        assert terminal("resume", fn.slug).out == f"resumed  {fn.slug}\n"
        assert fn.ended(event)["status"] == "Completed"

    def test_skip_and_json(self, terminal: Terminal, scripted: Make):
        fn = scripted([])
        shown = terminal.json("pause", fn.slug, "--skip")
        assert (shown["id"], shown["paused"], shown["overrides"]) == (fn.slug, "skip", None)
        assert fn.run()["status"] == "Skipped"
        assert "skipped" in terminal("pause", fn.slug, "--skip").out
        assert terminal.json("resume", fn.slug)["paused"] is None

    def test_functions_mark_it(self, terminal: Terminal, scripted: Make):
        fn = scripted([])
        terminal("pause", fn.slug)
        terminal("limits", fn.slug, "--set", '{"concurrency": 3, "throttle": null}')
        (row,) = [
            row
            for row in terminal("functions").out.splitlines()
            if row.strip().startswith(fn.slug) and "paused" in row
        ]
        assert "new runs wait" in row
        assert "concurrency, throttle set by hand" in row
        apps = {app["name"]: app for app in terminal.json("functions")}
        (shown,) = apps[fn.slug]["functions"]
        assert shown["paused"] == "hold"
        assert shown["overrides"] == {"concurrency": 3, "throttle": None}
        terminal("resume", fn.slug)
        terminal("limits", fn.slug, "--reset")
        assert not any(fn.slug in row and " set by" in row for row in terminal("functions").out.splitlines())

    @pytest.mark.parametrize("command", ["pause", "resume", "limits", "replay"])
    def test_unknown_function(self, terminal: Terminal, command: str):
        assert "There is no function 'ghost'" in terminal.error(command, "ghost")

    def test_no_server(self, terminal: Terminal):
        assert "No server answers" in terminal.error("pause", "x", "--url", "http://127.0.0.1:9")


class TestLimits:
    def test_code_beside_what_is_set(self, terminal: Terminal, scripted: Make):
        fn = scripted([], concurrency=[{"limit": 1}], retries=2)
        assert [row.split() for row in terminal("limits", fn.slug).out.splitlines()] == [
            [fn.slug],
            ["FIELD", "CODE", "SET"],
            ["concurrency", '[{"limit":', "1}]"],
            ["retries", "2"],
        ]
        done = terminal(
            "limits", fn.slug, "--set", '{"concurrency": null, "Throttle": {"limit": 1, "period": "5s"}}'
        )
        rows = [row.split(maxsplit=1) for row in done.out.splitlines()]
        assert rows[2] == ["concurrency", '[{"limit": 1}]  none']
        assert rows[3] == ["throttle", '-               {"limit": 1, "period": "5s"}']
        shown = terminal.json("limits", fn.slug)
        assert shown["config"]["concurrency"] == [{"limit": 1}]
        assert shown["overrides"]["concurrency"] is None
        assert terminal.json("limits", fn.slug, "--reset")["overrides"] is None

    def test_without_any(self, terminal: Terminal, scripted: Make):
        fn = scripted(
            [],
            steps={
                "step": {
                    "id": "step",
                    "name": "step",
                    "runtime": {"type": "http", "url": "http://127.0.0.1:9/x"},
                }
            },
        )
        assert "no limits" in terminal("limits", fn.slug).out

    def test_from_a_file(self, terminal: Terminal, scripted: Make, tmp_path: Path):
        (tmp_path / "limits.json").write_text('{"retries": 1}')
        fn = scripted([])
        assert terminal.json("limits", fn.slug, "--set", f"@{tmp_path}/limits.json")["overrides"] == {
            "retries": 1
        }

    def test_what_is_refused(self, terminal: Terminal, scripted: Make):
        fn = scripted([])
        assert "concurency" in terminal.error("limits", fn.slug, "--set", '{"concurency": 3}')
        assert "not a JSON object" in terminal.error("limits", fn.slug, "--set", "3", code=2)
        assert "contradict" in terminal.error("limits", fn.slug, "--set", "{}", "--reset", code=2)


class TestCancel:
    def test_of_one_function(self, terminal: Terminal, scripted: Make):
        fn, runs = asleep(scripted, 5)
        done = terminal("cancel", "--function", fn.slug, "--if", "event.data.n < 2")
        assert (done.code, done.out) == (0, "✓ done  2 cancelled\n")
        assert cancelled(fn, runs) == 2
        assert cancelled(fn, runs[:2]) == 2
        job = terminal.json("cancel", "--function", fn.slug)
        assert (job["state"], job["done"]) == ("done", 3)
        assert terminal("cancel", "--function", fn.slug).out == "There are no such runs.\n"
        assert terminal.json("cancel", "--function", fn.slug)["done"] == 0

    def test_by_time(self, terminal: Terminal, scripted: Make):
        fn, runs = asleep(scripted, 2)
        time.sleep(0.05)
        assert terminal("cancel", "--function", fn.slug, "--until", "1h").out == "There are no such runs.\n"
        assert terminal("cancel", "--function", fn.slug, "--since", "0s").out == "There are no such runs.\n"
        assert cancelled(fn, runs) == 0
        assert terminal("cancel", "--function", fn.slug, "--since", "1h").out == "✓ done  2 cancelled\n"

    def test_dry_run(self, terminal: Terminal, scripted: Make):
        fn, runs = asleep(scripted, 3)
        assert terminal("cancel", "--function", fn.slug, "--dry-run").out == "3 runs\n"
        assert (
            terminal("cancel", "--function", fn.slug, "--dry-run", "--if", "event.data.n == 1").out
            == "1 run\n"
        )
        assert terminal.json("cancel", "--function", fn.slug, "--dry-run") == {"matching": 3, "whole": True}
        assert cancelled(fn, runs) == 0
        terminal("cancel", "--function", fn.slug)

    @pytest.mark.parametrize(
        ("answer", "code", "count"), [("y\n", 0, 3), ("n\n", 1, 0), ("\n", 1, 0), ("\x03", 130, 0)]
    )
    def test_asked_on_a_terminal(self, server: Server, scripted: Make, answer: str, code: int, count: int):
        fn, runs = asleep(scripted, 3)
        screen = Screen(server.url, ("cancel", "--function", fn.slug))
        screen.shows("Cancel 3 runs? [y/N]")
        screen.type(answer)
        assert screen.end() == code
        assert cancelled(fn, runs) == count
        assert ("3 cancelled" in screen.text) == bool(count)
        assert Screen(server.url, ("cancel", "--function", fn.slug, "--yes")).end() == 0
        assert cancelled(fn, runs) == 3

    def test_wrong_command_lines(self, terminal: Terminal, scripted: Make):
        slug = scripted([]).slug
        assert "or --function" in terminal.error("cancel", code=2)
        assert "or --function" in terminal.error("cancel", UNKNOWN, "--function", slug, code=2)
        for more in (["--since", "1h"], ["--if", "true"], ["--dry-run"], ["--until", "1h"]):
            assert "go with --function" in terminal.error("cancel", UNKNOWN, *more, code=2)
        assert "neither a duration" in terminal.error("cancel", "--function", slug, "--until", "soon", code=2)
        assert "if does not compile" in terminal.error("cancel", "--function", slug, "--if", "event.data.")


class TestReplay:
    def test_failed_runs(self, terminal: Terminal, scripted: Make):
        fn, events = failed(scripted, 4)
        assert terminal("replay", fn.slug, "--dry-run").out == "4 runs\n"
        done = terminal("replay", fn.slug, "--watch", "--if", "event.data.n > 0")
        assert (done.code, done.out) == (0, "✓ done  3 run again\n")
        assert sorted(len(fn.server.runs(event)) for event in events) == [1, 2, 2, 2]

    def test_without_waiting(self, terminal: Terminal, scripted: Make):
        fn, events = failed(scripted, 2)
        words = terminal("replay", fn.slug, "--since", "1h").out.split()
        assert words[0] == "job"
        assert words[2:] == ["2", "runs"]
        assert terminal("jobs", words[1], "--watch").out == "✓ done  2 run again\n"
        until("the runs", lambda: [len(fn.server.runs(event)) for event in events] == [2, 2])

    def test_statuses_and_json(self, terminal: Terminal, scripted: Make):
        fn = scripted(lambda _: Answer(200, 1))
        for event in send(fn, 3):
            fn.ended(event)
        assert terminal("replay", fn.slug).out == "There are no such runs.\n"
        job = terminal.json("replay", fn.slug, "--status", "completed", "--status", "cancelled", "--watch")
        assert (job["done"], job["state"], job["statuses"]) == (3, "done", ["COMPLETED", "CANCELLED"])
        assert "running" in terminal.error("replay", fn.slug, "--status", "running", code=2)

    def test_what_is_refused_is_told(self, terminal: Terminal, scripted: Make):
        fn, _ = failed(scripted, 2)
        terminal("pause", fn.slug, "--skip")
        done = terminal("replay", fn.slug, "--watch")
        assert done.out.startswith("✓ done  0 run again, 2 not  Skipped: ")

    def test_asked_on_a_terminal(self, server: Server, scripted: Make):
        fn, events = failed(scripted, 2)
        screen = Screen(server.url, ("replay", fn.slug))
        screen.shows("Run again 2 runs? [y/N]")
        screen.type("y\n")
        assert screen.end() == 0
        assert re.search(r"perdure jobs \w{26} --watch", screen.text)
        until("the runs", lambda: [len(server.runs(event)) for event in events] == [2, 2])


class TestJobs:
    def test_list(self, terminal: Terminal, scripted: Make):
        fn, _ = failed(scripted, 1)
        replayed = terminal.json("replay", fn.slug, "--watch")["id"]
        cancelled = terminal.json("cancel", "--function", fn.slug)["id"]
        listed = terminal.json("jobs")
        assert [job["id"] for job in listed[:2]] == [cancelled, replayed]
        rows = [row.split() for row in terminal("jobs").out.splitlines()]
        assert rows[0] == ["STATE", "JOB", "AGE", "RUNS", "FUNCTION"]
        assert [row[2] for row in rows[1:3]] == [cancelled, replayed]
        assert rows[2][4:] == ["1", "run", "again", fn.slug]
        assert terminal.json("jobs", replayed.lower())["id"] == replayed
        shown = terminal("jobs", replayed).out.splitlines()
        assert shown[:2] == ["✓ done  1 run again", f"  job    {replayed}"]
        assert shown[2].startswith("  what   replay of ")
        assert re.fullmatch(r"  since  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d.*", shown[3])
        assert terminal("jobs", replayed, "--stop").out == "✓ done  1 run again\n", "it was over"

    def test_what_is_wrong(self, terminal: Terminal):
        assert f"no job {UNKNOWN}" in terminal.error("jobs", UNKNOWN)
        assert "ID of a job" in terminal.error("jobs", "--stop", code=2)


class TestUnderWay:
    @pytest.fixture
    def slow(self, tmp_path: Path) -> Iterator[Server]:
        server = start_with(tmp_path, SLOW_PAGES)
        yield server
        server.stop()

    def failed(self, slow: Server, bare: BareApp) -> Scripted:
        fn, _ = failed(lambda script: Scripted.make(slow, bare, script), 60)
        return fn

    def test_interrupt_offers_to_stop(self, slow: Server, bare: BareApp):
        fn = self.failed(slow, bare)
        screen = Screen(slow.url, ("replay", fn.slug, "--watch", "--yes"))
        screen.shows("of 60")
        screen.interrupt()
        screen.shows("Stop it? What it has done stays. [y/N]")
        screen.type("y\n")
        assert screen.end() == 3
        assert "stopped" in screen.text
        (job,) = slow.http.get("/v1/replays").json()["data"]
        assert job["state"] == "stopped"
        assert job["done"] < 60

    @pytest.mark.parametrize("answer", ["n\n", "\x03"])
    def test_and_it_goes_on_otherwise(self, slow: Server, bare: BareApp, answer: str):
        fn = self.failed(slow, bare)
        screen = Screen(slow.url, ("replay", fn.slug, "--watch", "--yes"))
        screen.shows("of 60")
        screen.interrupt()
        screen.shows("[y/N]")
        screen.type(answer)
        assert screen.end() == 130
        if answer == "n\n":
            assert "It goes on" in screen.text
        done = Terminal(slow.url)("jobs", slow.http.get("/v1/replays").json()["data"][0]["id"], "--watch")
        assert (done.code, done.out) == (0, "✓ done  60 run again\n")

    def test_interrupt_off_a_terminal_leaves_it(self, slow: Server, bare: BareApp):
        fn = self.failed(slow, bare)
        process = Terminal(slow.url).start("replay", fn.slug, "--watch")
        until("the job", lambda: slow.http.get("/v1/replays").json()["data"])
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        assert (process.returncode, out) == (130, b"")
        assert b"It goes on" in err
        (job,) = json.loads(Terminal(slow.url)("jobs", "--json").out)
        stopped = Terminal(slow.url)("jobs", job["id"], "--stop")
        assert stopped.out.startswith("⊘ stopped  ")
        assert Terminal(slow.url)("jobs", job["id"], "--watch").code == 3
