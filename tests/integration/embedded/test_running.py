"""Starting, stopping and refusing: an engine in the test's own process."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import perdure
import perdure.embedded
from perdure.embedded import embedding
from perdure.errors import ConfigError
from perdure.sdk.errors import SendError
from perdure.stores.sqlite.lock import DatabaseLock

PATIENCE_S = 10.0


class Shop:
    """An app with one function of two steps, whose second one is the test's. `ended` gets the output of each run."""

    def __init__(self, second: Callable[[], Awaitable[Any]] | None = None, name: str = "shop") -> None:
        self.app = perdure.App(name)
        self.ran: list[str] = []
        self.attempts: list[int] = []
        self.ended: asyncio.Queue[Any] = asyncio.Queue()

        async def first() -> int:
            self.ran.append("first")
            return 1

        async def noted() -> Any:
            self.ran.append("second")
            return await second() if second is not None else 2

        @self.app.function("shop/go", id="go", retries=1)
        async def go(event: dict[str, Any], step: perdure.Step) -> list[Any]:
            self.attempts.append(step.attempt)
            output = [await step.run("first", first), await step.run("second", noted), event]
            self.ended.put_nowait(output)
            return output

    async def send(self, **data: Any) -> str:
        (event_id,) = await self.app.send(perdure.Event("shop/go", data))
        return event_id

    async def output(self) -> Any:
        return await asyncio.wait_for(self.ended.get(), PATIENCE_S)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


@pytest.mark.parametrize("own_thread", [True, False])
async def test_await_starts_it_and_stop_ends_it(url: str, own_thread: bool) -> None:
    shop = Shop()
    engine = await shop.app.run_embedded(url, own_thread=own_thread)
    roles: list[str] = [engine.role]
    await shop.send(n=7)
    assert await shop.output() == [1, 2, {"n": 7}]
    await engine.stop()
    assert [*roles, engine.role] == ["leader", "stopped"]
    with pytest.raises(SendError, match="has been stopped"):
        await shop.send()
    async with shop.app.run_embedded(url, own_thread=own_thread) as again:
        assert again.role == "leader"


async def test_a_step_under_way_at_the_end_is_waited_for(url: str) -> None:
    started = asyncio.Event()

    async def slow() -> int:
        started.set()
        await asyncio.sleep(0.3)
        return 2

    shop = Shop(slow)
    async with shop.app.run_embedded(url):
        await shop.send()
        await asyncio.wait_for(started.wait(), PATIENCE_S)
    assert (await shop.output())[:2] == [1, 2]
    assert shop.ran == ["first", "second"]


async def test_what_takes_longer_than_the_grace_goes_on_at_the_next_start(url: str) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def hangs_once() -> int:
        if not started.is_set():
            started.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
        return 2

    shop = Shop(hangs_once)
    begun = time.monotonic()
    async with shop.app.run_embedded(url, grace=0.2):
        await shop.send()
        await asyncio.wait_for(started.wait(), PATIENCE_S)
    assert time.monotonic() - begun < 5
    assert cancelled.is_set(), "running code is told"
    async with shop.app.run_embedded(url):
        assert (await shop.output())[:2] == [1, 2]
    assert shop.ran == ["first", "second", "second"]
    assert set(shop.attempts) == {0}, "it was no failure of the function"


async def test_a_handler_that_blocks_the_loop_holds_up_neither_sending_nor_timers(url: str) -> None:
    shop = Shop()
    took: list[float] = []

    def send() -> None:
        begun = time.monotonic()
        shop.app.send_sync(perdure.Event("shop/go", {}))
        took.append(time.monotonic() - begun)

    async with shop.app.run_embedded(url):
        sender = threading.Thread(target=send)
        sender.start()
        time.sleep(1.0)
        sender.join(timeout=0)
        assert took, "the event was on disk while the app's loop stood still"
        assert took[0] < 0.9
        assert await shop.output() == [1, 2, {}]


async def test_two_apps_of_a_process_share_an_engine(url: str) -> None:
    one, other = Shop(name="one"), Shop(name="other")
    first = await one.app.run_embedded(url)
    second = await other.app.run_embedded(url)
    assert (first.role, second.role) == ("leader", "leader")
    await one.send(n=1)
    assert await one.output() == await other.output() == [1, 2, {"n": 1}]
    await first.stop()
    await other.send(n=2)
    assert await other.output() == [1, 2, {"n": 2}]
    await second.stop()


