"""Runs and spans for the tests, as the client gives them."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.protocol.durations import format_time, parse_time
from perdure.terminal.records import Run, Span, TracedRun

BEGIN = "2026-11-24T12:00:00.000Z"
NOW = parse_time(BEGIN) + 60_000
RUN_ID = "01M86V47DWP1P2JRS0QWH2M9N5"
EVENT_ID = "01M86V47DV9GQT0WRG3FNHZTDA"


def at(ms: int) -> str:
    """A moment so many ms after the run was queued."""
    return format_time(parse_time(BEGIN) + ms)


def span(name: str, status: str = "COMPLETED", begin: int = 0, took: int | None = 5, **fields: Any) -> Span:
    """A span; `output` and `error` are plain values."""
    ended = None if took is None or status in ("RUNNING", "WAITING", "QUEUED") else at(begin + took)
    given = {
        "name": name, "status": status, "queued_at": at(begin), "started_at": at(begin), "ended_at": ended,
        "op": "RUN", "step_id": name, **fields,
    }  # fmt: skip
    children = given.pop("children", [])
    made: Span = msgspec.json.decode(msgspec.json.encode(given), type=Span)
    made.children = children
    return made


def _fields(status: str, **fields: Any) -> bytes:
    function = {"id": "f", "slug": "shop-order-paid", "name": "Order paid"}
    return msgspec.json.encode(
        {
            "id": RUN_ID, "status": status, "function": function, "event_name": "order/paid",
            "event_ids": [EVENT_ID], "queued_at": BEGIN, "started_at": BEGIN,
            "ended_at": None if status in ("RUNNING", "QUEUED") else at(7110), **fields,
        }
    )  # fmt: skip


def listed(status: str = "COMPLETED", **fields: Any) -> Run:
    """A run of a list."""
    return msgspec.json.decode(_fields(status, **fields), type=Run)


def traced(*spans: Span, status: str = "COMPLETED", **fields: Any) -> TracedRun:
    """A run with its trace."""
    run: TracedRun = msgspec.json.decode(_fields(status, **fields), type=TracedRun)
    run.trace = span("Run", status, children=list(spans))
    return run
