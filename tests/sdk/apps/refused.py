"""Apps on the official Python SDK of one function each, whose rule is wrong: their registration is refused.

Each is served at `/refused/<case>/api/inngest`, all in one process.
`CASES` are options of `create_function`, by a name that the twin `../js/refused.mjs` uses too. Some mistakes cannot be
made with the Python SDK, since it does not take them itself: a scope that does not exist, a duration below a second.
"""

from __future__ import annotations

import argparse
from datetime import timedelta
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import uvicorn
from serving import make_client

EVENT = inngest.TriggerEvent(event="refused/event")
HOUR = timedelta(hours=1)
BROKEN = "event.data.shop id"


def _batch(size: int = 10, **more: Any) -> inngest.Batch:
    return inngest.Batch(max_size=size, timeout=HOUR, **more)


CASES: dict[str, dict[str, Any]] = {
    "concurrency-negative": {"concurrency": [inngest.Concurrency(limit=-1)]},
    "concurrency-huge": {"concurrency": [inngest.Concurrency(limit=2**31)]},
    "concurrency-three": {"concurrency": [inngest.Concurrency(limit=n) for n in (3, 2, 1)]},
    "concurrency-scope-without-key": {"concurrency": [inngest.Concurrency(limit=1, scope="account")]},
    "concurrency-key": {
        "concurrency": [inngest.Concurrency(limit=9), inngest.Concurrency(limit=1, key=BROKEN)]
    },
    "throttle-limit": {"throttle": inngest.Throttle(limit=-1, period=HOUR)},
    "throttle-burst": {"throttle": inngest.Throttle(limit=1, period=HOUR, burst=-1)},
    "throttle-key": {"throttle": inngest.Throttle(limit=1, period=HOUR, key=BROKEN)},
    "rate-limit-zero": {"rate_limit": inngest.RateLimit(limit=0, period=HOUR)},
    "rate-limit-long": {"rate_limit": inngest.RateLimit(limit=1, period=timedelta(hours=24, seconds=1))},
    "rate-limit-key": {"rate_limit": inngest.RateLimit(limit=1, period=HOUR, key=BROKEN)},
    "idempotency": {"idempotency": BROKEN},
    "debounce-long": {"debounce": inngest.Debounce(period=timedelta(days=7, seconds=1))},
    "debounce-key": {"debounce": inngest.Debounce(period=HOUR, key=BROKEN)},
    "priority": {"priority": inngest.Priority(run="event.data.vip ?")},
    "batch-size": {"batch_events": _batch(1)},
    "batch-key": {"batch_events": _batch(key=BROKEN)},
    "batch-if": {"batch_events": _batch(if_exp="event.data.bulk ==")},
    "batch-with-cancel": {"batch_events": _batch(), "cancel": [inngest.Cancel(event="refused/stop")]},
    "batch-with-debounce": {"batch_events": _batch(), "debounce": inngest.Debounce(period=HOUR)},
    "batch-with-singleton": {"batch_events": _batch(), "singleton": inngest.Singleton(mode="skip")},
    "batch-with-priority": {"batch_events": _batch(), "priority": inngest.Priority(run="1")},
    "singleton-key": {"singleton": inngest.Singleton(key=BROKEN, mode="skip")},
    "cancel-if": {"cancel": [inngest.Cancel(event="refused/stop", if_exp="event.data.id == async.data.")]},
    "cancel-six": {"cancel": [inngest.Cancel(event=f"refused/stop-{n}") for n in range(6)]},
    "cron": {"trigger": inngest.TriggerCron(cron="61 * * * *")},
    "cron-never": {"trigger": inngest.TriggerCron(cron="0 0 31 2 *")},
    "cron-zone": {"trigger": inngest.TriggerCron(cron="TZ=Europe/Atlantis 0 9 * * *")},
    "cron-jitter": {"trigger": inngest.TriggerCron(cron="0 9 * * *", jitter="10m")},
    "cron-twice": {
        "trigger": [inngest.TriggerCron(cron="0 9 * * *", jitter=jitter) for jitter in ("1s", "2s")]
    },
    "trigger-expression": {
        "trigger": inngest.TriggerEvent(event="refused/event", expression="event.data.n >")
    },
    "two-mistakes": {
        "rate_limit": inngest.RateLimit(limit=0, period=HOUR),
        "throttle": inngest.Throttle(limit=1, period=HOUR, key=BROKEN),
    },
}


def refused(client: inngest.Inngest, case: str) -> inngest.Function[Any]:
    """The function of a case."""
    options = {"trigger": EVENT, **CASES[case]}

    @client.create_function(fn_id="wrong", retries=0, **options)
    async def wrong(ctx: inngest.Context) -> None:
        pass

    return wrong


def build(server: str) -> fastapi.FastAPI:
    """All apps, for the server at the URL `server`."""
    app = fastapi.FastAPI()
    for case in CASES:
        client = make_client(f"refused-py-{case}", server)
        path = f"/refused/{case}/api/inngest"
        inngest.fast_api.serve(app, client, [refused(client, case)], serve_path=path)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    uvicorn.run(build(options.server), host="127.0.0.1", port=options.port, log_level="warning")
