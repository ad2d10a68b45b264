"""Debounce and batching through the SDKs: many events, one run."""

from __future__ import annotations

import time
from typing import Any

from tests.sdk.driver import App, until
from tests.sdk.flow import EARLY_S, new_key, on_both, runs_of, send, side_by_side, spans, statuses, worked

LATE_S = 1.0
MIB = 1024 * 1024


@on_both
@side_by_side
def test_debounce_runs_once_with_the_last_event(app: App) -> None:
    key = new_key()
    ids = []
    for n in range(4):
        last_at = time.time()
        ids += send(app, "debounced", key, {"n": n, "user": key})
        time.sleep(0.3)
    [work] = worked(app, key, 1)
    assert (work.n, work.events) == (3, [3])
    assert 1 - EARLY_S < work.begin - last_at < 1 + LATE_S
    time.sleep(1.3)
    assert len(spans(app.log(key))) == 1
    assert [len(app.server.runs(event)) for event in ids] == [0, 0, 0, 1]
    send(app, "debounced", key, {"n": 9, "user": key})
    assert [span.n for span in worked(app, key, 2)] == [3, 9], "the next event opens another"


@on_both
@side_by_side
def test_debounce_ignores_an_event_with_an_older_ts(app: App) -> None:
    key = new_key()
    now = time.time()

    def at(ts: float, n: int) -> None:
        data = {"key": key, "user": key, "n": n}
        app.server.send({"name": f"{app.app_id}/debounced", "ts": int(ts * 1000), "data": data})

    at(now - 10, 0)
    time.sleep(0.7)
    at(now - 60, 1)
    [work] = worked(app, key, 1)
    assert work.n == 0
    assert 1 - EARLY_S < work.begin - now < 1.7, "it does not put the run off either"
    time.sleep(1.2)
    assert len(spans(app.log(key))) == 1


@on_both
@side_by_side
def test_debounce_ends_at_its_timeout_whatever_comes(app: App) -> None:
    key = new_key()
    begin = time.time()
    n = 0
    while time.time() < begin + 3.4:
        send(app, "debounced-capped", key, {"n": n, "user": key})
        n += 1
        time.sleep(0.4)
    first, second = worked(app, key, 2)
    assert 2 - EARLY_S < first.begin - begin < 3 + 0.5, "a second of grace at most"
    assert 0 < first.n < n - 1
    assert second.n == n - 1, "what came later makes the next run"


@on_both
@side_by_side
def test_debounce_holds_each_key_by_itself(app: App) -> None:
    key = new_key()
    send(app, "debounced", key, *({"n": n, "user": f"{key} {n % 2}"} for n in range(6)))
    work = worked(app, key, 2)
    assert sorted(span.n for span in work) == [4, 5]
    assert len(work) == 2


@on_both
@side_by_side
def test_rate_limit_counts_before_the_debounce(app: App) -> None:
    key = new_key()
    for n in range(3):
        send(app, "rated-debounced", key, {"n": n, "user": key})
    [work] = worked(app, key, 1)
    assert work.n == 1, "the third event was over the limit"


def events_of(app: App, key: str) -> list[list[Any]]:
    """The numbers of the events that each run got, by its beginning."""
    return [span.events for span in spans(app.log(key))]


@on_both
@side_by_side
def test_batch_runs_when_full_and_when_its_time_is_over_in_order(app: App) -> None:
    key = new_key()
    sent_at = time.time()
    ids = send(app, "batched", key, *({"n": n, "group": key} for n in range(4)))
    first, second = worked(app, key, 2)
    assert (first.n, first.events, second.events) == (0, [0, 1, 2], [3])
    assert first.begin - sent_at < LATE_S
    assert 2 - EARLY_S < second.begin - sent_at < 2 + LATE_S
    runs = [[run["run_id"] for run in app.server.runs(event)] for event in ids]
    assert runs == [[first.run], [first.run], [first.run], [second.run]]


@on_both
@side_by_side
def test_batch_keeps_each_group_to_itself(app: App) -> None:
    key = new_key()
    for n in range(6):
        send(app, "batched", key, {"n": n, "group": f"{key} {n % 2}"})
    worked(app, key, 2)
    assert sorted(events_of(app, key)) == [[0, 2, 4], [1, 3, 5]]


@on_both
@side_by_side
def test_batch_lets_events_alone_for_which_its_condition_is_false(app: App) -> None:
    key = new_key()
    sent_at = time.time()
    flags: list[dict[str, Any]] = [{"bulk": True}, {"bulk": False}, {}, {"bulk": True}]
    send(app, "batched-some", key, *({"n": n, "group": key, **flag} for n, flag in enumerate(flags)))
    work = worked(app, key, 3)
    assert sorted(span.events for span in work) == [[0, 3], [1], [2]]
    by_events = {tuple(span.events): span.begin - sent_at for span in work}
    assert 1 - EARLY_S < by_events[(0, 3)] < 1 + LATE_S
    assert max(by_events[(1,)], by_events[(2,)]) < by_events[(0, 3)] - 0.1


@on_both
@side_by_side
def test_batch_takes_an_event_once(app: App) -> None:
    key = new_key()
    one = {"name": f"{app.app_id}/batched", "id": new_key(), "data": {"key": key, "group": key, "n": 1}}
    app.server.send(one, one)
    app.server.send(one)
    send(app, "batched", key, {"n": 2, "group": key})
    worked(app, key, 1)
    assert events_of(app, key) == [[1, 2]]
    app.server.send(one)
    time.sleep(2.4)
    assert events_of(app, key) == [[1, 2]], "also when its batch has run"


@on_both
@side_by_side
def test_batch_runs_at_ten_mebibytes(app: App) -> None:
    key = new_key()
    fill = "x" * int(2.6 * MIB)
    for n in range(4):
        send(app, "batched-large", key, {"n": n, "fill": fill})
    [work] = worked(app, key, 1)
    assert work.events == [0, 1, 2, 3]
    [sizes] = [note["sizes"] for note in app.log(key).notes if note["step"] == "begin"]
    assert sizes == [len(fill)] * 4


@on_both
@side_by_side
def test_batch_run_is_run_again_with_all_of_its_events(app: App) -> None:
    key = new_key()
    ids = send(app, "batched", key, *({"n": n, "group": key} for n in range(3)))
    [run] = runs_of(app, ids[:1], "batched")
    query = "mutation ($run: ULID!) { rerun(runID: $run) }"
    answer = app.server.http.post(
        "/v0/gql", json={"query": query, "variables": {"run": run["run_id"]}}
    ).json()
    again = app.server.ended(answer["data"]["rerun"])
    assert (again["status"], again["original_run_id"]) == ("Completed", run["run_id"])
    assert events_of(app, key) == [[0, 1, 2], [0, 1, 2]]
    for event in ids:
        found = until("both runs", lambda event=event: app.server.runs(event))  # type: ignore[misc]
        assert {one["run_id"] for one in found} == {run["run_id"], again["run_id"]}
    assert statuses([run]) == ["Completed"]
    fields = "{ run(runID: $run) { isBatch batchCreatedAt } }"
    for one in (run, again):
        shown = app.server.http.post(
            "/v0/gql", json={"query": f"query ($run: String!) {fields}", "variables": {"run": one["run_id"]}}
        ).json()
        assert shown["data"]["run"]["isBatch"] is True, shown
        assert shown["data"]["run"]["batchCreatedAt"]
