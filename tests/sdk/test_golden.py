"""The recorded answers of the official SDKs are played to the server: its calls must be those of the recording."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sdk.bare_app import Answer, BareApp, Call, function_config, register
from tests.sdk.driver import HERE, Server, until
from tests.sdk.golden_comparison import Comparison

RECORDED = {
    f"{file.stem}-{item['sdk']}-{item['scenario']}": item
    for file in sorted((HERE / "golden").glob("*.json"))
    for item in json.loads(file.read_text())
}
PARALLEL = ("17-", "18-", "19-")
LISTENER = "golden-listener"
NOT_RECORDED = "golden-not-recorded"


def test_there_are_recordings() -> None:
    assert len(RECORDED) >= 30


def slugs_of(item: dict[str, Any]) -> dict[str, int]:
    """Functions of a recording, and how many retries each had."""
    return {call["slug"]: call["body"]["ctx"]["max_attempts"] - 1 for call in item["calls"]}


def trigger_of(slug: str) -> dict[str, str]:
    if slug.endswith("-failure"):
        failed = slug.removesuffix("-failure")
        return {"event": "inngest/function.failed", "expression": f"event.data.function_id == '{failed}'"}
    _, sdk, name = slug.split("-", 2)
    return {"event": f"golden-{sdk}/{name}"}


@pytest.fixture(scope="module")
def golden(server: Server) -> Iterator[BareApp]:
    """A bare app with every function of the recordings, and a listener for the ends of their runs."""
    app = BareApp()
    functions = {slug: retries for item in RECORDED.values() for slug, retries in slugs_of(item).items()}
    ends = [
        {"event": f"inngest/function.{word}", "expression": "event.data.function_id.startsWith('golden-')"}
        for word in ("finished", "failed")
    ]
    configs = [
        function_config(app, slug, retries=retries, triggers=[trigger_of(slug)])
        for slug, retries in functions.items()
    ]
    listener = function_config(app, LISTENER, triggers=ends)
    register(server, app, "golden", [*configs, listener])
    app.on(LISTENER, lambda call: Answer(200, None))
    yield app
    app.close()


def script_of(item: dict[str, Any], slug: str) -> Callable[[Call], Answer | None]:
    """Answers of a function as recorded, by target, each after the time it took.

    Steps that ran side by side end in the recorded order, a bit further apart, so that the moment does not decide.
    """
    rest: dict[str, list[dict[str, Any]]] = {}
    targeted = [call for call in item["calls"] if call["target"] != "step"]
    order = sorted(targeted, key=lambda call: call["at_ms"] + call["answer"]["took_ms"])
    for call in item["calls"]:
        if call["slug"] == slug:
            rank = order.index(call) if call in targeted else 0
            delay = (call["answer"]["took_ms"] + 60 * rank) / 1000
            rest.setdefault(call["target"], []).append({**call["answer"], "delay_s": delay})

    def script(call: Call) -> Answer | None:
        answers = rest.get(call.target)
        if not answers:
            return None
        given = answers.pop(0)
        return Answer(given["status"], given["body"], given["headers"], delay_s=given["delay_s"])

    return script


def play(server: Server, app: BareApp, item: dict[str, Any]) -> list[Call]:
    """Send the events at the recorded places in the row of calls; the calls that came of it."""
    slugs = slugs_of(item)
    before = len(app.calls)

    def seen() -> list[Call]:
        return [call for call in app.calls[before:] if call.query.get("fnId") in slugs]

    for slug in slugs:
        app.on(slug, script_of(item, slug))
    for send in item["sends"]:
        until("the calls before the next event", lambda n=send["after_calls"]: len(seen()) >= n)  # type: ignore[misc]
        time.sleep(0.2 if send["after_calls"] else 0)
        server.send(send["event"])
    until(f"{len(item['calls'])} calls", lambda: len(seen()) >= len(item["calls"]), 15)
    time.sleep(0.15)
    return seen()


def paired(item: dict[str, Any], calls: list[Call]) -> list[tuple[dict[str, Any], Call]]:
    """Each recorded call with the one that has its function, target and turn."""
    rest = list(calls)
    pairs = []
    for recorded in item["calls"]:
        own = next((c for c in rest if (c.slug, c.target) == (recorded["slug"], recorded["target"])), None)
        assert own is not None, f"no call of {recorded['slug']} for {recorded['target']}"
        rest.remove(own)
        pairs.append((recorded, own))
    assert rest == []
    return pairs


@pytest.mark.parametrize("name", RECORDED)
def test_calls_and_events_are_those_of_the_recording(server: Server, golden: BareApp, name: str) -> None:
    item = RECORDED[name]
    heard_before = len(golden.of(LISTENER))
    calls = play(server, golden, item)
    comparison = Comparison(sequential=not name.startswith(PARALLEL))
    for number, (recorded, seen) in enumerate(paired(item, calls)):
        path = f"call {number}"
        comparison.same(
            f"{path} header", recorded["headers"], {h: seen.headers.get(h) for h in recorded["headers"]}
        )
        body = seen.body
        if name.startswith("18-") and recorded["target"] == "step":
            # In a race the moment decides whether a discovery still sees siblings at work.
            body["ctx"]["disable_immediate_execution"] = recorded["body"]["ctx"][
                "disable_immediate_execution"
            ]
        comparison.same(path, recorded["body"], body)
    for event in heard(golden, item, heard_before):
        comparison.same(f"event {event[0]['name']}", event[0], event[1])
    assert comparison.differences == []


def heard(app: BareApp, item: dict[str, Any], before: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Recorded ends of runs with those that the listener heard, by name and function."""

    def key(event: dict[str, Any]) -> tuple[str, str]:
        return event["name"], event["data"]["function_id"]

    def find(want: tuple[str, str]) -> dict[str, Any] | None:
        calls = app.of(LISTENER)[before:]
        return next((call.body["events"][0] for call in calls if key(call.body["event"]) == want), None)

    pairs = []
    for recorded in item["events"]:
        name, slug = key(recorded)
        found = until(f"{name} of {slug}", lambda want=(name, slug): find(want), 5)  # type: ignore[misc]
        pairs.append((recorded, {field: value for field, value in found.items() if field != "user"}))
    return pairs


