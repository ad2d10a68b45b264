"""The rest of the SDK and of flow control, seen through the test server."""

from __future__ import annotations

import asyncio
import datetime
import logging
from typing import Any

import pytest

import perdure
from perdure.middleware import Encryption, Middleware, Payload
from perdure.testing import Failure, Server, SyncServer

NOW = "2030-01-07T00:00:00Z"


class TestMiddleware:
    async def test_encrypted_runs_can_be_read(self) -> None:
        app = perdure.App("safe", middleware=[Encryption("a long random text that nobody knows")])

        @app.function("safe/go", retries=0)
        async def go(data: dict[str, Any], step: perdure.Step) -> str:
            first = await step.run("first", lambda: f"secret {data['n']}")
            woken = await step.wait_for_signal("signal", "wake", timeout="1d")
            await step.send_event("tell", perdure.Event("safe/told", {"encrypted": first}))
            return f"{first} {woken and woken.data}"

        async with Server(app) as server:
            run = await server.start(go, {"n": 1})
            assert run.step("first").output == "secret 1"
            await server.signal("wake", "up")
            # The event safe/told meets no function: it is sent by the run all the same.
            assert run.output == "secret 1 up"
            assert [event.data for event in run.sent] == [{"encrypted": "secret 1"}]
            assert server.events("safe/told") == run.sent
            stored = server._engine.reads.steps(run.id)
            assert all(b"secret" not in step.memo for step in stored), "as it is kept"

    async def test_before_send(self) -> None:
        class Marked(Middleware):
            def transform_input(self, value: Any, payload: Payload) -> Any:
                return {**value, "marked": True} if payload.kind == "event" else value

        app = perdure.App("marked", middleware=[Marked()])

        @app.function()
        async def go(data: dict[str, Any], step: perdure.Step) -> bool:
            return bool(data["marked"])

        async with Server(app) as server:
            assert (await server.start(go, {})).output is True


class TestLogsAndProgress:
    async def test_both(self) -> None:
        app = perdure.App("talks")
        log = logging.getLogger("talks")
        log.setLevel(logging.INFO)

        @app.function("talks/go")
        async def go(data: dict[str, Any], step: perdure.Step) -> None:
            log.info("begins")

            async def work() -> None:
                log.warning("works on %s", data["what"])
                step.progress(0.5, "half")

            await step.run("work", work)
            await step.sleep("rest", "1h")
            log.debug("not shown")

        async with Server(app, now=NOW) as server:
            run = await server.start(go, {"what": "it"})
            await server.advance("1h")
            run.assert_completed()
            assert run.step("work").progress == (0.5, "half")
            assert [line.message for line in run.step("work").logs] == ["works on it"]
        lines = [(line.step, line.level, line.message, line.at.isoformat()) for line in run.logs]
        assert lines == [
            ("", "INFO", "begins", "2030-01-07T00:00:00+00:00"),
            ("work", "WARNING", "works on it", "2030-01-07T00:00:00+00:00"),
        ], "once, although the code ran twice"


class TestFlowControl:
    def test_a_debounce(self) -> None:
        app = perdure.App("flow")

        @app.function("flow/edited", debounce=perdure.Debounce(period="10m"))
        async def index(data: dict[str, Any], step: perdure.Step) -> int:
            return int(data["n"])

        with SyncServer(app) as server:
            assert server.send(perdure.Event("flow/edited", {"n": 1})) == []
            server.advance("9m")
            with pytest.raises(Failure, match=r"has not started. It has the options debounce: perhaps"):
                server.start(index, {"n": 2})
            server.advance("10m")
            (run,) = server.runs(index)
            assert run.output == 2

    def test_a_batch(self) -> None:
        app = perdure.App("flow")

        @app.function(perdure.event("flow/added"), batch=perdure.Batch(size=3, timeout="1h"))
        async def store(data: list[dict[str, Any]], step: perdure.Step) -> list[int]:
            return [int(one["n"]) for one in data]

        with SyncServer(app) as server:
            for number in range(4):
                server.send(perdure.Event("flow/added", {"n": number}))
            assert [run.output for run in server.runs(store)] == [[0, 1, 2]]
            server.advance("1h")
            assert [run.output for run in server.runs(store)] == [[0, 1, 2], [3]]
            assert [event.data["n"] for event in server.runs(store)[0].events] == [0, 1, 2]

    def test_a_limit_and_a_throttle(self) -> None:
        app = perdure.App("flow")

        @app.function("flow/one", concurrency=perdure.Concurrency(limit=1, runs=True))
        async def one_at_a_time(data: dict[str, Any], step: perdure.Step) -> None:
            await step.sleep("rest", "1h")

        @app.function("flow/slow", throttle=perdure.Throttle(limit=1, period="1m"))
        async def slow(data: dict[str, Any], step: perdure.Step) -> None: ...

        with SyncServer(app) as server:
            runs = server.send(*[perdure.Event("flow/one", {}) for _ in range(3)])
            assert [run.status for run in runs] == ["running", "queued", "queued"]
            server.advance("1h")
            assert [run.status for run in runs] == ["completed", "running", "queued"]
            server.advance("2h")
            assert [run.status for run in runs] == ["completed"] * 3
            slow_runs = server.send(*[perdure.Event("flow/slow", {}) for _ in range(3)])
            assert [run.status for run in slow_runs] == ["completed", "queued", "queued"]
            server.advance("1m")
            assert [run.status for run in slow_runs] == ["completed", "completed", "queued"]

    def test_timeouts(self) -> None:
        app = perdure.App("flow")

        @app.function("flow/long", timeouts=perdure.Timeouts(finish="1h"))
        async def long(data: dict[str, Any], step: perdure.Step) -> None:
            await step.sleep("rest", "1d")

        with SyncServer(app) as server:
            run = server.start(long, {})
            server.advance("2h")
            assert run.status == "cancelled"


