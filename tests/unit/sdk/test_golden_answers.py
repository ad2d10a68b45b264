"""Every call that the reference server made to an official SDK, made to ours: it must answer alike.

Same functions, same bodies; op, id, payload name, options, data, error and what the headers say of trying again must
be equal. `DIFFERENT` has the calls whose answers differ by design. What differs everywhere is not compared: parallel
steps of ours carry no mode, a sleep's moment has a form of its own, JavaScript answers 400 where we say 500 with the
same header, puts a copy of a step's error into its data, and has other names for the payload of sent events.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request
from perdure.sdk.http import Answer
from tests.unit.sdk.golden_functions import Recorded, make

GOLDEN = Path(__file__).parents[2] / "sdk" / "golden"
Told = dict[str, Any]

FINAL = "a final error of a step is told as a failed step, as in JavaScript; the official Python SDK fails the function"
LONE = "a step that is the only one left is run at once, if the call allows it; the official Python SDK plans it again"
FIRST = "of three branches that have failed the first one's error is raised; in JavaScript that which was saved first"
IDS = "the saved step holds the ids as JavaScript writes them, which no server hands to an app in Python"

DIFFERENT = {
    "golden-py-nonretstep-0": FINAL,
    "golden-py-par3race-5": LONE,
    "golden-js-parfail-4": FIRST,
    "golden-js-sendev-1": IDS,
}
"""Calls by function and number whose answers differ by design, and why. The tests at the end say what ours are."""


def recorded() -> dict[str, tuple[Recorded, Told]]:
    """All calls by function and number."""
    found: dict[str, tuple[Recorded, Told]] = {}
    for path in sorted(GOLDEN.glob("*.json")):
        for run in json.loads(path.read_text()):
            numbers: dict[str, int] = {}
            for call in run["calls"]:
                number = numbers[call["slug"]] = numbers.get(call["slug"], -1) + 1
                found[f"{call['slug']}-{number}"] = Recorded(run["sdk"], moment_of(run)), call
    return found


def moment_of(run: Told) -> str:
    """What the step `d` gave, if there is one."""
    told = [op for call in run["calls"] for op in ops_of(call["answer"]["body"])]
    return next((op["data"] for op in told if op["displayName"] == "d"), "")


def ops_of(body: Any) -> list[Told]:
    return [op for op in body if isinstance(op, dict) and "op" in op] if isinstance(body, list) else []


CALLS = recorded()


def test_enough_is_recorded() -> None:
    assert len(CALLS) >= 90
    assert set(DIFFERENT) <= set(CALLS)
    for sdk in ("py", "js"):
        assert sum(name.startswith(f"golden-{sdk}-") for name in CALLS) >= 45


async def answer(name: str) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of ours."""
    recorded_by, call = CALLS[name]
    app = make(recorded_by)
    ids = [op["data"] for op in ops_of(call["answer"]["body"]) if op["displayName"] == "send"]

    async def send(path: str, body: bytes, headers: Any) -> Answer:
        given = ids[0]["ids"] if isinstance(ids[0], dict) else ids[0]
        return Answer(200, {}, json.dumps({"ids": given, "status": 200}).encode())

    app.api.send = send  # type: ignore[method-assign]
    url = f"http://app.test/api/inngest?fnId={call['slug']}&stepId={call['target']}"
    response = await Endpoint(app, "test").handle(Request("POST", url, {}, json.dumps(call["body"]).encode()))
    return response.status, json.loads(response.body), dict(response.headers)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in DIFFERENT])
async def test_answer_is_that_of_the_official_sdk(name: str) -> None:
    by, call = CALLS[name]
    status, told, headers = await answer(name)
    expected = call["answer"]
    assert status == (500 if expected["status"] == 400 else expected["status"]), told
    if status == 206:
        assert [essence(op, by) for op in told] == [essence(op, by) for op in expected["body"]]
    elif status == 500:
        assert (told["name"], told["message"]) == (expected["body"]["name"], expected["body"]["message"])
        assert told["stack"]
    else:
        assert told == expected["body"]
    for header in ("x-inngest-req-version", "content-type"):
        if header in expected["headers"]:
            assert headers[header] == expected["headers"][header]
    if not last_attempt(call):
        assert (
            headers.get("x-inngest-no-retry") == "true"
            or expected["headers"].get("x-inngest-no-retry") != "true"
        )


def last_attempt(call: Told) -> bool:
    return bool(call["body"]["ctx"]["attempt"] + 1 >= call["body"]["ctx"]["max_attempts"])


def essence(op: Told, by: Recorded) -> Told:
    """What a server acts on."""
    kept: Told = {key: op.get(key) for key in ("op", "id")}
    kept["shown"] = "b" if op.get("displayName") == "Step B" else op.get("displayName")
    kept["data"] = None if op.get("error") else op.get("data")
    if isinstance(kept["data"], dict) and set(kept["data"]) == {"ids"}:
        kept["data"] = kept["data"]["ids"]
    if op["op"] != "Sleep" and not (by.js and op["op"] == "InvokeFunction") and op.get("name") != "sendEvent":
        kept["name"] = op["name"]
    if kept["shown"] == "send":
        kept.pop("name", None)
    opts = without_none(op.get("opts") or {})
    kept["opts"] = {key: value for key, value in opts.items() if key not in {"parallelMode", "type"}}
    if op.get("error"):
        kept["error"] = (op["error"]["name"], op["error"]["message"])
    kept["index"] = op["userland"].get("index") or 0
    return kept


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(part) for key, part in value.items() if part is not None}
    return value


async def test_a_final_error_of_a_step_is_that_of_javascript() -> None:
    status, told, headers = await answer("golden-py-nonretstep-0")
    by, call = CALLS["golden-js-nonretstep-0"]
    assert (status, headers["x-inngest-no-retry"]) == (206, "true")
    assert [essence(op, by) for op in told] == [essence(op, by) for op in call["answer"]["body"]]


async def test_a_step_that_is_left_alone_is_run() -> None:
    status, told, _ = await answer("golden-py-par3race-5")
    assert (status, [(op["op"], op["displayName"], op["data"]) for op in told]) == (
        206,
        [("StepRun", "p3", "p3")],
    )


async def test_the_error_of_the_first_branch_is_raised() -> None:
    status, told, headers = await answer("golden-js-parfail-4")
    assert (status, headers["x-inngest-no-retry"]) == (500, "true")
    assert (told["name"], told["message"]) == ("Error", "pf1")
