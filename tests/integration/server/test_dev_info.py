"""What `GET /dev` shows: SDKs look here for a server, and their tests compare functions with their own lists."""

from __future__ import annotations

import re
from typing import Any

import httpx

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import BareApp, function_config, register
from tests.sdk.driver import Server

FULL: dict[str, Any] = {
    "concurrency": [{"limit": 5, "key": "event.data.user"}],
    "rateLimit": {"limit": 10, "period": "1h", "key": "event.data.user"},
    "throttle": {"limit": 10, "period": "1m", "burst": 2},
    "priority": {"run": "event.data.vip ? 120 : 0"},
    "singleton": {"mode": "skip"},
    "cancel": [{"event": "shop/order.cancelled", "if": "event.data.id == async.data.id", "timeout": "1h"}],
    "timeouts": {"start": "10s", "finish": "1h"},
    "idempotency": "event.data.cart",
}


def shown(server: Server, slug: str) -> dict[str, Any]:
    return server.functions()[slug]


def test_the_server_itself(http: httpx.Client) -> None:
    answer = http.get("/dev")
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert re.match(r"\d+\.\d+\.\d+", body["version"])
    assert body["authed"] is False
    assert (body["handlers"], body["isSingleNodeService"]) == (None, False)
    assert (body["isMissingSigningKey"], body["isMissingEventKeys"]) == (False, False)
    assert set(body["features"]) == {"FEATURE_CEL_SEARCH", "enable-step-metadata", "run-details-v4"}
    assert body["startOpts"] == {
        "autodiscover": False,
        "urls": [],
        "poll": False,
        "poll_interval": 5,
        "tick": 150_000_000,
        "retry_interval": 1,
        "queue_workers": 100,
    }


def test_plain_function_shows_only_what_it_sets(server: Server, bare: BareApp) -> None:
    slug = "info-plain"
    triggers = [
        {"event": "shop/paid", "expression": "event.data.n > 1"},
        {"cron": "TZ=Europe/Paris 0 12 * * 5"},
    ]
    url = f"{bare.origin}/api/inngest?token=a%2Bb"
    register(server, bare, slug, [function_config(bare, slug, url=url, triggers=triggers)], url=url)
    function = shown(server, slug)
    assert set(function) == {"id", "fv", "name", "slug", "triggers", "steps"}
    assert (function["name"], function["slug"], function["fv"]) == (slug, slug, 1)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", function["id"])
    assert function["triggers"] == triggers
    port = bare.origin.rpartition(":")[2]
    uri = f"http://localhost:{port}/api/inngest?token=a%2Bb&fnId={slug}&stepId=step"
    assert function["steps"] == [{"id": "step", "name": "step", "uri": uri}]


def test_set_fields_are_shown_as_they_came(server: Server, bare: BareApp) -> None:
    slug = "info-full"
    register(server, bare, slug, [function_config(bare, slug, url=f"{bare.origin}/full", **FULL)])
    function = shown(server, slug)
    expected = {name: value for name, value in FULL.items() if name != "idempotency"}
    assert {name: function[name] for name in expected} == expected
    assert set(function) == {"id", "fv", "name", "slug", "triggers", "steps", *expected}


def test_nulls_and_empty_lists_are_not_shown(server: Server, bare: BareApp) -> None:
    """As older SDKs and Python's failure handlers send them."""
    slug = "info-nulls"
    triggers = [{"event": "shop/paid", "expression": None}]
    nothing: dict[str, Any] = {"cancel": [], "concurrency": [], "throttle": None, "debounce": None}
    url = f"{bare.origin}/nulls"
    register(server, bare, slug, [function_config(bare, slug, url=url, triggers=triggers, **nothing)])
    function = shown(server, slug)
    assert set(function) == {"id", "fv", "name", "slug", "triggers", "steps"}
    assert function["triggers"] == [{"event": "shop/paid"}]


def test_functions_are_in_the_order_of_their_names(server: Server, http: httpx.Client, bare: BareApp) -> None:
    names = {"b": "Zebra", "c": "Ant", "a": "Mule"}
    functions = [
        function_config(bare, f"info-order-{slug}", url=f"{bare.origin}/order", name=name)
        for slug, name in names.items()
    ]
    register(server, bare, "info-order", functions, url=f"{bare.origin}/order")
    all_names = [function["name"] for function in http.get("/dev").json()["functions"]]
    assert all_names == sorted(all_names)
    assert [name for name in all_names if name in names.values()] == ["Ant", "Mule", "Zebra"]


def test_apps(server: Server, http: httpx.Client, scripted: Make) -> None:
    fn = scripted([])
    app = next(app for app in http.get("/dev").json()["apps"] if app["name"] == fn.slug)
    port = fn.app.origin.rpartition(":")[2]
    assert app["url"] == f"http://localhost:{port}/{fn.slug}"
    assert (app["sdk"], app["framework"], app["method"]) == ("js:v4.24.0", "nodejs", "SERVE")
    assert (app["functions"], app["error"]) == (1, None)
    assert set(app) == {"id", "name", "url", "sdk", "framework", "method", "functions", "error", "synced_at"}


def test_functions_of_an_app(server: Server, http: httpx.Client, scripted: Make) -> None:
    """A bare array, not wrapped; empty for an unknown app."""
    fn = scripted([], timeouts={"finish": "1h"})
    (function,) = http.get(f"/v1/apps/{fn.slug}/functions").json()
    assert function["internal_id"] == server.functions()[fn.slug]["id"]
    assert (function["id"], function["name"], function["archived_at"]) == (fn.slug, fn.slug, None)
    assert function["config"]["timeouts"] == {"finish": "1h"}
    assert http.get("/v1/apps/ghost/functions").json() == []
    assert http.get("/v1/apps/a%2Fb/functions").json() == []
