"""How apps become known: PUT, what `/dev` then shows, moving to another address."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.sdk.driver import App

pytestmark = pytest.mark.synced


def test_put_registers_every_function(app: App) -> None:
    answer = app.sync()
    assert answer.status_code == 200, answer.text
    shown = {slug: fn for slug, fn in app.server.functions().items() if slug.startswith(f"{app.app_id}-")}
    address = app.url.removeprefix("http://127.0.0.1")
    count = httpx.get(app.url, timeout=10).json()["function_count"]
    own = [slug for slug, fn in shown.items() if f"{address}?" in fn["steps"][0]["uri"]]
    failure_handlers = [slug for slug in own if slug.endswith("-failure")]
    assert len(failure_handlers) == 2
    assert count == (len(own) if app.js else len(own) - 2), "the JavaScript SDK counts the handlers too"
    for slug in own:
        function = shown[slug]
        assert function["name"]
        assert function["id"]
        [step] = function["steps"]
        assert set(step) == {"id", "name", "uri"}
        assert (step["id"], step["name"]) == ("step", "step")
        assert step["uri"].startswith("http")
        assert step["uri"].endswith(f"?fnId={slug}&stepId=step")
        for trigger in function["triggers"]:
            assert set(trigger) <= {"event", "expression"}
            assert None not in trigger.values()


def test_second_put_changes_nothing(app: App) -> None:
    before = app.server.functions()
    answer = app.sync()
    assert answer.status_code == 200
    assert answer.json()["modified"] is False
    after = app.server.functions()
    assert {slug: fn["id"] for slug, fn in after.items()} == {slug: fn["id"] for slug, fn in before.items()}


@pytest.mark.apps("fastapi", "flask", "js", "js3")
def test_expressions_of_triggers_are_shown_as_sent(app: App) -> None:
    function = app.server.functions()[app.slug("expression")]
    assert function["triggers"] == [{"event": f"{app.app_id}/priced", "expression": "event.data.total > 10"}]


@pytest.mark.apps("fastapi", "js")
def test_app_that_moved_is_called_at_its_new_address(app: App, start_app: Any) -> None:
    moved: App = start_app(app.app_id)
    try:
        assert moved.sync().status_code == 200
        run = moved.run("three-steps")
        assert (run.status, run.output) == ("Completed", [1, 2, 3])
        assert app.log(run.key).calls == []
    finally:
        assert app.sync().status_code == 200
    back = app.run("three-steps")
    assert back.log.steps() == ["a", "b", "c"]
    assert moved.log(back.key).calls == []


@pytest.mark.apps("fastapi", "js")
def test_run_that_sleeps_while_its_app_moves_goes_on_at_the_new_address(app: App, start_app: Any) -> None:
    moved: App = start_app(app.app_id)
    sent = app.trigger("sleep", seconds=1)
    app.paused(sent, "Sleep")
    try:
        assert moved.sync().status_code == 200
        run = moved.wait(sent, "sleep")
    finally:
        assert app.sync().status_code == 200
    assert run.status == "Completed"
    assert app.log(sent.key).steps() == ["before"]
    assert moved.log(sent.key).steps() == ["after"]


@pytest.mark.apps("fastapi", "js")
def test_app_that_expects_another_kind_of_server_is_refused(app: App) -> None:
    answer = httpx.put(app.url, headers={"X-Inngest-Server-Kind": "cloud"}, timeout=10)
    if app.js:
        assert answer.json()["modified"] is False
        assert answer.json()["message"] == "Expected server kind dev, got cloud"
    else:
        assert answer.status_code == 400
    assert app.run("no-steps").status == "Completed"
