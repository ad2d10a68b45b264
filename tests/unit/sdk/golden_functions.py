"""The functions whose calls and answers were recorded, in Python and in JavaScript, written with our SDK.

Where an output is the author's own (the name of a class, a list of keys) it is given as the recorded code gave it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import perdure

Data = dict[str, Any]


class Error(Exception):
    """The name that JavaScript has for what Python calls Exception."""


class RangeError(Exception):
    """What JavaScript has in place of ValueError."""


@dataclass(frozen=True)
class Recorded:
    """What a recording has that no code can know: its language, and a moment that a step gave."""

    sdk: str
    moment: str = ""

    @property
    def app(self) -> str:
        return f"golden-{self.sdk}"

    @property
    def js(self) -> bool:
        return self.sdk == "js"

    def error(self, message: str) -> Exception:
        return Error(message) if self.js else Exception(message)


def give(value: Any) -> Any:
    return value


def fail(error: Exception) -> Any:
    raise error


def make(recorded: Recorded) -> perdure.App:
    """An app with all functions of a recording's language."""
    app = perdure.App(recorded.app, url="http://server.invalid", checkpoint=None)
    _steps(app, recorded)
    _failures(app, recorded)
    _waits(app, recorded)
    _invokes(app, recorded)
    _side_by_side(app, recorded)
    return app


def _steps(app: perdure.App, recorded: Recorded) -> None:
    @app.function("x/seq3", id="seq3")
    async def seq3(event: Data, step: perdure.Step) -> Any:
        a = await step.run("a", give, {"v": 1})
        b = await step.run("b", lambda: a["v"] + 1)
        return {"a": a, "b": b, "c": await step.run("c", give, None)}

    @app.function("x/loop", id="loop")
    async def loop(event: Data, step: perdure.Step) -> Any:
        return [await step.run("same", give, number) for number in range(3)]

    @app.function("x/sendev", id="sendev")
    async def sendev(event: Data, step: perdure.Step) -> Any:
        ids = await step.send_event("send", [perdure.Event("x/one", {}), perdure.Event("x/two", {})])
        return {"ids": ids} if recorded.js else ids


def _failures(app: perdure.App, recorded: Recorded) -> None:
    @app.function("x/flaky", id="flaky")
    async def flaky(event: Data, step: perdure.Step) -> Any:
        def work() -> str:
            if step.attempt < 2:
                raise TypeError(f"boom {step.attempt}")
            return f"ok@{step.attempt}"

        result = await step.run("flaky", work)
        await step.run("after", give, "done")
        return result

    @app.function("x/caught", id="caught")
    async def caught(event: Data, step: perdure.Step) -> Any:
        try:
            await step.run("bad", fail, recorded.error("always"))
        except perdure.StepError as error:
            kind = {"ctor": "StepError", "cause": "undefined"} if recorded.js else {"t": type(error).__name__}
            got = {"n": error.name, "m": error.message} | kind
        return {"got": got, "r": await step.run("recover", give, "rec")}

    @app.function("x/stepdies", id="stepdies")
    async def stepdies(event: Data, step: perdure.Step) -> Any:
        await step.run("bad", fail, recorded.error("uncaught step"))

    async def handle(failure: perdure.FailureData, step: perdure.Step) -> Any:
        message = failure.error["message"]
        told = await step.run("handle", give, message if recorded.js else 1)
        keys = sorted(step.event.data)
        return {"m": told, "keys": keys} if recorded.js else keys

    @app.function("x/fnerr", id="fnerr", on_failure=handle)
    async def fnerr(event: Data, step: perdure.Step) -> Any:
        kind = RangeError if recorded.js else ValueError
        raise kind(f"fn failed {step.attempt}")

    @app.function("x/nonret", id="nonret")
    async def nonret(event: Data, step: perdure.Step) -> Any:
        raise perdure.NonRetriableError("never again")

    @app.function("x/nonretstep", id="nonretstep")
    async def nonretstep(event: Data, step: perdure.Step) -> Any:
        await step.run("nr", fail, perdure.NonRetriableError("step never"))


