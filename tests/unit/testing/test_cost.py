"""What a test of four steps asks of the machine, in counts: times are measured by `python -m bench.testing_cost`."""

from __future__ import annotations

import threading

import perdure
from perdure.testing import SyncServer

app = perdure.App("cost")


async def note(text: str) -> str:
    return text


@app.function("cost/order")
async def fulfil(data: dict[str, str], step: perdure.Step) -> str:
    await step.run("one", note, "a")
    await step.run("two", note, "b")
    await step.sleep("month", "30d")
    await step.run("three", note, "c")
    return await step.run("four", note, data["d"])


def test_calls_and_commits() -> None:
    with SyncServer(app) as server:
        engine = server._engine
        before = engine.shard.counts.commits
        run = server.start(fulfil, {"d": "d"})
        server.advance("30d")
        commits = engine.shard.counts.commits - before
        assert run.output == "d"
    assert engine.calls.total == 2, "one before the sleep and one after it"
    assert commits <= 10, (
        "the event, the steps one by one, the sleep and its end, the two calls and their ends"
    )


def test_nothing_is_left() -> None:
    before = set(threading.enumerate())
    with SyncServer(app) as server:
        folder = server._engine._folder
        assert folder is not None
        assert folder.exists()
        server.start(fulfil, {"d": "d"})
    assert not folder.exists()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=4)
        assert not thread.is_alive(), thread
