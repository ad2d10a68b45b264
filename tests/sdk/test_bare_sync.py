"""Registering by hand: what is refused and with which words, and what stays as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.sdk.bare_app import Answer, BareApp, Scripted, function_config, register
from tests.sdk.driver import Server, until

Make = Callable[..., Scripted]


def post(server: Server, fn: Scripted, functions: list[dict[str, Any]], **fields: Any) -> Any:
    """Register again under the app of a scripted function, whatever comes of it."""
    body = {
        "url": f"{fn.app.origin}/{fn.slug}",
        "v": "0.1",
        "sdk": "js:v4.24.0",
        "appName": fn.slug,
        **fields,
    }
    return server.http.post("/fn/register", json={**body, "functions": functions})


def config_of(fn: Scripted, **more: Any) -> dict[str, Any]:
    return function_config(fn.app, fn.slug, url=f"{fn.app.origin}/{fn.slug}", **more)


def test_removed_function_is_no_longer_triggered(scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, "one"))
    assert fn.run()["status"] == "Completed"
    other = {**config_of(fn), "id": f"{fn.slug}-other", "triggers": [{"event": "bare/other"}]}
    assert post(server, fn, [other]).status_code == 200
    event = fn.trigger()
    time.sleep(0.5)
    assert server.runs(event) == []
    assert len(fn.calls) == 1
    assert fn.slug not in server.functions()
    assert post(server, fn, [config_of(fn)]).status_code == 200
    assert fn.run()["status"] == "Completed", "it comes back"


def test_changed_trigger_counts_at_once(scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, call.body["event"]["name"]))
    name = f"bare/new-{fn.slug}"
    assert post(server, fn, [config_of(fn, triggers=[{"event": name}])]).status_code == 200
    old, new = server.send({"name": f"bare/{fn.slug}"}, {"name": name})
    assert fn.ended(new)["output"] == name
    assert server.runs(old) == []


def test_function_id_stays_over_syncs_and_modified_tells(scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, None))
    before = server.functions()[fn.slug]["id"]
    again = post(
        server, fn, [config_of(fn)], deployType="ping", framework="nodejs", capabilities={"trust_probe": "v1"}
    )
    assert (again.json()["ok"], again.json()["modified"]) == (True, False)
    changed = post(server, fn, [config_of(fn, name="Another name")])
    assert changed.json()["modified"] is True
    assert changed.json()["app_id"] == again.json()["app_id"]
    assert changed.json()["sync_id"] != again.json()["sync_id"]
    assert server.functions()[fn.slug]["id"] == before
    assert server.functions()[fn.slug]["name"] == "Another name"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"triggers": [{"cron": "61 * * * *"}]}, ["61 * * * *"]),
        ({"triggers": [{"event": "x", "expression": "event.data. =="}]}, ["event.data. =="]),
        ({"timeouts": {"finish": "soon"}}, ["finish", "soon"]),
        ({"batchEvents": {"maxSize": 1, "timeout": "2s"}}, ["maxSize", "1"]),
        ({"batchEvents": {"maxSize": 2, "timeout": "2s"}, "cancel": [{"event": "x"}]}, ["batch", "cancel"]),
        ({"concurrency": [{"limit": 1, "scope": "account"}]}, ["account", "key"]),
        ({"triggers": [{"cron": "bad"}, {"event": "y", "expression": "1 +"}]}, ["bad", "1 +"]),
    ],
    ids=[
        "cron",
        "expression",
        "duration",
        "batch-size",
        "batch-with-cancel",
        "scope-without-key",
        "two-at-once",
    ],
)
def test_bad_config_refuses_the_sync_and_the_last_good_one_stays(
    scripted: Make, server: Server, broken: dict[str, Any], words: list[str]
) -> None:
    fn = scripted(lambda call: Answer(200, "still here"))
    answer = post(server, fn, [config_of(fn), {**config_of(fn), "id": f"{fn.slug}-bad", **broken}])
    assert answer.status_code == 400
    assert answer.json()["status"] == 400
    text = str(answer.json())
    assert all(word in text for word in words), text
    assert f"{fn.slug}-bad" in text
    assert fn.run()["output"] == "still here"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"appName": ""}, "App ID required"),
        ({"sdk": "js:v3.40.0"}, "sdk_version_denied"),
    ],
    ids=["no-app", "denied-sdk"],
)
def test_refused_bodies(scripted: Make, server: Server, fields: dict[str, Any], words: str) -> None:
    fn = scripted([])
    answer = post(server, fn, [config_of(fn)], **fields)
    assert answer.status_code == 400
    assert words in str(answer.json())


def test_body_that_is_not_json(server: Server) -> None:
    answer = server.http.post("/fn/register", content=b"{nope", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "error" in answer.json()


def test_expected_server_kind_is_checked(scripted: Make, server: Server) -> None:
    fn = scripted([])
    answer = server.http.post("/fn/register", json={}, headers={"X-Inngest-Expected-Server-Kind": "cloud"})
    assert answer.status_code == 400
    assert answer.json()["error"] == "Expected server kind dev, got cloud"
    assert fn.slug in server.functions()


def test_lower_case_names_and_nulls_are_understood(bare: BareApp, server: Server) -> None:
    """As older releases and Python write them."""
    slug = "bare-lower"
    bare.on(slug, [Answer(200, "heard")])
    url = f"{bare.origin}/{slug}"
    config = {
        **function_config(bare, slug, url=url),
        "concurrency": None,
        "cancel": [],
        "throttle": None,
        "priority": None,
    }
    body = {
        "appname": slug,
        "url": url,
        "V": "0.1",
        "deploy_type": "ping",
        "SDK": "py:v0.5.19",
        "functions": [config],
    }
    assert server.http.post("/fn/register", json=body).status_code == 200
    event = server.send({"name": f"bare/{slug}"})[0]
    assert server.ended(server.run_of(event, slug)["run_id"])["output"] == "heard"


def test_url_keeps_its_query_and_gets_the_two_parameters(bare: BareApp, server: Server) -> None:
    slug = "bare-query"
    bare.on(slug, [Answer(200, "heard")])
    url = f"{bare.origin}/{slug}?token=a%2Bb&fnId=wrong&stepId=wrong"
    register(
        server, bare, slug, [function_config(bare, slug, url=url)], url=f"{bare.origin}/{slug}?token=a%2Bb"
    )
    server.send({"name": f"bare/{slug}"})
    call = until("the call", lambda: next(iter(bare.of(slug)), None))
    assert call.query == {"token": "a+b", "fnId": slug, "stepId": "step"}


def test_function_without_triggers_can_only_be_invoked(scripted: Make, server: Server) -> None:
    fn = scripted([Answer(200, "invoked")], triggers=[])
    answer = server.http.post(f"/invoke/{fn.slug}", json={"data": {"n": 1}})
    assert answer.status_code == 200, answer.text
    run = fn.ended(answer.json()["id"])
    assert run["output"] == "invoked"
    event = fn.calls[0].body["event"]
    assert (event["name"], event["data"]["n"]) == ("inngest/function.invoked", 1)
    assert event["data"]["_inngest"]["fn_id"] == fn.slug


def test_empty_list_of_functions_is_accepted(scripted: Make, server: Server) -> None:
    fn = scripted([])
    assert post(server, fn, []).status_code == 200
    assert fn.slug not in server.functions()
