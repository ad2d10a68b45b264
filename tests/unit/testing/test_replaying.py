"""Runs recorded from one version of an app, replayed against others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.middleware import Encryption
from perdure.testing import Differs, SyncServer, UnknownStep, replay_export

Handler = Callable[[dict[str, Any], perdure.Step], Any]
ran: list[str] = []
"""Steps whose code has run."""


def do(name: str) -> Callable[[], str]:
    def work() -> str:
        ran.append(name)
        return name.upper()

    return work


def app_of(handler: Handler) -> perdure.App:
    app = perdure.App("shop")
    app.function("shop/go", id="go", retries=0)(handler)
    return app


async def original(data: dict[str, Any], step: perdure.Step) -> list[str]:
    first = await step.run("first", do("first"))
    await step.sleep("rest", "1d")
    try:
        await step.run("second", fails)
    except perdure.StepError as error:
        return [first, error.message]
    return [first]


def fails() -> None:
    raise ValueError("no luck")


async def in_parallel(data: dict[str, Any], step: perdure.Step) -> list[str]:
    async def branch(name: str, rest: int) -> str:
        await step.sleep(f"{name}-rest", rest)
        return await step.run(name, do(name))

    return list(await asyncio.gather(branch("left", 60), branch("right", 10)))


def recorded(handler: Handler, advance: str = "10d") -> dict[str, Any]:
    """What is exported of a run."""
    with SyncServer(app_of(handler)) as server:
        (run,) = server.send(perdure.Event("shop/go", {"n": 1}))
        server.advance(advance)
        return run.export()


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    ran.clear()


@pytest.mark.parametrize("handler", [original, in_parallel])
def test_the_same_code(handler: Handler) -> None:
    export = recorded(handler)
    ran.clear()
    replay = replay_export(export, app_of(handler))
    assert replay.same
    replay.assert_same()
    assert replay.steps == [step["name"] for step in export["steps"]]
    assert ran == [], "no step's code runs"
    assert str(replay).splitlines()[0] == "✓ shop-go, replayed"


async def test_where_a_loop_runs() -> None:
    export = await asyncio.to_thread(recorded, original)
    assert replay_export(export, app_of(original)).same


async def renamed(data: dict[str, Any], step: perdure.Step) -> None:
    await step.run("first", do("first"))
    await step.sleep("pause", "1d")


async def swapped(data: dict[str, Any], step: perdure.Step) -> list[str]:
    await step.sleep("rest", "1d")
    return await original_without_rest(data, step)


async def original_without_rest(data: dict[str, Any], step: perdure.Step) -> list[str]:
    first = await step.run("first", do("first"))
    try:
        await step.run("second", fails)
    except perdure.StepError as error:
        return [first, error.message]
    return []


async def ends_early(data: dict[str, Any], step: perdure.Step) -> str:
    return await step.run("first", do("first"))


async def raises_early(data: dict[str, Any], step: perdure.Step) -> None:
    await step.run("first", do("first"))
    raise KeyError("oops")


async def one_more(data: dict[str, Any], step: perdure.Step) -> list[str]:
    found = await original(data, step)
    return [*found, await step.run("third", do("third"))]


async def other_output(data: dict[str, Any], step: perdure.Step) -> list[str]:
    return [*await original(data, step), "more"]


async def lets_it_raise(data: dict[str, Any], step: perdure.Step) -> None:
    await step.run("first", do("first"))
    await step.sleep("rest", "1d")
    await step.run("second", fails)


@pytest.mark.parametrize(
    ("changed", "kind", "after", "told"),
    [
        (
            renamed, "renamed", 1,
            'After 1 recorded steps (the last is "first") the recording goes on with "rest", but the code comes to '
            '"pause". For a run under way that is a new step: if it is the old one, keep its id.',
        ),
        (
            swapped, "order", 0,
            'At its beginning the recording goes on with "first", but the code comes to "rest". A run under way goes '
            "on in the new order; what has been done stays done.",
        ),
        (
            original_without_rest, "missing", 1,
            'After 1 recorded steps (the last is "first") the recording goes on with "rest", but the code comes to '
            '"second". A run under way goes on without it.',
        ),
        (
            ends_early, "missing", 1,
            'After 1 recorded steps (the last is "first") the recording goes on with "rest", but the code returns '
            '"FIRST". A run under way ends here now, without what came next.',
        ),
        (
            raises_early, "missing", 1,
            'After 1 recorded steps (the last is "first") the recording goes on with "rest", but the code fails with '
            "KeyError: 'oops'. A run under way ends here now, without what came next.",
        ),
        (
            one_more, "new", 3,
            'After 3 recorded steps the code comes to "third", which the recording has not. It was not run; '
            "results={...} gives it a result, and the replay goes on.",
        ),
        (
            other_output, "output", 3,
            'After 3 recorded steps (the last is "second") the run returned ["FIRST","no luck"], but the code returns '
            '["FIRST","no luck","more"].',
        ),
        (
            lets_it_raise, "end", 3,
            'After 3 recorded steps (the last is "second") the run returned ["FIRST","no luck"], but the code fails '
            "with ValueError: no luck.",
        ),
    ],
)  # fmt: skip
def test_the_first_difference(changed: Handler, kind: str, after: int, told: str) -> None:
    export = recorded(original)
    ran.clear()
    replay = replay_export(export, app_of(changed))
    assert replay.difference is not None
    assert (replay.difference.kind, replay.difference.after) == (kind, after)
    assert str(replay.difference) == told
    assert (ran, len(replay.steps)) == ([], after)
    with pytest.raises(Differs) as raised:
        replay.assert_same()
    assert told in str(raised.value)


def test_a_new_step_with_a_result() -> None:
    export = recorded(original)
    replay = replay_export(export, app_of(one_more), results={"third": "3"})
    assert replay.difference is not None
    assert (replay.difference.kind, replay.difference.found) == ("output", 'returns ["FIRST","no luck","3"]')
    assert ran.count("third") == 0


def test_a_new_step_that_is_run() -> None:
    export = recorded(original)
    ran.clear()
    replay = replay_export(export, app_of(one_more), run_new_steps=True)
    assert replay.difference is not None
    assert replay.difference.found == 'returns ["FIRST","no luck","THIRD"]'
    assert ran == ["third"], "once, and none of those that are recorded"

    async def one_more_that_fails(data: dict[str, Any], step: perdure.Step) -> list[str]:
        found = await original(data, step)
        await step.run("third", fails)
        return found

    difference = replay_export(export, app_of(one_more_that_fails), run_new_steps=True).difference
    assert difference is not None
    assert difference.found == "fails with ValueError: no luck"
    sleeps = replay_export(recorded(ends_early), app_of(renamed), run_new_steps=True).difference
    assert sleeps is not None
    assert (sleeps.kind, sleeps.found) == ("new", 'comes to "pause"'), "what the server does is not done"


def test_a_failed_run() -> None:
    export = recorded(lets_it_raise)
    assert export["run"]["status"] == "FAILED"
    assert replay_export(export, app_of(lets_it_raise)).same
    difference = replay_export(export, app_of(original)).difference
    assert difference is not None
    assert (difference.kind, difference.recorded) == ("end", "fails with ValueError: no luck")


class TestUnderWay:
    """Would a run that waits now survive the change?"""

    def test_it_comes_to_what_it_waits_for(self) -> None:
        export = recorded(original, "1h")
        assert export["run"]["status"] == "RUNNING"
        assert replay_export(export, app_of(original)).same
        assert replay_export(export, app_of(other_output)).same, "what comes later is as good"

    def test_it_does_not(self) -> None:
        difference = replay_export(recorded(original, "1h"), app_of(renamed)).difference
        assert difference is not None
        assert str(difference) == (
            'After 1 recorded steps (the last is "first") the run waits in "rest", but the code comes to "pause".'
        )

    def test_it_ends(self) -> None:
        difference = replay_export(recorded(original, "1h"), app_of(ends_early)).difference
        assert difference is not None
        assert (difference.kind, difference.recorded, difference.found) == (
            "end",
            'waits in "rest"',
            'returns "FIRST"',
        )

    def test_branches_of_which_one_is_done(self) -> None:
        export = recorded(in_parallel, "30s")
        assert [step["name"] for step in export["steps"]] == ["right-rest", "right"]
        assert replay_export(export, app_of(in_parallel)).same


class TestSources:
    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "run.json"
        path.write_text(json.dumps(recorded(original)))
        assert replay_export(path, app_of(original)).same
        assert replay_export(str(path), app_of(original)).same
        assert replay_export(path.read_bytes(), app_of(original)).same

    @pytest.mark.parametrize(
        ("source", "told"),
        [
            (b"nonsense", "The document is no export of a run"),
            ({"format": "other"}, "The document is no export of a run; `perdure export RUN_ID"),
            (
                {"format": "perdure.run", "version": 2},
                "an export of version 2, and this Perdure knows those up to 1",
            ),
            ({"format": "perdure.run", "version": 1}, "missing required field"),
            ("/nowhere/run.json", "/nowhere/run.json cannot be read: No such file"),
        ],
    )
    def test_what_is_none(self, source: Any, told: str) -> None:
        with pytest.raises(perdure.UsageError, match=told):
            replay_export(source, app_of(original))

    def test_a_function_with_another_id(self) -> None:
        app = perdure.App("shop")
        moved = app.function("shop/go", id="gone")(original)
        with pytest.raises(UnknownStep, match=r'"shop-go", which shop has not. Did you mean "shop-gone"\?'):
            replay_export(recorded(original), app)
        assert replay_export(recorded(original), app, function=moved).same


def test_nothing_is_sent() -> None:
    async def sends(data: dict[str, Any], step: perdure.Step) -> list[str]:
        return await app.send(perdure.Event("shop/other", {}))

    app = app_of(sends)
    with SyncServer(app) as server:
        (run,) = server.send(perdure.Event("shop/go", {}))
        export = run.export()
    difference = replay_export(export, app).difference
    assert difference is not None
    assert difference.found == 'returns ["replayed"]'


class TestAllKinds:
    """Runs of functions that are called in other ways."""

    @staticmethod
    def check(app: perdure.App, begin: Callable[[SyncServer], Any], advance: str = "1h") -> dict[str, Any]:
        with SyncServer(app, now="2030-01-07T00:00:00Z") as server:
            begin(server)
            server.advance(advance)
            (run,) = server.runs()
            run.assert_completed()
            export = run.export()
        replay_export(export, app).assert_same()
        return export

    def test_sync_with_branches(self) -> None:
        app = perdure.App("kinds")

        @app.function("go")
        def go(data: dict[str, Any], step: perdure.SyncStep) -> list[int]:
            step.sleep("rest", 60)
            return step.parallel(lambda: step.run("left", lambda: 1), lambda: step.run("right", lambda: 2))

        export = self.check(app, lambda server: server.send(perdure.Event("go", {})))
        assert len(export["steps"]) == 3

    def test_a_batch(self) -> None:
        app = perdure.App("kinds")

        @app.function(perdure.event("go"), batch=perdure.Batch(size=2, timeout="1m"))
        async def go(data: list[dict[str, Any]], step: perdure.Step) -> int:
            return await step.run("sum", lambda: sum(one["n"] for one in data))

        events = [perdure.Event("go", {"n": number}) for number in (1, 2)]
        export = self.check(app, lambda server: server.send(*events))
        assert [event["data"] for event in export["events"]] == [{"n": 1}, {"n": 2}]

    def test_a_schedule(self) -> None:
        app = perdure.App("kinds")

        @app.function(perdure.cron("30 0 * * *"))
        async def go(step: perdure.Step) -> str:
            return await step.run("only", lambda: "x")

        assert self.check(app, lambda _: None)["run"]["cron"] == "30 0 * * *"

    def test_encrypted(self) -> None:
        app = perdure.App("kinds", middleware=[Encryption("a long random text that nobody knows")])

        @app.function("go")
        async def go(data: dict[str, Any], step: perdure.Step) -> str:
            return await step.run("only", lambda: f"secret {data['encrypted']}")

        export = self.check(app, lambda server: server.send(perdure.Event("go", {"encrypted": 1})))
        assert "secret 1" not in json.dumps(export)

    def test_a_state_that_calls_would_not_carry(self) -> None:
        app = perdure.App("kinds", checkpoint=None)

        @app.function("go")
        async def go(data: dict[str, Any], step: perdure.Step) -> int:
            return sum([len(await step.run(f"part-{n}", lambda: "x" * 2_000_000)) for n in range(3)])

        self.check(app, lambda server: server.send(perdure.Event("go", {})))

    def test_many_branches_that_end_in_another_order(self) -> None:
        app = perdure.App("kinds")

        @app.function("go")
        async def go(data: dict[str, Any], step: perdure.Step) -> list[int]:
            async def branch(number: int) -> int:
                await step.sleep(f"rest-{number}", 60 - number)
                return await step.run(f"step-{number}", lambda: number)

            return list(await asyncio.gather(*(branch(number) for number in range(20))))

        export = self.check(app, lambda server: server.send(perdure.Event("go", {})))
        assert export["steps"][0]["name"] == "rest-19"