async def test_an_app_runs_once(url: str) -> None:
    shop = Shop()
    async with shop.app.run_embedded(url):
        with pytest.raises(ConfigError, match="runs embedded already"):
            await shop.app.run_embedded(url)
        await shop.send()
        assert await shop.output()


@pytest.mark.parametrize(
    "wrong", ["jobs.db", "sqlite://jobs.db", "sqlite:///", "sqlite:///:memory:", "postgres://x/y"]
)
async def test_an_address_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ConfigError, match="no place for an embedded engine"):
        await Shop().app.run_embedded(wrong)


async def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=str(tmp_path / "file")):
        await Shop().app.run_embedded(f"sqlite:///{tmp_path}/file/jobs.db")


async def test_functions_that_are_declared_wrongly_are_named_and_nothing_stays_behind(url: str) -> None:
    app = perdure.App("wrong")

    @app.function("go", id="twisted", concurrency=perdure.Concurrency(limit=1, key="event.data."))
    async def twisted(event: dict[str, Any], step: perdure.Step) -> None: ...

    with pytest.raises(ConfigError, match="wrong-twisted"):
        await app.run_embedded(url)
    async with Shop().app.run_embedded(url) as engine:
        assert engine.role == "leader"


async def test_a_file_that_something_else_holds_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "PATIENCE_S", 0.3)
    lock = DatabaseLock.take(tmp_path / "jobs.db")
    try:
        with pytest.raises(ConfigError, match="is in use by another Perdure server"):
            await Shop().app.run_embedded(url)
    finally:
        lock.release()


async def test_sending_before_the_start_says_what_is_missing(url: str) -> None:
    app = perdure.App("early", url=url)
    with pytest.raises(SendError, match="run_embedded"):
        await app.send(perdure.Event("x", {}))


async def test_without_an_address_the_settings_decide(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERDURE_URL", url)
    async with Shop().app.run_embedded() as engine:
        assert engine.role == "leader"
    monkeypatch.setenv("PERDURE_URL", "http://localhost:1")
    async with Shop().app.run_embedded() as engine:
        assert engine.role == "elsewhere"


async def test_an_output_that_is_too_large_fails_the_run_and_says_so(url: str) -> None:
    app = perdure.App("large")
    failed: asyncio.Queue[str] = asyncio.Queue()

    async def on_failure(failure: perdure.FailureData, step: perdure.Step) -> None:
        failed.put_nowait(failure.error["message"])

    @app.function("go", id="huge", retries=0, on_failure=on_failure)
    async def huge(event: dict[str, Any], step: perdure.Step) -> str:
        return "x" * (9 * 1024 * 1024)

    async with app.run_embedded(url):
        await app.send(perdure.Event("go", {}))
        assert "exceeds the maximum size" in await asyncio.wait_for(failed.get(), PATIENCE_S)


async def test_a_state_larger_than_a_call_over_http_goes_on(url: str) -> None:
    app = perdure.App("state")
    ended: asyncio.Queue[int] = asyncio.Queue()

    async def mebibyte(digit: int) -> str:
        return str(digit) * 1024 * 1024

    @app.function("go", id="much", retries=0)
    async def much(event: dict[str, Any], step: perdure.Step) -> None:
        parts = [await step.run(f"part-{n}", mebibyte, n) for n in range(6)]
        await step.sleep("pause", "10ms")
        ended.put_nowait(sum(len(part) for part in parts))

    async with app.run_embedded(url):
        await app.send(perdure.Event("go", {}))
        assert await asyncio.wait_for(ended.get(), PATIENCE_S) == 6 * 1024 * 1024


def test_windows_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match="Windows"):
        importlib.reload(perdure.embedded)
    monkeypatch.undo()
    importlib.reload(perdure.embedded)


@pytest.mark.parametrize("own_thread", [True, False])
async def test_a_cancelled_run_stops_the_step_that_runs(url: str, own_thread: bool) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def slow() -> int:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return 2

    shop = Shop(slow)
    async with shop.app.run_embedded(url, own_thread=own_thread, grace=0.1):
        event_id = await shop.send()
        await asyncio.wait_for(started.wait(), PATIENCE_S)
        answer = await shop.app.api.call("GET", f"/v1/events/{event_id}/runs")
        (run,) = msgspec.json.decode(answer.body)["data"]
        assert (await shop.app.api.call("DELETE", f"/v1/runs/{run['run_id']}")).status == 200
        await asyncio.wait_for(cancelled.wait(), PATIENCE_S)
        started.clear()
        await shop.send()
        await asyncio.wait_for(started.wait(), PATIENCE_S)
    assert shop.ran == ["first", "second"] * 2, "and the engine goes on"