class TestFailures:
    async def test_a_failure_handler(self) -> None:
        app = perdure.App("fails")
        told: list[str] = []

        async def tell(failure: perdure.FailureData, step: perdure.Step) -> None:
            await step.run("tell", told.append, failure.error["message"])

        @app.function("fails/go", retries=0, on_failure=tell)
        async def go(data: dict[str, Any], step: perdure.Step) -> None:
            raise perdure.NonRetriableError("never")

        async with Server(app) as server:
            run = await server.start(go, {})
            run.assert_failed(match="never")
            assert told == ["never"]
            (handler,) = server.runs("fails-go-failure")
            assert handler.status == "completed"

    async def test_data_that_do_not_fit(self) -> None:
        import dataclasses

        @dataclasses.dataclass
        class Order:
            id: int

        app = perdure.App("typed")

        @app.function(perdure.event("typed/ordered", Order), retries=0)
        async def go(order: Order, step: perdure.Step) -> None: ...

        async with Server(app) as server:
            (run,) = await server.send(perdure.Event("typed/ordered", {"id": "x"}))
            run.assert_failed(match="does not fit typed-go")

    async def test_retry_after(self) -> None:
        app = perdure.App("later")

        @app.function("later/go")
        async def go(data: dict[str, Any], step: perdure.Step) -> int:
            if step.attempt == 0:
                raise perdure.RetryAfterError("busy", datetime.timedelta(hours=3))
            return step.attempt

        async with Server(app, now=NOW) as server:
            run = await server.start(go, {})
            (wait,) = run.waits
            assert (wait.kind, wait.until.hour) == ("retry", 3)
            await server.advance("3h")
            assert run.output == 1


class TestCancelling:
    @pytest.mark.parametrize("by", ["an operator", "an event"])
    async def test_it_reaches_a_step_that_runs(self, by: str) -> None:
        app = perdure.App("long")
        stop = perdure.event("long/stop")
        seen: list[str] = []

        async def work() -> None:
            seen.append("begun")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        @app.function("long/go", cancel_on=perdure.Cancel(stop))
        async def go(data: dict[str, Any], step: perdure.Step) -> None:
            await step.run("work", work)

        async with Server(app) as server:
            starting = asyncio.create_task(server.start(go, {}))
            while not seen:
                await asyncio.sleep(0.001)
            (run,) = server.runs(go)
            if by == "an event":
                await server.send(stop({}))
            else:
                await server.cancel(run)
            assert (run.status, seen) == ("cancelled", ["begun", "cancelled"])
            assert await starting == run


class TestSideBySide:
    async def test_branches_go_on_alone(self) -> None:
        app = perdure.App("side")

        @app.function("side/go")
        async def go(data: dict[str, Any], step: perdure.Step) -> list[str]:
            async def branch(name: str, rest: str) -> str:
                await step.run(f"{name}-begin", lambda: None)
                await step.sleep(f"{name}-rest", rest)
                return await step.run(f"{name}-end", lambda: name)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(branch("slow", "2h")), group.create_task(branch("quick", "1h"))]
            return [task.result() for task in tasks]

        async with Server(app, now=NOW) as server:
            run = await server.start(go, {})
            assert {wait.step for wait in run.waits} == {"slow-rest", "quick-rest"}
            await server.advance("1h")
            assert run.step("quick-end").status == "completed"
            await server.advance("1h")
            assert run.output == ["slow", "quick"]

    async def test_an_outside_fake_over_a_socket(self) -> None:
        """Steps may use sockets: the event loop is an ordinary one."""
        app = perdure.App("net")

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        fake = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = fake.sockets[0].getsockname()[1]

        async def ask() -> str:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\n")
            text = (await reader.readline()).decode().strip()
            writer.close()
            return text

        @app.function("net/go")
        async def go(data: dict[str, Any], step: perdure.Step) -> str:
            return await step.run("ask", ask)

        async with Server(app) as server:
            assert (await server.start(go, {})).output == "hello"
        fake.close()


async def test_several_apps() -> None:
    first, second = perdure.App("first"), perdure.App("second")

    @first.function("go")
    async def one(data: dict[str, Any], step: perdure.Step) -> Any:
        return await step.invoke("other", "second-two", {"n": data["n"]})

    @second.function()
    async def two(data: dict[str, Any], step: perdure.Step) -> int:
        return int(data["n"]) + 1

    async with Server(first, second) as server:
        run = await server.start(one, {"n": 1})
        assert run.output == 2
        (child,) = run.children
        assert child.function == "second-two"


async def test_a_state_too_large_for_a_call() -> None:
    app = perdure.App("large", checkpoint=None)

    @app.function("large/go")
    async def go(data: dict[str, Any], step: perdure.Step) -> int:
        texts = [await step.run(f"part-{n}", lambda: "x" * 2_000_000) for n in range(3)]
        return sum(len(text) for text in texts)

    async with Server(app) as server:
        assert (await server.start(go, {})).output == 6_000_000
