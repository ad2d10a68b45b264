"""Wrong rules are refused when an app is synced: by name, with what is allowed, and the position in an expression.

The mistakes are those of `apps/refused.py` and `js/refused.mjs`. The reason is shown on the app, and
answered to its SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
import pytest

from tests.sdk.bare_app import BareApp, Scripted, function_config
from tests.sdk.conftest import Starter
from tests.sdk.driver import App, Server

BROKEN = "event.data.shop id"
AFTER_SHOP = "line 1, column 17"
PERIOD = "between 1s and 1d"

REASONS: dict[str, list[str]] = {
    "concurrency-negative": ["concurrency", "is -1", "0 or more"],
    "concurrency-huge": ["concurrency", "2147483648", "2147483647"],
    "concurrency-three": ["concurrency is 3", "at most 2"],
    "concurrency-scope-without-key": ["concurrency", "key", "account"],
    "concurrency-scope": ["concurrency", "scope", "galaxy", "fn", "env", "account"],
    "concurrency-key": ["concurrency[1].key", AFTER_SHOP],
    "throttle-period": ["throttle.period", "1s"],
    "throttle-limit": ["throttle.limit is -1", "0 or more"],
    "throttle-burst": ["throttle.burst is -1", "0 or more"],
    "throttle-key": ["throttle.key", AFTER_SHOP],
    "rate-limit-zero": ["rateLimit.limit is 0", "1 or more"],
    "rate-limit-short": ["rateLimit.period", PERIOD],
    "rate-limit-long": ["rateLimit.period", PERIOD],
    "rate-limit-key": ["rateLimit.key", AFTER_SHOP],
    "idempotency": ["idempotency", AFTER_SHOP],
    "debounce-short": ["debounce.period", "between 1s and 1w"],
    "debounce-long": ["debounce.period", "between 1s and 1w"],
    "debounce-timeout": ["debounce.timeout", "1s"],
    "debounce-key": ["debounce.key", AFTER_SHOP],
    "priority": ["priority.run", "line 1, column 17"],
    "batch-size": ["batchEvents.maxSize is 1", "2 or more"],
    "batch-timeout": ["batchEvents.timeout", "1s"],
    "batch-key": ["batchEvents.key", AFTER_SHOP],
    "batch-if": ["batchEvents.if", "line 1, column 19"],
    "batch-with-cancel": ["batchEvents", "cancel", "remove one of the two"],
    "batch-with-debounce": ["batchEvents", "debounce", "remove one of the two"],
    "batch-with-singleton": ["batchEvents", "singleton", "remove one of the two"],
    "batch-with-priority": ["batchEvents", "priority", "remove one of the two"],
    "singleton-key": ["singleton.key", AFTER_SHOP],
    "singleton-mode": ["singleton.mode", "queue", "skip", "cancel"],
    "timeouts-start": ["timeouts.start", "soon"],
    "timeouts-finish": ["timeouts.finish", "-1s"],
    "cancel-if": ["cancel[0].if", "line 1, column"],
    "cancel-six": ["cancel is 6", "at most 5"],
    "cron": ["triggers[0].cron", "61"],
    "cron-never": ["triggers[0].cron", "never fires"],
    "cron-zone": ["triggers[0].cron", "Europe/Atlantis"],
    "cron-jitter": ["triggers[0].jitter", "10m", "5m"],
    "cron-twice": ["triggers[1]", "triggers[0]", "jitter"],
    "trigger-expression": ["triggers[0].expression", "line 1, column"],
    "two-mistakes": ["rateLimit.limit", "throttle.key", AFTER_SHOP],
}
# Mistakes that the Python SDK does not let anybody make.
JAVASCRIPT_ONLY = {
    "concurrency-scope",
    "throttle-period",
    "rate-limit-short",
    "debounce-short",
    "debounce-timeout",
    "batch-timeout",
    "singleton-mode",
    "timeouts-start",
    "timeouts-finish",
}
CASES = [
    pytest.param(sdk, case, marks=[pytest.mark.node] if sdk == "js" else [], id=f"{sdk}-{case}")
    for sdk in ("py", "js")
    for case in REASONS
    if sdk == "js" or case not in JAVASCRIPT_ONLY
]


@pytest.fixture(scope="module")
def refusing(start_app: Starter) -> Callable[[str], App]:
    """Gives an app whose process serves those of all cases, of `py` or `js`."""
    return cache(lambda sdk: start_app(f"refused-{sdk}"))


def put(app: App, case: str) -> httpx.Response:
    url = f"{app.process.url}/refused/{case}/api/inngest"
    return httpx.put(url, headers={"X-Inngest-Server-Kind": "dev"}, timeout=10)


def shown_app(server: Server, name: str) -> dict[str, Any]:
    """An app as the server shows it."""
    answer = server.http.post(
        "/v0/gql", json={"query": "{ apps { name connected error functions { slug } } }"}
    )
    return dict(next(app for app in answer.json()["data"]["apps"] if app["name"] == name))


@pytest.mark.parametrize(("sdk", "case"), CASES)
def test_registration_is_refused_by_name(refusing: Callable[[str], App], sdk: str, case: str) -> None:
    app = refusing(sdk)
    answer = put(app, case)
    name = f"refused-{sdk}-{case}"
    # The Python SDK passes the server's answer on, with a status of its own.
    assert answer.status_code == (200 if sdk == "py" else 400)
    assert answer.json().get("modified", False) is False
    reason = shown_app(app.server, name)["error"]
    missing = [word for word in (f"{name}-wrong", *REASONS[case]) if word not in reason]
    assert not missing, f"{missing} not in: {reason}"
    assert f"{name}-wrong" not in app.server.functions()


@pytest.mark.parametrize("sdk", ["py", pytest.param("js", marks=pytest.mark.node)])
def test_sdk_hands_the_reason_to_whoever_syncs(refusing: Callable[[str], App], sdk: str) -> None:
    """The JavaScript SDK passes on, and logs, nothing but the text of `error`."""
    told = put(refusing(sdk), "two-mistakes").text
    assert all(word in told for word in REASONS["two-mistakes"]), told


def limits(*numbers: int, **more: Any) -> list[dict[str, Any]]:
    return [{"limit": number, **more} for number in numbers]


# By hand, as the SDKs have no option for it.
RUN_LIMITS = {
    "two": ({"fn": limits(1, 2)}, ["concurrency.fn", "at most one"]),
    "scope": ({"fn": limits(1, scope="env", key="1")}, ["concurrency.fn", "scope"]),
    "beside": ({"fn": limits(1), "limit": 3}, ["concurrency.limit", "beside"]),
    "key": ({"fn": limits(1, key=BROKEN)}, ["concurrency.fn[0].key", AFTER_SHOP]),
    "three-steps": ({"fn": limits(1), "step": limits(3, 2, 1)}, ["concurrency.step", "at most 2"]),
    "text": ("many", ["concurrency", "many"]),
    "half": (limits(1.5), ["concurrency[0].limit", "1.5", "whole number"]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", RUN_LIMITS)
def test_wrong_limit_that_no_sdk_would_send_is_refused(server: Server, bare: BareApp, case: str) -> None:
    concurrency, words = RUN_LIMITS[case]
    slug = f"bare-limits-{case}"
    config = function_config(bare, slug, concurrency=concurrency)
    body = {"url": bare.url, "v": "0.1", "sdk": "js:v4.24.0", "appName": slug, "functions": [config]}
    answer = server.http.post("/fn/register", json=body)
    assert answer.status_code == 400
    assert all(word in answer.text for word in (slug, *words)), answer.text
    assert slug not in server.functions()


EDGES: dict[str, dict[str, Any]] = {
    "run-and-step-limits": {"concurrency": {"fn": limits(1), "step": limits(3, 2)}},
    "largest-limit": {"concurrency": 2**31 - 1},
    "throttle-of-zero": {"throttle": {"limit": 0, "period": "1s"}},
    "rate-limit-of-a-day": {"rateLimit": {"limit": 1, "period": "24h"}},
    "debounce-of-a-week": {"debounce": {"period": "168h", "timeout": "1s"}},
    "smallest-batch": {"batchEvents": {"maxSize": 2, "timeout": "1s"}},
    "five-cancellations": {"cancel": [{"event": f"bare/stop-{n}", "timeout": "1h"} for n in range(5)]},
    "cancellation-until": {"cancel": [{"event": "bare/stop", "timeout": "2099-01-01T00:00:00Z"}]},
    "words-for-schedules": {"triggers": [{"cron": "@daily"}, {"cron": "@hourly", "jitter": "5m"}]},
    "six-fields": {"triggers": [{"cron": "CRON_TZ=Asia/Tokyo 0 30 9 * * MON-FRI"}]},
    "unknown-attributes": {"priority": {"run": "event.data.no.such.thing + 1"}},
    "nothings": {
        "concurrency": [{"limit": 1, "key": None, "scope": None}],
        "throttle": None,
        "debounce": None,
    },
}


@pytest.mark.parametrize("case", EDGES)
def test_what_is_just_within_bounds_is_taken(scripted: Callable[..., Scripted], case: str) -> None:
    fn = scripted([], **EDGES[case])
    function = fn.server.http.get(f"/v1/functions/{fn.slug}").json()["data"]
    assert {field: function["config"][field] for field in EDGES[case]} == EDGES[case]
