"""Why a run waits, laid out for people."""

from __future__ import annotations

import msgspec

from perdure.terminal.text import columns, plain
from perdure.terminal.why import EventWhy, Why, event_lines, why_lines

NOW = 1_795_526_460_000
RUN = "01M86VF3RT7D7QVKQX25MP4YWQ"


def laid_out(answer: str, width: int | None = None) -> list[str]:
    found = msgspec.json.decode(answer, type=Why)
    return [plain(pieces) for pieces in why_lines(found, NOW, width)]


def test_all_parts():
    answer = """{
      "run_id": "RUN", "function": "shop-pay", "status": "QUEUED", "text": "-",
      "next_at": "2026-11-24T13:22:00.000Z", "more": 2, "notes": ["The last sync failed"],
      "guards": [{"guard": "deadline", "text": "cancelled at noon"}],
      "causes": [
        {"cause": "line", "text": "waiting for concurrency key 7, place 2", "place": 2, "limits": [
          {"kind": "throttle", "open": false, "limit": 5, "taken": 0},
          {"kind": "concurrency", "open": true, "limit": 9, "taken": 1, "holders": [{"run_id": "no"}]},
          {"kind": "concurrency", "open": false, "limit": 1, "taken": 1, "key": "event.data.u",
           "holders": [{"run_id": "RUN", "doing": "asleep"}, {"run_id": "x", "doing": null}]}]},
        {"cause": "event", "text": "waiting for event paid", "near_misses": [
          {"event_id": "e1", "compared": [
            {"left": {"text": "async.id", "value": null, "missing": true}, "operator": "==",
             "right": {"text": "event.id", "value": "o1"}},
            {"left": {"text": "async.n", "value": 5}, "operator": ">", "right": {"text": "3", "value": 3},
             "holds": true},
            {"left": {"text": "has(async.k)", "value": false}},
            {"left": {"text": "int(async.s)", "error": "no number"}, "operator": "==",
             "right": {"text": "1", "value": 1}}]},
          {"event_id": "e2", "error": "it cannot\\u001b[2J be computed"}]}]
    }""".replace("RUN", RUN)
    assert laid_out(answer) == [
        "○ queued  shop-pay",
        "  waiting for concurrency key 7, place 2",
        "    1 of 1 taken by event.data.u",
        f"    {RUN}  asleep",
        "    x",
        "  waiting for event paid",
        '    e1  ✗ async.id (missing) == event.id ("o1"), ✓ async.n (5) > 3, ✗ has(async.k) (false),'
        " ✗ int(async.s) (no number) == 1",
        "    e2  it cannot�[2J be computed",
        "  and 2 more",
        "  cancelled at noon",
        "  The last sync failed",
        "  next: 2026-11-24T13:22:00.000Z, in 1m 0s",
    ]
    assert max(columns(text) for text in laid_out(answer, 40)) == 40


def test_nothing_left_to_wait_for():
    answer = f'{{"run_id": "{RUN}", "function": "f", "status": "FAILED", "text": "failed at noon: no"}}'
    assert laid_out(answer) == ["✗ failed  f", "  failed at noon: no"]


def test_an_event():
    answer = (
        b'{"internal_id": "e", "name": "a/b", "text": "t", "functions": [{"function": "f", "text": "held"}]}'
    )
    found = msgspec.json.decode(answer, type=EventWhy)
    assert [plain(pieces) for pieces in event_lines(found, None)] == ["e  a/b", "  f  held"]
    none = msgspec.structs.replace(found, functions=[])
    assert [plain(pieces) for pieces in event_lines(none, None)] == ["e  a/b", "  t"]
    done = msgspec.json.decode(
        b'{"internal_id": "e", "name": "a/b", "text": "t", "more_effects": true, "effects":'
        b' [{"how": "cancel", "run_id": "r", "function": "f", "text": "cancelled run r"}]}',
        type=EventWhy,
    )
    assert [plain(pieces) for pieces in event_lines(done, None)] == [
        "e  a/b",
        "  cancelled run r",
        "  and so for more runs than these 1",
    ]
