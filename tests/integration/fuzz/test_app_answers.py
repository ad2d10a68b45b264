"""A broken or hostile app: whatever it answers to a call, its run ends or is tried again, and nothing else suffers."""

from __future__ import annotations

import threading
import uuid
from datetime import UTC, datetime
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.integration.fuzz.conftest import Watched, seconds, until_time_is_up
from tests.integration.fuzz.mutations import JUNK, WEIRD_TEXT, encoded, mutated, noisy
from tests.integration.fuzz.test_requests import HEADER_VALUES, ROUND
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, op, planned, ran, sha1
from tests.sdk.driver import until

PATIENCE_S = 20
LIVE = ("Running", "Scheduled")
FEW = settings(ROUND, max_examples=4, phases=[Phase.generate])
"""Each example is some twenty runs, which take seconds: what fails is shown as it was found."""
ERROR = {"name": "Error", "message": "m", "stack": "s", "cause": {"name": "E", "message": "c"}}
VALID: list[Any] = [
    "output",
    {"name": "Error", "message": "m"},
    [ran("a", {"x": 1})],
    [ran("a"), ran("b"), planned("c")],
    [planned("a"), planned("b")],
    [op("StepError", "a", error=ERROR), op("StepFailed", "b", error=ERROR)],
    [op("Sleep", "nap", name="1s"), op("Sleep", "nap2", name="2020-01-01T00:00:00Z")],
    [op("WaitForEvent", "w", opts={"event": "fuzz/never", "timeout": "1s", "if": "event.data.a == 1"})],
    [op("WaitForSignal", "s", opts={"signal": "fuzz", "timeout": "1s", "conflict": "replace"})],
    [op("InvokeFunction", "i", opts={"function_id": "ghost", "payload": {"data": {}}, "timeout": "1s"})],
    [op("Gateway", "g", opts={"url": "http://localhost:1/x", "method": "GET", "headers": {}, "body": ""})],
    [op("AIGateway", "ai", opts={"url": "http://localhost:1/x", "format": "openai-chat", "body": {}})],
    [op("RunComplete", "complete", data={"data": 1})],
    [op("None"), op("DiscoveryRequest"), op("SyncRunComplete"), op("DeferAdd"), op("Nonsense")],
    {"status": 206, "headers": {"x-inngest-sdk": "js:v4"}, "body": '[{"op":"StepRun","id":"a"}]'},
]  # fmt: skip
ANSWER_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "content-type", "content-encoding", "retry-after", "x-inngest-no-retry", "x-inngest-req-version",
            "x-inngest-sdk", "location", "server-timing", "x-inngest-signature", "set-cookie", "connection",
        ]
    ),
    st.one_of(
        HEADER_VALUES,
        st.sampled_from(["true", "false", "1", "-1", "9999999999", "Wed, 21 Oct 2015 07:28:00 GMT", "gzip", "close"]),
    ),
    max_size=3,
)  # fmt: skip


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """Any answer to a call. A retry is asked for soon or never, so that runs end while we wait."""
    valid = draw(st.sampled_from(VALID))
    status = draw(
        st.one_of(
            st.sampled_from([200, 206, 206, 206, 201, 500, 400]),
            st.sampled_from([100, 101, 204, 205, 301, 302, 304, 307, 308, 401, 404, 409, 413, 429, 502, 503, 599, 999]),
        )
    )  # fmt: skip
    body = draw(
        st.one_of(mutated(valid).map(encoded).flatmap(noisy), JUNK.map(encoded), st.binary(max_size=60))
    )
    headers = draw(ANSWER_HEADERS)
    if "location" in headers:
        headers["location"] = draw(
            st.sampled_from(["", "/", "http://localhost:1/x", "http://[", "nonsense:", "?"])
        )
    # After a 100 the server rightly waits for the answer itself, two hours if need be: the connection must end.
    cut = status < 200 or draw(st.integers(0, 9)) == 0
    return Answer(status, body, headers, sdk=draw(st.booleans()), cut=cut)


