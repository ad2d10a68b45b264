"""Which events start which functions, when, and how often; and the server's own events."""

from __future__ import annotations

import time
import uuid

import pytest

from tests.sdk.driver import App

FEW = pytest.mark.apps("fastapi", "flask", "js", "js3")


@FEW
def test_wildcard_trigger(app: App) -> None:
    key = uuid.uuid4().hex
    for event in ("wild/one", "wild/two/deep", "wildness", "wild"):
        app.trigger("wildcard", event=event, key=key)
    app.trigger("wildcard-dot", event="user.created", key=key)
    app.trigger("wildcard-dot", event="users", key=key)
    app.saw(key, "three runs", lambda log: len(log.notes) >= 3)
    time.sleep(0.3)
    names = sorted((note["fn"], note["event"]["name"].split("/", 1)[1]) for note in app.log(key).notes)
    assert names == [
        ("wildcard", "wild/one"),
        ("wildcard", "wild/two/deep"),
        ("wildcard-dot", "user.created"),
    ]


@FEW
def test_trigger_expression(app: App) -> None:
    key = uuid.uuid4().hex
    for total in (10, 11, "many", None, 10.5):
        app.trigger("expression", event="priced", key=key, total=total)
    app.trigger("expression", event="priced", key=key)
    app.saw(key, "the runs", lambda log: len(log.notes) >= 2)
    time.sleep(0.3)
    totals = sorted(
        note["event"]["data"]["total"]
        for note in app.log(key).notes
        if note["event"]["data"]["total"] != "many"
    )
    assert totals == [10.5, 11]


@FEW
def test_two_triggers_that_match_one_event_start_one_run(app: App) -> None:
    sent = app.trigger("two-triggers", event="two/x")
    app.wait(sent, "two-triggers")
    time.sleep(0.2)
    assert len(app.server.runs(sent.event_id)) == 1
    assert app.log(sent.key).steps() == ["body"]


@FEW
def test_event_of_the_future_starts_its_run_then(app: App) -> None:
    when = time.time() + 1.5
    sent = app.trigger("no-steps", fields={"ts": int(when * 1000)})
    time.sleep(0.5)
    assert app.log(sent.key).notes == []
    run = app.wait(sent, "no-steps")
    assert run.status == "Completed"
    assert when - 0.01 < run.log.at("body")[0] < when + 1.0


@FEW
def test_event_id_starts_a_function_once_but_both_events_are_kept(app: App) -> None:
    own_id = f"order-{uuid.uuid4().hex}"
    first = app.trigger("no-steps", fields={"id": own_id})
    run = app.wait(first, "no-steps")
    second = app.trigger("no-steps", key=first.key, fields={"id": own_id})
    time.sleep(0.4)
    assert second.event_id != first.event_id
    assert app.server.runs(second.event_id) == []
    assert [note["run"] for note in app.log(first.key).notes if note["fn"] == "no-steps"] == [run.run_id]
    stored = [event for event in app.server.events(f"{app.app_id}/no-steps") if event.get("id") == own_id]
    assert sorted(event["internal_id"] for event in stored) == sorted([first.event_id, second.event_id])


def noted_events(app: App, key: str, fn: str, count: int) -> list[dict]:  # type: ignore[type-arg]
    """Events that the listener `fn` got for a key, once there are `count` of them and no more come."""
    app.saw(key, f"{count} calls of {fn}", lambda log: sum(note["fn"] == fn for note in log.notes) >= count)
    time.sleep(0.4)
    return [note["event"] for note in app.log(key).notes if note["fn"] == fn]


@FEW
def test_finished_event_of_a_completed_run_starts_functions(app: App) -> None:
    run = app.run("no-steps")
    [event] = noted_events(app, run.key, "on-finished", 1)
    assert event["name"] == "inngest/function.finished"
    data = event["data"]
    assert set(data) == {"_inngest", "event", "events", "function_id", "result", "run_id"}
    assert (data["function_id"], data["run_id"], data["result"]) == (
        app.slug("no-steps"),
        run.run_id,
        run.output,
    )
    assert data["_inngest"] == {"status": "Completed"}
    assert data["event"]["data"] == {"key": run.key}
    assert not any(note["fn"] == "on-failed" for note in app.log(run.key).notes)


@FEW
def test_failed_run_sends_finished_and_failed_once_each(app: App) -> None:
    run = app.run("function-error")
    [failed] = noted_events(app, run.key, "on-failed", 1)
    [finished] = noted_events(app, run.key, "on-finished", 1)
    assert failed["name"] == "inngest/function.failed"
    assert finished["name"] == "inngest/function.finished"
    for event in (failed, finished):
        data = event["data"]
        assert set(data) == {"_inngest", "error", "event", "events", "function_id", "result", "run_id"}
        assert data["_inngest"] == {"status": "Failed"}
        assert data["run_id"] == run.run_id
        assert data["error"]["message"] == "the function fails"


@pytest.mark.apps("fastapi")
def test_internal_events_are_not_in_the_list_of_events(app: App) -> None:
    run = app.run("no-steps")
    noted_events(app, run.key, "on-finished", 1)
    assert app.server.events("inngest/function.finished") == []


@pytest.mark.apps("fastapi", "js", "js3")
def test_several_events_of_one_request_each_start_a_run(app: App) -> None:
    keys = [uuid.uuid4().hex for _ in range(5)]
    ids = app.server.send(*({"name": f"{app.app_id}/no-steps", "data": {"key": key}} for key in keys))
    for event_id, key in zip(ids, keys, strict=True):
        run = app.server.run_of(event_id, app.slug("no-steps"))
        assert app.server.ended(run["run_id"])["output"] == {"hello": key}
