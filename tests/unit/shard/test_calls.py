"""The call to an app: its body is that of recorded conversations, byte-joined and still JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.model import Group, Item, ItemKind, Run, RunStatus, Step
from perdure.core.settings import Settings
from perdure.protocol.calls import Call
from perdure.protocol.signing import canonicalize, sign, verify
from perdure.shard.calls import CallBuilder, job_id, queue_item_id, read_queue_item_id, uses_api
from tests.unit.shard.shards import a_function

NOW_S = 1_795_515_065
RUN = "01M86GK8V66NXW7WZ3PXJYCW9R"
REQUEST = "01M86GK8WWAWKN68MA9D32D5N2"
EVENT: dict[str, Any] = {
    "data": {},
    "id": "01M86GK8TA7MYN108A3EK163BG",
    "name": "js/seq3",
    "ts": 1_795_515_065_162,
    "user": {},
}
KEY = "signkey-test-12345678"
FUNCTION = a_function("seq3", "js/seq3")


def a_run(steps: dict[str, Any] | None = None, version: int = -1, event: dict[str, Any] | None = None) -> Run:
    body = json.dumps(event or EVENT, separators=(",", ":")).encode()
    run = Run(RUN, FUNCTION.id, RunStatus.RUNNING, [1], ["e"], [body], "js/seq3", 0, version=version)
    for position, (name, memo) in enumerate((steps or {}).items()):
        raw = memo if isinstance(memo, bytes) else json.dumps(memo).encode()
        run.steps[name] = Step(name, position, name, "StepRun", raw, len(raw), 0)
        run.state_bytes += len(raw)
    return run


def discovery(n: int = 2, data: bytes = b"0", **fields: Any) -> Item:
    return Item(n, ItemKind.DISCOVERY, "", "", 0, 0, generation=1, in_flight=True, data=data, **fields)


def targeted(step: str, n: int = 3, **fields: Any) -> Item:
    return Item(n, ItemKind.STEP, step, step, 0, 0, generation=1, in_flight=True, data=b"0", **fields)


def built(run: Run, item: Item, key: str | None = None, settings: Settings | None = None) -> Call:
    builder = CallBuilder("dev", key, settings or Settings())
    run.items.setdefault(item.n, item)
    return builder.build(run, item, FUNCTION, 5, REQUEST, ("ab" * 16, "cd" * 8), NOW_S)


def body_of(run: Run, item: Item, **options: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(built(run, item, **options).body)
    return value


def golden(
    steps: dict[str, Any],
    current: int,
    version: int,
    n: int,
    attempt: int = 0,
    generation: int = 1,
    at_once: bool = False,
) -> dict[str, Any]:
    """A body as the reference server sent it in a recorded conversation, with our ids."""
    return {
        "ctx": {
            "attempt": attempt,
            "disable_immediate_execution": at_once,
            "env": "",
            "fn_id": FUNCTION.id,
            "generation_id": generation,
            "job_id": job_id(RUN, n),
            "max_attempts": 5,
            "qi_id": queue_item_id(RUN, n),
            "request_id": REQUEST,
            "run_id": RUN,
            "stack": {"current": current, "stack": list(steps)},
            "step_id": "step",
            "use_api": False,
        },
        "defers": {},
        "event": EVENT,
        "events": [EVENT],
        "steps": steps,
        "use_api": False,
        "version": version,
    }


A, B = "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", "e9d71f5ee7c92d6dc9e92ffdad17b8bd49418f98"


class TestBody:
    def test_the_first_call(self) -> None:
        assert body_of(a_run(), discovery()) == golden({}, 0, -1, 2)

    def test_after_two_steps(self) -> None:
        steps = {A: {"data": {"v": 1}}, B: {"data": 2}}
        assert body_of(a_run(steps, 2), discovery(5, b"2")) == golden(steps, 2, 2, 5)

    def test_a_retry(self) -> None:
        item = discovery(attempt=1)
        item.generation = 2
        assert body_of(a_run(), item) == golden({}, 0, -1, 2, attempt=1, generation=2)

    def test_one_of_a_set(self) -> None:
        run = a_run({}, 2)
        run.items = {n: targeted(name, n, group=Group.WAIT) for n, name in ((3, A), (4, B))}
        assert body_of(run, run.items[3]) == golden({}, 0, 2, 3, at_once=True)

    def test_the_discovery_after_a_set(self) -> None:
        steps = {A: {"data": "p1"}, B: {"data": "p2"}}
        assert body_of(a_run(steps, 2), discovery(6, b"2")) == golden(steps, 2, 2, 6, at_once=False)

    @pytest.mark.parametrize(("version", "at_once"), [(0, True), (1, True), (2, False), (-1, False)])
    def test_old_versions_stay_parallel_for_the_rest_of_the_run(self, version: int, at_once: bool) -> None:
        run = a_run({}, version)
        run.parallel = True
        assert body_of(run, discovery())["ctx"]["disable_immediate_execution"] is at_once

    def test_a_batch_of_events(self) -> None:
        run = a_run()
        run.events.append(b'{"data":{"n":2},"id":"e2","name":"js/seq3","ts":1,"user":{}}')
        body = body_of(run, discovery())
        assert body["event"] == EVENT
        assert [event["id"] for event in body["events"]] == [EVENT["id"], "e2"]

    def test_payloads_travel_as_they_came(self) -> None:
        memo = b'{"data":{"big":1152921504606846977,"one":1.0,"exp":1e21,"sep":"\xe2\x80\xa8","b":1,"a":2}}'
        assert memo in built(a_run({A: memo}), discovery()).body

    @given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=5))
    def test_step_ids_may_be_any_text(self, ids: list[str]) -> None:
        steps = {id: {"data": n} for n, id in enumerate(ids)}
        body = body_of(a_run(steps), discovery())
        assert body["steps"] == steps
        assert body["ctx"]["stack"]["stack"] == ids

    def test_the_reference_orders_keys_and_so_do_we(self) -> None:
        body = json.loads(built(a_run(), discovery()).body)
        for part in (body, body["ctx"], body["ctx"]["stack"]):
            assert list(part) == sorted(part)


class TestUseApi:
    EVENTS = 2 * len(json.dumps(EVENT, separators=(",", ":")))

    def test_the_threshold(self) -> None:
        run = a_run({A: {"data": "x" * 100}})
        size = run.state_bytes + self.EVENTS
        assert not uses_api(run, Settings(inline_state_bytes=size))
        assert uses_api(run, Settings(inline_state_bytes=size - 1))
        assert Settings().inline_state_bytes == 4 * 1024 * 1024 - 1024

    def test_steps_are_left_out_and_the_rest_stays(self) -> None:
        run = a_run({A: {"data": "x" * 1_000}})
        body = body_of(run, discovery(data=b"1"), settings=Settings(inline_state_bytes=900))
        assert (body["use_api"], body["ctx"]["use_api"], body["steps"]) == (True, True, {})
        assert body["ctx"]["stack"] == {"current": 1, "stack": [A]}
        assert (body["event"], body["events"]) == (EVENT, [EVENT])

    def test_events_that_are_too_large_alone_are_left_out(self) -> None:
        run = a_run(event={**EVENT, "data": {"x": "x" * 1_000}})
        body = body_of(run, discovery(), settings=Settings(inline_state_bytes=900))
        assert (body["use_api"], body["events"], body["event"]["id"]) == (True, [], EVENT["id"])

    def test_results_that_are_not_in_memory_are_not_needed(self) -> None:
        run = a_run({A: {"data": "x" * 1_000}})
        run.steps[A].memo = None
        assert body_of(run, discovery(), settings=Settings(inline_state_bytes=900))["steps"] == {}

    def test_a_result_that_is_missing_is_never_passed_over(self) -> None:
        """The app would run the step a second time."""
        run = a_run({A: {"data": 1}})
        run.steps[A].memo = None
        with pytest.raises(AssertionError):
            built(run, discovery())


class TestHeadersAndUrl:
    def test_a_discovery(self) -> None:
        call = built(a_run({}, 2), discovery())
        assert call.url == "http://app.test/api?fnId=app-seq3&stepId=step"
        assert call.method == "POST"
        assert dict(call.headers) == {
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "Inngest",
            "X-Inngest-Server-Kind": "dev",
            "account-id": dict(call.headers)["account-id"],
            "X-Run-ID": RUN,
            "x-request-id": REQUEST,
            "x-inngest-generation-id": "1",
            "x-inngest-job-id": f"{RUN}.2",
            "x-inngest-req-version": "2",
            "X-Inngest-Step-ID": "step",
            "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
            "X-Perdure-Capabilities": "checkpoints, logs",
        }

    def test_a_planned_step(self) -> None:
        call = built(a_run({}, 2), targeted(A))
        assert call.url.endswith(f"&stepId={A}")
        assert dict(call.headers)["X-Inngest-Step-ID"] == A
        assert json.loads(call.body)["ctx"]["step_id"] == "step"

    def test_an_odd_id_in_the_url(self) -> None:
        assert built(a_run(), targeted("a&b=c d/é")).url.endswith("&stepId=a%26b%3Dc%20d%2F%C3%A9")


class TestSignature:
    def test_only_with_a_key(self) -> None:
        assert "X-Inngest-Signature" not in dict(built(a_run(), discovery()).headers)

    def test_it_is_made_over_the_canonical_form(self) -> None:
        memo = b'{"data":{"big":1152921504606846976,"one":1.0,"b": [1, 2],"a":"\\u2028"}}'
        call = built(a_run({B: memo, A: {"data": 1}}), discovery(), key=KEY)
        header = dict(call.headers)["X-Inngest-Signature"]
        assert canonicalize(call.body) != call.body
        assert header == sign(canonicalize(call.body), KEY, NOW_S)
        assert verify(call.body, header, [KEY], NOW_S)
        assert not verify(call.body.replace(b'"attempt":0', b'"attempt":1'), header, [KEY], NOW_S)


class TestItemIds:
    def test_they_come_back(self) -> None:
        text = queue_item_id(RUN, 12)
        assert base64.b64decode(text).decode() == f"{RUN}.12::default"
        assert read_queue_item_id(text) == (RUN, 12)
        assert read_queue_item_id(f"{RUN}.12") == (RUN, 12)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "nonsense",
            RUN,
            f"{RUN}.",
            f"{RUN}.x",
            f"{RUN}.-1",
            f"{RUN}.²",
            f"{RUN}.٣",
            f"{RUN}.12345678901",
            "é",
            base64.b64encode(b"\xff\xff").decode(),
            base64.b64encode(b"x").decode(),
        ],
    )
    def test_anything_else_is_none(self, text: str) -> None:
        assert read_queue_item_id(text) is None

    @given(st.text())
    def test_no_text_raises(self, text: str) -> None:
        found = read_queue_item_id(text)
        assert found is None or isinstance(found[1], int)