class Hostile:
    """An app with one function whose answers are made up, for many runs at once; in the end each run is let go."""

    def __init__(self, watched: Watched, bare: BareApp, gives_in_after: int) -> None:
        self.watched = watched
        self.plans: dict[str, list[Answer]] = {}
        self.lock = threading.Lock()
        self.seen: dict[str, int] = {}
        self.gives_in_after = gives_in_after
        self.fn = Scripted.make(watched.server, bare, self.script, retries=1)

    def script(self, call: Call) -> Answer:
        """The next answer of the run, or an end."""
        with self.lock:
            count = self.seen[call.key] = self.seen.get(call.key, 0) + 1
            plan = self.plans[call.key]
            return Answer(200, "gave in") if count > self.gives_in_after else plan[(count - 1) % len(plan)]

    def run_with(self, plans: list[list[Answer]]) -> None:
        """Runs of these answers: each ends, or waits for something that can be read, and can be cancelled."""
        keys = [uuid.uuid4().hex for _ in plans]
        self.plans = dict(zip(keys, plans, strict=True))
        events = self.watched.server.send(
            *[{"name": f"bare/{self.fn.slug}", "data": {"key": key, "a": 1}} for key in keys]
        )
        runs = [self.watched.server.run_of(event, self.fn.slug, PATIENCE_S)["run_id"] for event in events]
        for event, run in zip(events, runs, strict=True):
            self.until_settled(run, self.plans[keys[runs.index(run)]])
            self.let_go(event, run)

    def until_settled(self, run: str, plan: list[Answer]) -> None:
        """Wait for the run's end, or for it to wait."""
        try:
            until(f"an end or a wait of {run}", lambda: self.settled(run), PATIENCE_S)
        except AssertionError as error:
            parts = {
                part: self.watched.server.http.get(f"/v1/runs/{run}/{part}").text
                for part in ("jobs", "history")
            }
            raise AssertionError(f"{error}\nanswers: {plan}\n{parts}") from None

    def settled(self, run: str) -> bool:
        """Whether the run has ended, or waits for what comes much later. A live run always has a cause to be so."""
        server = self.watched.server
        jobs = server.http.get(f"/v1/runs/{run}/jobs").json()["data"]
        if server.run(run)["status"] not in LIVE:
            return True
        if not jobs:
            jobs = server.http.get(f"/v1/runs/{run}/jobs").json()["data"]
            assert jobs or server.run(run)["status"] not in LIVE, "live, and nothing is to happen"
        return (
            bool(jobs) and far(jobs) and not any(job["Raw"]["data"]["payload"]["in_flight"] for job in jobs)
        )

    def let_go(self, event: str, run: str) -> None:
        """Cancel the run; all that is told of it can be read."""
        server = self.watched.server
        assert server.cancel(run) == 200
        assert server.run(run)["status"] in {"Completed", "Failed", "Cancelled"}
        for path in (
            f"/v1/runs/{run}",
            f"/v1/runs/{run}/history",
            f"/v1/runs/{run}/jobs",
            f"/v1/events/{event}/runs",
        ):
            answer = server.http.get(path)
            assert answer.status_code == 200, answer.text
            answer.json()


def far(jobs: list[dict[str, Any]]) -> bool:
    """Whether the next thing to happen is more than some seconds away."""
    return all((datetime.fromisoformat(job["at"]) - datetime.now(UTC)).total_seconds() > 3 for job in jobs)


def test_answers_of_every_kind(watched: Watched, bare: BareApp) -> None:
    hostile = Hostile(watched, bare, gives_in_after=6)

    @FEW
    @given(st.lists(st.lists(answers(), min_size=1, max_size=3), min_size=12, max_size=24))
    def one_round(plans: list[list[Answer]]) -> None:
        hostile.run_with(plans)

    until_time_is_up(one_round)
    watched.check()
    calm = Scripted.make(watched.server, bare, lambda call: Answer(200, "calm"))
    assert calm.run()["output"] == "calm"


def test_answers_to_a_step_of_its_own(watched: Watched, bare: BareApp) -> None:
    """Steps planned in parallel, whose own calls are then answered with anything."""
    parallel = Answer(206, [planned("a"), planned("b")])
    hostile = Hostile(watched, bare, gives_in_after=8)

    @FEW
    @given(st.lists(st.lists(answers(), min_size=2, max_size=4), min_size=12, max_size=24))
    def one_round(plans: list[list[Answer]]) -> None:
        hostile.run_with([[parallel, *plan] for plan in plans])

    until_time_is_up(one_round)
    watched.check()


def test_names_that_are_none(watched: Watched, bare: BareApp) -> None:
    """Ids and names of steps may be any text."""
    server = watched.server
    given_step: dict[str, Any] = {}

    def script(call: Call) -> Answer:
        if call.steps:
            return Answer(200, len(call.steps))
        return Answer(206, [{**ran("a", 1), **given_step}, {**ran("b", 2)}])

    fn = Scripted.make(server, bare, script)

    @ROUND
    @given(WEIRD_TEXT.filter(bool), WEIRD_TEXT)
    def one_round(step: str, name: str) -> None:
        given_step.clear()
        given_step.update({"id": step, "name": name, "displayName": name})
        run = fn.run(PATIENCE_S)
        assert run["status"] == "Completed", run
        assert run["output"] == (1 if step == sha1("b") else 2)

    until_time_is_up(one_round, seconds() / 3)
    watched.check()
