"""The functions under rules on the official Python SDK: FastAPI, async functions, one uvicorn process.

Its options are made of the same rules, by the SDK itself. It has none for a limit on runs: whoever wants that sets it
at run time.

Run as `python -m tests.integration.durability.apps.sdk_rules PORT SERVER_URL JOURNAL`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import fastapi
import inngest
import inngest.fast_api
import orjson
import uvicorn

from tests.integration.durability import jobs, rules
from tests.integration.durability.journal import Writer

Message = MutableMapping[str, Any]
SECOND = timedelta(seconds=1)


def options() -> dict[str, dict[str, Any]]:
    """The SDK's options of each function."""
    per_who = inngest.Concurrency(limit=rules.KEY_LIMIT, key=rules.WHO)
    shared = inngest.Concurrency(limit=rules.SHARED_LIMIT, key=rules.SHARED_KEY, scope="account")
    limit = inngest.Concurrency(limit=rules.LIMIT)
    burst = inngest.Throttle(limit=rules.BURST_LIMIT, period=SECOND, burst=rules.BURST_MORE, key=rules.WHO)
    return {
        rules.LIMITED: {"concurrency": [limit]},
        rules.KEYED: {"concurrency": [per_who]},
        rules.BOTH: {"concurrency": [limit, per_who]},
        **{name: {"concurrency": [shared]} for name in rules.SHARED},
        rules.WHOLE: {},
        rules.PACED: {"throttle": inngest.Throttle(limit=rules.PACE, period=SECOND, burst=0)},
        rules.BURST: {"throttle": burst},
        rules.RATED: {"rate_limit": inngest.RateLimit(limit=rules.RATE, period=2 * SECOND, key=rules.WHO)},
        rules.ONCE: {"idempotency": rules.WHO},
        rules.FLURRY: {"debounce": inngest.Debounce(period=SECOND, key=rules.WHO)},
        rules.BATCHED: {
            "batch_events": inngest.Batch(max_size=rules.BATCH_SIZE, timeout=SECOND, key=rules.WHO),
            "concurrency": [inngest.Concurrency(limit=1)],
        },
        rules.SKIPS: {"singleton": inngest.Singleton(key=rules.WHO, mode="skip")},
        rules.REPLACES: {"singleton": inngest.Singleton(key=rules.WHO, mode="cancel")},
        rules.START_BY: {
            "concurrency": [inngest.Concurrency(limit=1)],
            "timeouts": inngest.Timeouts(start=SECOND),
        },
        rules.START_PACED: {
            "throttle": inngest.Throttle(limit=1, period=SECOND, burst=0),
            "timeouts": inngest.Timeouts(start=SECOND),
        },
        rules.FINISH_BY: {"timeouts": inngest.Timeouts(finish=SECOND)},
        rules.CANCELLABLE: {"cancel": [inngest.Cancel(event=rules.CANCEL, if_exp=rules.SAME_WHO)]},
        rules.HELD: {},
        rules.LONG_QUEUE: {"concurrency": [inngest.Concurrency(limit=rules.QUEUE_LIMIT)]},
        rules.LONG_QUEUES: {"concurrency": [inngest.Concurrency(limit=rules.QUEUE_LIMIT), per_who]},
        rules.TICK: {"trigger": inngest.TriggerCron(cron=rules.EVERY_SECOND)},
        rules.TICK_IN_LINE: {
            "trigger": inngest.TriggerCron(cron=rules.EVERY_SECOND),
            "concurrency": [inngest.Concurrency(limit=1)],
        },
        rules.MIXED: {
            "throttle": inngest.Throttle(limit=rules.PACE, period=SECOND, burst=0, key=rules.WHO),
            "priority": inngest.Priority(run="event.data.n % 7"),
            "timeouts": inngest.Timeouts(start=30 * SECOND, finish=30 * SECOND),
        },
        rules.ASKS: {},
        rules.ASKED[0]: {"debounce": inngest.Debounce(period=SECOND)},
        rules.ASKED[1]: {"batch_events": inngest.Batch(max_size=rules.BATCH_SIZE, timeout=SECOND)},
        rules.ASKED[2]: {"rate_limit": inngest.RateLimit(limit=rules.RATE, period=2 * SECOND)},
        rules.ASKED[3]: {"singleton": inngest.Singleton(key='"one"', mode="skip")},
    }


async def ask(ctx: inngest.Context, data: dict[str, Any]) -> None:
    """Invoke a function; that a rule let it down is an answer too."""
    with contextlib.suppress(inngest.StepError):
        await ctx.step.invoke_by_id(
            rules.ASK, app_id=rules.APP, function_id=data["asks"], data={"by": data["n"]}
        )


def functions(client: inngest.Inngest, journal: Writer) -> list[inngest.Function[Any]]:
    """All functions of the app."""

    def make(name: str, given: dict[str, Any]) -> inngest.Function[Any]:
        async def run(ctx: inngest.Context) -> None:
            data: dict[str, Any] = dict(ctx.event.data)

            async def work() -> None:
                await asyncio.sleep(data.get("takes_s", 0))

            steps = rules.steps_of(name, data)
            for step in steps:
                if step == rules.ASK:
                    await ask(ctx, data)
                elif step == rules.NAP:
                    await ctx.step.sleep(step, timedelta(milliseconds=data["nap_ms"]))
                else:
                    await ctx.step.run(step, work)
            if not steps:
                await work()
            journal.ended(ctx.run_id, data.get("n", -1))

        trigger = inngest.TriggerEvent(event=f"{rules.APP}/{name}")
        wanted = {"trigger": trigger, "retries": jobs.RETRIES, **given}
        return client.create_function(fn_id=name, **wanted)(run)

    return [make(name, given) for name, given in options().items()]


def noting(app: Any, journal: Writer) -> Any:
    """The ASGI app; each call is written down before it is handled, and again before its answer leaves."""

    async def wrapped(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        call = orjson.loads(body)
        journal.entered(call)
        replayed = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(replayed, None) or await receive()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                journal.left(call)
            await send(message)

        await app(scope, again, answer)

    return wrapped


def main(port: int, server_url: str, journal: Path) -> None:
    """Serve until killed."""
    writer = Writer(journal)
    client = inngest.Inngest(
        app_id=rules.APP, is_production=False, api_base_url=server_url, event_api_base_url=server_url
    )
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, functions(client, writer))
    uvicorn.run(
        noting(app, writer), host="127.0.0.1", port=port, loop="uvloop", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