def _waits(app: perdure.App, recorded: Recorded) -> None:
    @app.function("x/sleep1", id="sleep1")
    async def sleep1(event: Data, step: perdure.Step) -> Any:
        await step.sleep("nap", "1s")
        return "woke"

    @app.function("x/sleepuntil", id="sleepuntil")
    async def sleepuntil(event: Data, step: perdure.Step) -> Any:
        moment = await step.run("d", give, recorded.moment)
        await step.sleep_until("until", datetime.fromisoformat(moment))
        return "woke"

    def waiting(name: str) -> None:
        @app.function(f"x/{name}", id=name)
        async def wait(event: Data, step: perdure.Step) -> Any:
            got = await step.wait_for_event("w", f"{recorded.app}/answer", match="data.id", timeout="1m")
            assert got is not None
            told = {"data": got.data, "id": got.id, "name": got.name, "ts": got.ts}
            return told | {"user": {}, "v": got.v} if recorded.js else told

    waiting("waitif")
    waiting("waitmatch")

    @app.function("x/waittimeout", id="waittimeout")
    async def waittimeout(event: Data, step: perdure.Step) -> Any:
        return {"r": await step.wait_for_event("w", f"{recorded.app}/never", timeout="2s")}


def _invokes(app: perdure.App, recorded: Recorded) -> None:
    @app.function("x/callee", id="callee")
    async def callee(event: Data, step: perdure.Step) -> Any:
        doubled = await step.run("in", lambda: event["x"] * 2)
        return {"doubled": doubled, "ev": step.event.name, "keys": sorted(event)}

    @app.function("x/calleebad", id="calleebad")
    async def calleebad(event: Data, step: perdure.Step) -> Any:
        raise recorded.error("callee broke")

    @app.function("x/calleeslow", id="calleeslow")
    async def calleeslow(event: Data, step: perdure.Step) -> Any:
        await step.sleep("s", "6s")

    @app.function("x/invokeok", id="invokeok")
    async def invokeok(event: Data, step: perdure.Step) -> Any:
        return await step.invoke("inv", callee, {"x": 21}, timeout="30s")

    @app.function("x/invokefail", id="invokefail")
    async def invokefail(event: Data, step: perdure.Step) -> Any:
        try:
            await step.invoke("inv", calleebad, {})
        except perdure.StepError as error:
            told = {"n": error.name, "m": error.message}
            return told | {"ctor" if recorded.js else "t": "StepError"}

    @app.function("x/invoketimeout", id="invoketimeout")
    async def invoketimeout(event: Data, step: perdure.Step) -> Any:
        try:
            await step.invoke("inv", calleeslow, {}, timeout="2s")
        except perdure.InvokeTimeoutError as error:
            return {"n": error.name, "m": error.message}

    @app.function("x/invokeunknown", id="invokeunknown")
    async def invokeunknown(event: Data, step: perdure.Step) -> Any:
        try:
            await step.invoke("inv", "ghost-nope", {})
        except perdure.InvokeError as error:
            return {"n": error.name, "m": error.message}


def _side_by_side(app: perdure.App, recorded: Recorded) -> None:
    async def three(step: perdure.Step) -> list[Any]:
        return list(await asyncio.gather(*(step.run(name, give, name) for name in ("p1", "p2", "p3"))))

    @app.function("x/par3", id="par3")
    async def par3(event: Data, step: perdure.Step) -> Any:
        got = await three(step)
        tail = await step.run("tail", give, "t")
        return [got, tail]

    @app.function("x/par3race", id="par3race")
    async def par3race(event: Data, step: perdure.Step) -> Any:
        return await three(step)

    @app.function("x/parmix", id="parmix")
    async def parmix(event: Data, step: perdure.Step) -> Any:
        got = await asyncio.gather(
            step.run("r", give, 1),
            step.sleep("s", "1s"),
            step.wait_for_event("w", f"{recorded.app}/never", timeout="2s"),
        )
        return {"n": len(got)}

    @app.function("x/parfail", id="parfail")
    async def parfail(event: Data, step: perdure.Step) -> Any:
        names = ("f1", "f2", "f3")
        works = (step.run(name, fail, recorded.error(f"p{name}")) for name in names)
        for told in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(told, BaseException):
                raise told
