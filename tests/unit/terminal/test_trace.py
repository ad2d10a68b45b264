"""The trace of a run as a tree."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from perdure.terminal.records import ErrorText, Span, StepInfo, TracedRun
from perdure.terminal.text import columns, plain
from perdure.terminal.trace import Tree, change, error_text, told_info
from tests.unit.terminal.traced import BEGIN, EVENT_ID, NOW, RUN_ID, at, span, traced

WAIT = {"kind": "WaitForEventStepInfo", "event_name": "order/approved", "timeout": at(3_600_000)}
DECLINED = {"name": "CardError", "message": "declined", "stack": "Traceback:\n  File a.py"}


def shown(run: TracedRun, width: int | None = 80, **options: Any) -> list[str]:
    return [plain(pieces) for pieces in Tree(run, NOW, width, UTC, **options).lines()]


def attempts(*statuses: str, **last: Any) -> list[Span]:
    return [
        span(
            f"Attempt {n}",
            status,
            n * 1000,
            attempt=n,
            **(last if n == len(statuses) - 1 else {"error": DECLINED}),
        )
        for n, status in enumerate(statuses)
    ]


def whole() -> TracedRun:
    return traced(
        span("load", took=6, output={"rows": 3}),
        span("nap", begin=49, took=3000, op="SLEEP", info={"kind": "SleepStepInfo", "until": at(3049)}),
        span(
            "charge card",
            begin=3060,
            took=1010,
            output={"paid": True},
            children=attempts("FAILED", "COMPLETED"),
        ),
        span("Finalization", begin=4100, took=3, op=None, step_id=None),
        span("executor.nonstep", begin=4100, took=3, op=None, step_id=None, output=1),
        events=[{"data": {"id": 7, "_inngest": {"fn_id": "x"}}}],
        output={"ok": 1},
    )


def test_a_whole_run():
    assert shown(whole()) == [
        "✓ completed  Order paid  7.11s",
        "",
        f"  run       {RUN_ID}",
        "  function  shop-order-paid",
        f"  event     order/paid  {EVENT_ID}",
        "  queued    2026-11-24 12:00:00 UTC",
        '  data      {"id": 7}',
        "",
        "      AT    TOOK",
        '     0ms     6ms  ├─ ✓ load                 {"rows": 3}',
        "    49ms   3.00s  ├─ ✓ nap                  slept until 12:00:03",
        '   3.06s   1.01s  ├─ ✓ charge card          {"paid": true}',
        "     0ms     5ms  │  ├─ ✗ Attempt 0",
        "                  │  │    CardError: declined",
        "   1.00s     5ms  │  └─ ✓ Attempt 1",
        "   4.10s     3ms  └─ ✓ end of the function",
        "",
        '  output    {"ok": 1}',
    ]


def test_results_and_stacks_whole():
    lines = shown(whole(), full=True)
    at_load = next(n for n, text in enumerate(lines) if "load" in text)
    assert [text[18:] for text in lines[at_load : at_load + 4]] == [
        "├─ ✓ load",
        "│    {",
        '│      "rows": 3',
        "│    }",
    ]
    assert "                  │  │    Traceback:" in lines
    assert "                  │  │      File a.py" in lines
    assert lines[-3:] == ["  output    {", '              "ok": 1', "            }"]


def test_a_run_that_failed_says_why():
    run = traced(
        span(
            "Finalization",
            "FAILED",
            op=None,
            step_id=None,
            children=attempts("FAILED", "FAILED", error=DECLINED),
        ),
        status="FAILED",
        error=DECLINED,
    )
    lines = shown(run)
    assert lines[0] == "✗ failed  Order paid  7.11s"
    assert sum("CardError: declined" in text for text in lines) == 3
    assert lines[-1] == "  error     CardError: declined"


def test_what_is_under_way():
    again = span("Attempt 1", "QUEUED", 1000, scheduled_at=at(90_000), started_at=None)
    run = traced(
        span("pay", "RUNNING", 100, children=[*attempts("FAILED"), again]),
        span("approved", "WAITING", 2000, op="WAIT_FOR_EVENT", info=WAIT),
        status="RUNNING",
    )  # fmt: skip
    lines = shown(run)
    assert lines[0] == "● running  Order paid  1m 0s"
    assert "   100ms   59.9s  ├─ ● pay       running" in lines
    assert "   1.00s          │  └─ ○ Attempt 1  begins in 30.0s" in lines
    assert "   2.00s   58.0s  └─ ◌ approved  waits for order/approved until 13:00:00" in lines
    assert lines[-1].startswith("   2.00s")


@pytest.mark.parametrize(
    ("status", "text"),
    [("QUEUED", "not started yet"), ("COMPLETED", "no step was run"), ("SKIPPED", "no step was run")],
)
def test_a_run_without_steps(status: str, text: str):
    assert any(each.strip() == text for each in shown(traced(status=status)))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int):
    long = "a step of a very long name " * 4
    error = {"name": "E", "message": "word " * 200}
    run = traced(
        span(long, output={"text": "x" * 500}, info=None),
        span(long, "FAILED", error=error, children=attempts("FAILED", error=DECLINED)),
        span("w", "WAITING", op="WAIT_FOR_EVENT", info={**WAIT, "expression": "async.data.id == event.data.id" * 5}),
        span("日本語" * 30, output="日本語" * 100),
        output="x" * 500,
        events=[{"data": {"text": "x" * 500}}],
    )  # fmt: skip
    assert [text for text in shown(run, width) if columns(text) > width] == []


def test_nothing_is_cut_off_a_terminal():
    assert any("x" * 500 in text for text in shown(traced(span("a", output="x" * 500)), width=None))


def test_names_from_apps_cannot_steer_the_terminal():
    run = traced(
        span("\x1b[2Jgone", error={"name": "E", "message": "\x1b[31m"}, output="\u009b1m"), event_name="\x07"
    )
    assert all(char.isprintable() for text in [*shown(run), *shown(run, full=True)] for char in text)


SIGNAL = {"kind": "WaitForSignalStepInfo", "signal": "go", "timeout": at(0)}
INFOS: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "SleepStepInfo", "until": at(1000)}, "WAITING", "sleeps until 12:00:01"),
    ({"kind": "SleepStepInfo", "until": at(1000)}, "COMPLETED", "slept until 12:00:01"),
    (WAIT, "WAITING", "waits for order/approved until 13:00:00"),
    ({**WAIT, "expression": "a == 1"}, "WAITING", "waits for order/approved until 13:00:00 if a == 1"),
    ({**WAIT, "timed_out": True}, "COMPLETED", "order/approved did not come in time"),
    ({**WAIT, "found_event_id": EVENT_ID}, "COMPLETED", f"order/approved {EVENT_ID}"),
    (SIGNAL, "WAITING", "waits for signal go until 12:00:00"),
    (SIGNAL, "COMPLETED", "signal go came"),
    ({"kind": "InvokeStepInfo", "function": "f", "run_id": RUN_ID}, "RUNNING", f"invokes f, run {RUN_ID}"),
    ({"kind": "InvokeStepInfo", "function": "f"}, "COMPLETED", "invoked f"),
    ({"kind": "RunStepInfo"}, "COMPLETED", ""),
]  # fmt: skip


@pytest.mark.parametrize(("info", "status", "text"), INFOS)
def test_what_is_said_of_a_step(info: dict[str, Any], status: str, text: str):
    assert told_info(StepInfo(**info), span("s", status), NOW, UTC) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ErrorText("CardError", "declined"), "CardError: declined"),
        (ErrorText("Error", "declined"), "declined"),
        (ErrorText("CardError", ""), "CardError"),
        (ErrorText("Error", "", "first\nsecond"), "first"),
        (ErrorText("Error", ""), "Error"),
    ],
)
def test_errors_in_a_sentence(error: ErrorText, text: str):
    assert error_text(error) == text


@pytest.mark.parametrize(
    ("status", "reason", "holder", "told"),
    [
        ("SKIPPED", "Singleton", "01HOLDER", "another run was under way in its place: 01HOLDER"),
        ("SKIPPED", "FunctionPaused", None, "the function was paused"),
        ("CANCELLED", "It did not begin in time.", None, "It did not begin in time."),
    ],
)
def test_why_a_run_did_not_go_on(status: str, reason: str, holder: str | None, told: str):
    run = traced(status=status, reason=reason)
    assert run.trace is not None
    run.trace.skipped_for = holder
    assert f"  reason    {told}" in shown(run)


def test_a_failure_is_told_by_its_error_alone():
    assert not any("reason" in text for text in shown(traced(status="FAILED", reason="declined")))


def test_batches_are_told_as_such():
    several = traced(batch_id="01BATCH", event_ids=[EVENT_ID, "01OTHER"])
    assert "  event     order/paid, 2 in batch 01BATCH" in shown(several)
    assert f"  event     order/paid, 1 in batch 01BATCH  {EVENT_ID}" in shown(traced(batch_id="01BATCH"))


def test_changes_as_a_log():
    begin = NOW - 60_000
    assert at(0) == BEGIN
    assert [
        plain(change(each, begin, NOW, UTC, None))
        for each in (
            span("load", "RUNNING", 20),
            span("load", begin=20, took=30),
            span("wait", "WAITING", 60, info=WAIT),
            span("wait", "CANCELLED", 60, info=WAIT),
            span("Attempt 0", "FAILED", 70, error=DECLINED),
        )
    ] == [
        "    20ms  ● running    load",
        "    50ms  ✓ completed  load  30ms",
        "    60ms  ◌ waiting    wait  waits for order/approved until 13:00:00",
        "    65ms  ⊘ cancelled  wait  5ms",
        "    75ms  ✗ failed     Attempt 0  5ms  CardError: declined",
    ]
