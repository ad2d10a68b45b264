"""Registration over HTTP: every error of the protocol, all at once, and what stays running meanwhile."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, BareApp, Scripted, function_config, register
from tests.sdk.driver import Server, until


def again(http: httpx.Client, fn: Scripted, functions: list[dict[str, Any]], **fields: Any) -> httpx.Response:
    """Register the app of a scripted function anew."""
    body = {
        "url": f"{fn.app.origin}/{fn.slug}",
        "v": "0.1",
        "sdk": "js:v4.24.0",
        "appName": fn.slug,
        **fields,
    }
    return http.post("/fn/register", json={**body, "functions": functions})


def config(fn: Scripted, **more: Any) -> dict[str, Any]:
    return function_config(fn.app, fn.slug, **{"url": f"{fn.app.origin}/{fn.slug}", **more})


def app_named(http: httpx.Client, name: str) -> dict[str, Any] | None:
    return next((app for app in http.get("/dev").json()["apps"] if app["name"] == name), None)


def test_success(http: httpx.Client, scripted: Make) -> None:
    fn = scripted([])
    answer = again(http, fn, [config(fn, name="New name")])
    body = answer.json()
    assert set(body) == {"ok", "modified", "sync_id", "app_id"}
    assert (body["ok"], body["modified"]) == (True, True)
    assert str(uuid.UUID(body["sync_id"])) == body["sync_id"]
    assert answer.headers["content-type"].startswith("text/plain")
    repeated = again(http, fn, [config(fn, name="New name")]).json()
    assert (repeated["modified"], repeated["app_id"]) == (False, body["app_id"])
    assert repeated["sync_id"] != body["sync_id"]


@pytest.mark.parametrize("body", [{}, {"appName": ""}, {"appName": "  "}, {"appName": None}, {"appName": 7}])
def test_app_without_a_name(http: httpx.Client, body: dict[str, Any]) -> None:
    answer = http.post("/fn/register", json={"url": "http://localhost:1", **body})
    assert answer.status_code == 400
    assert answer.json() == {"error": "App ID required", "status": 400, "data": None}


def _deep(levels: int) -> bytes:
    """Nested deeper than whoever reads it later could follow."""
    return b'{"appName":"deep","url":"http://localhost:1","x":%b1%b}' % (b"[" * levels, b"]" * levels)


@pytest.mark.parametrize(
    "body",
    [b"", b"{bad", b"[]", b"7", b'{"appName":"x","functions":7}', _deep(700), _deep(2000)],
    ids=lambda body: repr(body[:30]),
)
def test_unreadable_bodies(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/fn/register", content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].startswith("Invalid request: ")


def test_kind_of_server(http: httpx.Client) -> None:
    headers = {"X-Inngest-Expected-Server-Kind": "cloud"}
    answer = http.post("/fn/register", json={"appName": "k", "url": "http://x"}, headers=headers)
    assert (answer.status_code, answer.json()) == (400, {"error": "Expected server kind dev, got cloud"})


@pytest.mark.parametrize("version", ["3.22.0", "3.40.2", "3.53.1"])
def test_denied_sdk(http: httpx.Client, version: str) -> None:
    body = {"appName": "denied", "url": "http://localhost:1", "sdk": f"js:v{version}", "functions": []}
    answer = http.post("/fn/register", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "sdk_version_denied")
    assert "3.54.0" in answer.json()["error"]


def test_all_mistakes_at_once_and_the_last_good_version_goes_on(http: httpx.Client, scripted: Make) -> None:
    fn = scripted(lambda call: Answer(200, "still here"))
    bad = [
        {**config(fn), "id": f"{fn.slug}-a", "triggers": [{"cron": "61 * * * *"}, {"cron": "@daily"}]},
        {**config(fn), "id": f"{fn.slug}-b", "triggers": [{"event": "x", "expression": "event.data. =="}]},
        {**config(fn), "id": f"{fn.slug}-c", "timeouts": {"finish": "soon"}, "retries": "many"},
        {**config(fn), "id": f"{fn.slug}-d", "batchEvents": {"maxSize": 1, "timeout": "2s"}},
    ]
    answer = again(http, fn, [config(fn, name="Not taken"), *bad])
    assert answer.status_code == 400
    body = answer.json()
    assert body["error"].startswith("At least one function is invalid:\n- ")
    assert body["status"] == 400
    assert {problem["function"] for problem in body["data"]} == {f"{fn.slug}-{letter}" for letter in "abcd"}
    said = " ".join(problem["message"] for problem in body["data"])
    for word in ("61 * * * *", "event.data. ==", "soon", "maxSize"):
        assert word in said
    assert fn.run()["output"] == "still here"
    known = http.get("/dev").json()
    assert {f["name"] for f in known["functions"] if f["slug"].startswith(fn.slug)} == {fn.slug}
    shown = app_named(http, fn.slug)
    assert shown is not None
    assert shown["functions"] == 1
    assert shown["error"].startswith("At least one function is invalid:\n")
    assert "soon" in shown["error"], "the app's row names each mistake"
    assert again(http, fn, [config(fn)]).status_code == 200
    shown = app_named(http, fn.slug)
    assert shown is not None
    assert shown["error"] is None, "a good registration takes the error away, even one that changes nothing"


def test_bad_registration_of_a_new_app_shows_the_app(http: httpx.Client, bare: BareApp) -> None:
    name = f"new-{uuid.uuid4().hex[:8]}"
    broken = function_config(bare, f"{name}-f", triggers=[{"cron": "never"}])
    body = {"appName": name, "url": f"{bare.origin}/{name}", "functions": [broken]}
    assert http.post("/fn/register", json=body).status_code == 400
    shown = app_named(http, name)
    assert shown is not None
    assert (shown["functions"], shown["url"]) == (0, f"http://localhost:{bare.origin.rsplit(':')[-1]}/{name}")
    assert "never" in shown["error"]


def test_calls_go_to_the_new_url(http: httpx.Client, scripted: Make) -> None:
    fn = scripted(lambda call: Answer(200, call.path))
    old = http.get("/dev").json()["functions"]
    assert fn.run()["output"] == f"/{fn.slug}"
    moved = f"{fn.app.origin}/moved/{fn.slug}"
    assert again(http, fn, [config(fn, url=moved)], url=moved).json()["modified"] is True
    assert fn.run()["output"] == f"/moved/{fn.slug}"
    shown = app_named(http, fn.slug)
    assert shown is not None
    assert shown["url"].endswith(f"/moved/{fn.slug}")
    ids = {f["slug"]: f["id"] for f in old}
    new = {f["slug"]: f["id"] for f in http.get("/dev").json()["functions"]}
    assert new[fn.slug] == ids[fn.slug], "the function keeps its id"


def test_run_under_way_is_called_at_the_new_url(http: httpx.Client, server: Server, scripted: Make) -> None:
    def script(call: Any) -> Answer:
        return Answer(500, "again") if call.path == f"/{fn.slug}" else Answer(200, "moved")

    fn = scripted(script, retries=3)
    event = fn.trigger()
    until("the first call", lambda: fn.calls)
    moved = f"{fn.app.origin}/moved/{fn.slug}"
    assert again(http, fn, [config(fn, url=moved, retries=3)], url=moved).status_code == 200
    assert fn.ended(event)["output"] == "moved"


def test_two_apps_with_one_url(http: httpx.Client, scripted: Make, server: Server) -> None:
    """The newer one takes over: the older app answers there no longer."""
    old = scripted(lambda call: Answer(200, "old"))
    name = f"newer-{old.slug}"
    old.app.on(name, lambda call: Answer(200, "new"))
    url = f"{old.app.origin}/{old.slug}"
    register(server, old.app, name, [function_config(old.app, name, url=url)], url=url)
    assert old.slug not in server.functions()
    assert app_named(http, old.slug) is None
    shown = app_named(http, name)
    assert shown is not None
    assert shown["functions"] == 1
    event = old.trigger()
    newer = server.send({"name": f"bare/{name}"})[0]
    assert server.ended(server.run_of(newer, name)["run_id"])["output"] == "new"
    assert server.runs(event) == []


def test_removed_function(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, "one"))
    other = {**config(fn), "id": f"{fn.slug}-other", "triggers": [{"event": f"other/{fn.slug}"}]}
    assert again(http, fn, [other]).status_code == 200
    assert fn.slug not in server.functions()
    listed = {f["id"]: f for f in http.get(f"/v1/apps/{fn.slug}/functions").json()}
    assert listed[fn.slug]["archived_at"] is not None
    assert listed[f"{fn.slug}-other"]["archived_at"] is None
    event = fn.trigger()
    assert server.send({"name": f"other/{fn.slug}"})
    until("the other function's call", lambda: fn.app.of(f"{fn.slug}-other"))
    assert server.runs(event) == []


def test_run_of_a_function_removed_meanwhile_ends(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, "late") if call.ctx["attempt"] else Answer(500, "once"), retries=2)
    event = fn.trigger()
    until("the first call", lambda: fn.calls)
    run = server.run_of(event, fn.slug)
    assert again(http, fn, []).status_code == 200
    assert server.ended(run["run_id"])["status"] in {"Completed", "Failed", "Cancelled"}


def test_no_functions(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted([])
    assert again(http, fn, []).json()["ok"] is True
    shown = app_named(http, fn.slug)
    assert shown is not None
    assert (shown["functions"], shown["error"]) == (0, "No functions registered within your app")
    assert again(http, fn, [config(fn)]).json()["modified"] is True, "they come back"
    assert fn.slug in server.functions()


def test_forgetting_an_app(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, "again"))
    url = f"{fn.app.origin}/{fn.slug}"
    assert http.delete("/fn/remove", params={"url": url}).status_code == 200
    assert fn.slug not in server.functions()
    assert app_named(http, fn.slug) is None
    event = fn.trigger()
    time.sleep(0.3)
    assert server.runs(event) == []
    answer = http.delete("/fn/remove", params={"url": url})
    assert answer.status_code == 404
    assert answer.json()["error"] == f"App not found: {url}"
    answer = http.delete("/fn/remove")
    assert (answer.status_code, answer.json()["error"]) == (404, "App not found: ")
    assert again(http, fn, [config(fn)]).json()["modified"] is True, "even the same payload brings it back"
    assert fn.run()["output"] == "again"


def test_registration_survives_many_at_once(http: httpx.Client, scripted: Make, server: Server) -> None:
    """Whatever the order, the last one taken is whole: its functions are those of one payload."""
    from concurrent.futures import ThreadPoolExecutor

    fn = scripted([])

    def one(n: int) -> int:
        functions = [
            {**config(fn), "id": f"{fn.slug}-{n}-{part}", "triggers": [{"event": f"e/{n}"}]} for part in "ab"
        ]
        return again(http, fn, functions).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, range(24))) == {200}
    left = [slug for slug in server.functions() if slug.startswith(fn.slug)]
    assert len(left) == 2
    assert len({slug.rsplit("-", 1)[0] for slug in left}) == 1
