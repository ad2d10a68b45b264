"""`perdure why` against a real server, for people and for programs."""

from __future__ import annotations

import time

from tests.integration.terminal.conftest import Terminal
from tests.integration.terminal.test_commands import LONG, UNKNOWN, Make, waiting_run
from tests.sdk.bare_app import Answer, op, ops
from tests.sdk.driver import Server, until


def test_who_holds_the_place(terminal: Terminal, server: Server, scripted: Make):
    fn = scripted(lambda _: LONG, concurrency={"fn": [{"limit": 1, "key": "event.data.u"}]})
    first = server.run_of(fn.trigger(u="ann"), fn.slug)["run_id"]
    until("the sleep", lambda: "sleeping" in terminal("why", first).out)
    second = server.run_of(fn.trigger(u="ann"), fn.slug)["run_id"]
    found = terminal.json("why", second)
    assert found["text"] == "waiting for run concurrency key ann, place 1"
    assert found["causes"][0]["limits"][0]["holders"][0]["run_id"] == first
    wakes = terminal.json("why", first)["next_at"]
    lines = terminal("why", second.lower()).out.splitlines()
    assert lines == [
        f"○ queued  {fn.slug}",
        "  waiting for run concurrency key ann, place 1",
        "    1 of 1 taken by event.data.u",
        f"    {first}  sleeping until {wakes} in step nap",
    ]
    shown = terminal("run", second).out.splitlines()
    assert shown[-1] == "  why       waiting for run concurrency key ann, place 1"
    server.cancel(first)
    server.cancel(second)
    assert "  why  " not in terminal("run", first).out
    assert "cancelled at" in terminal("why", first).out


def test_a_near_miss(terminal: Terminal, server: Server, scripted: Make):
    name = f"paid-{time.time_ns()}"
    opts = {"event": name, "timeout": "1h", "if": "async.data.id == event.data.id"}
    fn = scripted([ops(op("WaitForEvent", "w", name=name, opts=opts))])
    run = server.run_of(fn.trigger(id="o1"), fn.slug)["run_id"]
    until("the wait", lambda: "waiting for event" in terminal("why", run).out)
    (event,) = server.send({"name": name, "data": {"id": "o2"}})
    lines = terminal("why", run).out.splitlines()
    assert lines[0] == f"● running  {fn.slug}"
    assert lines[1].endswith("; 1 such event has come since and does not match")
    assert lines[2] == f'    {event}  ✗ async.data.id ("o2") == event.data.id ("o1")'
    assert lines[3].startswith("  next: ")
    server.cancel(run)


def test_an_event(terminal: Terminal, scripted: Make):
    fn = scripted([], debounce={"period": "1h"})
    event = fn.trigger()
    found = terminal.json("why", event)
    due = found["functions"][0]["due_at"]
    assert terminal("why", event).out.splitlines() == [
        f"{event}  bare/{fn.slug}",
        f"  {fn.slug}  held by a debounce until {due}, the last of 1 so far",
    ]


def test_an_event_that_ends_a_wait_or_a_run(terminal: Terminal, server: Server, scripted: Make):
    paid, stop = f"paid-{time.time_ns()}", f"stop-{time.time_ns()}"
    wait = op("WaitForEvent", "w", name=paid, opts={"event": paid, "timeout": "1h"})
    fn = scripted([ops(wait), LONG], cancel=[{"event": stop}])
    run = server.run_of(fn.trigger(), fn.slug)["run_id"]
    until("the wait", lambda: "waiting for event" in terminal("why", run).out)
    sent = terminal("send", paid).out.splitlines()
    assert sent[1:] == [f"wait   {run}  {fn.slug}: a wait of it has ended"]
    until("the sleep", lambda: "sleeping" in terminal("why", run).out)
    event = sent[0].split()[1]
    assert terminal("why", event).out.splitlines()[1:] == [
        f"  ended a wait of run {run} of {fn.slug} (running)"
    ]
    cancelled = terminal("send", stop).out.splitlines()
    assert cancelled[1:] == [f"cancel {run}  {fn.slug}: cancelled"]
    found = terminal.json("why", cancelled[0].split()[1])
    assert found["text"] == f"cancelled run {run} of {fn.slug}"
    assert [(effect["how"], effect["run_id"]) for effect in found["effects"]] == [("cancel", run)]
    again = terminal("send", stop).out
    assert "No run waited for it, and none was cancelled by it." in again
    assert "no run waited for it or was cancelled by it" in terminal("why", again.split()[1]).out


def test_how_it_ended(terminal: Terminal, scripted: Make):
    run = scripted([Answer(200, 1)]).run()["run_id"]
    assert terminal("why", run).out.splitlines()[1].startswith("  completed at ")


def test_unknown_ids(terminal: Terminal):
    assert terminal.error("why", UNKNOWN) == f"perdure: There is no run {UNKNOWN}; see 'perdure runs'.\n"
    assert "is not the id of a run" in terminal.error("why", "x")


def test_a_run_that_waits_is_explained_in_its_picture(terminal: Terminal, server: Server, scripted: Make):
    _, run = waiting_run(scripted)
    last = until("the sentence", lambda: next(iter(
        text for text in terminal("run", run).out.splitlines() if text.startswith("  why       sleeping until ")
    ), None))  # fmt: skip
    assert last.endswith(" in step nap")
    server.cancel(run)