def requests(name: str) -> list[dict[str, Any]]:
    """The calls of a recording without their answers."""
    return [{part: call[part] for part in ("headers", "body")} for call in RECORDED[name]["calls"]]


def renamed(value: Any) -> Any:
    """The same JSON with every run id, job id and time exchanged for others."""
    text = json.dumps(value).replace('"01M86G', '"01M99Z').replace("1795515", "1795999")
    return json.loads(text)


@pytest.mark.parametrize("name", RECORDED)
def test_comparison_takes_other_ids_and_times_for_equal(name: str) -> None:
    comparison = Comparison(sequential=True)
    calls = requests(name)
    comparison.same("calls", calls, renamed(calls))
    assert comparison.differences == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda calls: calls[1]["body"]["ctx"].update(attempt=1), "ctx.attempt"),
        (lambda calls: calls[1]["body"]["ctx"].pop("qi_id"), "ctx.qi_id"),
        (lambda calls: calls[2]["body"].update(more=1), "body.more"),
        (lambda calls: calls[2]["body"]["ctx"]["stack"]["stack"].reverse(), "stack.stack"),
        (lambda calls: calls[3]["body"]["ctx"].update(run_id="01M99Z00000000000000000000"), "ctx.run_id"),
        (
            lambda calls: calls[1]["headers"].update(
                {"x-inngest-job-id": calls[0]["headers"]["x-inngest-job-id"]}
            ),
            "job",
        ),
        (lambda calls: calls[0]["body"].update(version="-1"), "body.version"),
    ],
    ids=["value", "missing", "extra", "order", "other-run", "same-job", "type"],
)
def test_comparison_finds(change: Callable[[Any], Any], where: str) -> None:
    recorded = requests("04-three-steps-js-seq3")
    seen = renamed(recorded)
    change(seen)
    comparison = Comparison(sequential=True)
    comparison.same("calls", recorded, seen)
    assert any(where in difference for difference in comparison.differences), comparison.differences
