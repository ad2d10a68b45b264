"""`GET /metrics`, as text for Prometheus.

Everything is counted where it happens anyway, and put into words only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from perdure.core.model import RunStatus
from perdure.shard.loop import Shard
from perdure.shard.workers import STATUSES, WorkerRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ENDS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)


@dataclass(slots=True)
class Gauges:
    """What is measured outside of the shard.

    `loop_lag_s` is by how many seconds the event loop was late when it was last looked at, `loop_lag_max_s`
    the most since the start. `wal_bytes` gives the size of the database's write-ahead log now. `step_lines` and
    `step_lines_dropped` count what steps told of themselves and was taken, or dropped over a limit.
    """

    wal_bytes: Callable[[], int]
    loop_lag_s: float = 0.0
    loop_lag_max_s: float = 0.0
    step_lines: int = 0
    step_lines_dropped: int = 0

    def note_lag(self, seconds: float) -> None:
        """The event loop was late by so much."""
        self.loop_lag_s = max(seconds, 0.0)
        self.loop_lag_max_s = max(self.loop_lag_max_s, self.loop_lag_s)


def exposition(shard: Shard, gauges: Gauges, held_bytes: int, workers: Sequence[WorkerRecord] = ()) -> str:
    """All metrics, in Prometheus' text format."""
    counts = shard.counts
    label = f'{{shard="{shard.number}"}}'
    ended = {f'{{status="{status.value.lower()}"}}': counts.ended[status] for status in _ENDS}
    lines: list[str] = []
    lines += _metric("up", "gauge", "1 while events are taken, else 0.", {label: int(shard.available)})
    lines += _metric("commands_waiting", "gauge", "Commands not decided yet.", {label: shard.waiting})
    lines += _metric("calls_in_flight", "gauge", "Calls under way.", {label: shard.calls_in_flight})
    lines += _metric("commits_total", "counter", "Commits to the store.", {label: counts.commits})
    lines += _metric("rows_total", "counter", "Rows written or removed by them.", {label: counts.rows})
    lines += _metric("runs_ended_total", "counter", "Runs that ended.", ended)
    lines += _metric("wal_bytes", "gauge", "Size of the write-ahead log.", {"": gauges.wal_bytes()})
    lines += _metric("body_bytes_held", "gauge", "Request bodies being read in pieces.", {"": held_bytes})
    by_status = {f'{{status="{name.lower()}"}}': 0 for name in STATUSES[:4]}
    for worker in workers:
        by_status[f'{{status="{STATUSES[worker.status].lower()}"}}'] += 1
    lines += _metric("workers", "gauge", "Workers that are connected.", by_status)
    at_workers = {"": sum(worker.in_use for worker in workers)}
    lines += _metric("worker_calls", "gauge", "Calls that connected workers have.", at_workers)
    told = {'{fate="taken"}': gauges.step_lines, '{fate="dropped"}': gauges.step_lines_dropped}
    lines += _metric("step_log_entries_total", "counter", "What steps told while they ran.", told)
    lag = {"": round(gauges.loop_lag_s, 6)}
    lines += _metric("event_loop_lag_seconds", "gauge", "How late the event loop was just now.", lag)
    most = {"": round(gauges.loop_lag_max_s, 6)}
    lines += _metric("event_loop_lag_seconds_max", "gauge", "The most since the start.", most)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, values: Mapping[str, float]) -> Iterable[str]:
    full = f"perdure_{name}"
    yield f"# HELP {full} {text}"
    yield f"# TYPE {full} {kind}"
    for label, value in values.items():
        yield f"{full}{label} {value}"
