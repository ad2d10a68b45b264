"""Functions that log, tell how far they are, and keep secrets: async ones and plain ones."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from call_log import CallLog

import perdure
from perdure.middleware import Encryption

KEY = "a key that the server does not have"
log = logging.getLogger("tests.telling")
log.setLevel(logging.INFO)


def define_async(app: perdure.App, notes: CallLog) -> None:
    """The async ones."""

    @app.function(f"{app.name}/telling", id="telling", retries=1)
    async def telling(event: dict[str, Any], step: perdure.Step) -> str:
        async def work() -> str:
            log.info("attempt %d", step.attempt, extra={"amount": 7})
            step.progress(0.5, "half of it")
            await asyncio.sleep(0.3)  # longer than lines gather
            if step.attempt == 0:
                raise ValueError("the first time it fails")
            step.progress(1, "all of it")
            return "done"

        step.log.info("begins")
        await step.run("work", work)
        step.log.info("between")
        await step.sleep("nap", 1)
        step.log.info("ends")
        return "told"

    @app.function(f"{app.name}/long", id="long", retries=0)
    async def long(event: dict[str, Any], step: perdure.Step) -> None:
        async def work() -> None:
            notes.note(step, "begins", "long")
            try:
                for part in range(600):
                    step.progress(part / 600)
                    await asyncio.sleep(0.05)
            except asyncio.CancelledError as error:
                notes.note(step, "stopped", "long", error=type(error).__name__)
                raise

        await step.run("work", work)

    @app.function(f"{app.name}/secret", id="secret", retries=0, middleware=[Encryption(KEY)])
    async def secret(event: dict[str, Any], step: perdure.Step) -> Any:
        first = await step.run("first", lambda: {"password": "hunter2"})
        await step.sleep("nap", 1)
        notes.note(step, "saw", "secret", value=first)
        return [first, event["n"]]


def define_sync(app: perdure.App, notes: CallLog) -> None:
    """The plain ones."""

    @app.function(f"{app.name}/telling", id="telling", retries=1)
    def telling(event: dict[str, Any], step: perdure.SyncStep) -> str:
        def work() -> str:
            log.info("attempt %d", step.attempt, extra={"amount": 7})
            step.progress(0.5, "half of it")
            time.sleep(0.3)
            if step.attempt == 0:
                raise ValueError("the first time it fails")
            step.progress(1, "all of it")
            return "done"

        step.log.info("begins")
        step.run("work", work)
        step.log.info("between")
        step.sleep("nap", 1)
        step.log.info("ends")
        return "told"

    @app.function(f"{app.name}/long", id="long", retries=0)
    def long(event: dict[str, Any], step: perdure.SyncStep) -> None:
        def work() -> None:
            notes.note(step, "begins", "long")
            try:
                for part in range(600):
                    step.progress(part / 600)
                    time.sleep(0.05)
            except perdure.RunCancelledError as error:
                notes.note(step, "stopped", "long", error=type(error).__name__)
                raise

        step.run("work", work)

    @app.function(f"{app.name}/secret", id="secret", retries=0, middleware=[Encryption(KEY)])
    def secret(event: dict[str, Any], step: perdure.SyncStep) -> Any:
        first = step.run("first", lambda: {"password": "hunter2"})
        step.sleep("nap", 1)
        notes.note(step, "saw", "secret", value=first)
        return [first, event["n"]]
