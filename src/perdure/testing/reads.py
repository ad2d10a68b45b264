"""What the store knows, read at once: a test looks at things while nothing happens, so nobody is held up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.reading.port import MAX_TRACED_ENTRIES, EventRecord, RunRecord, StepRecord, WholeRun
from perdure.stores.sqlite import whole_run
from perdure.stores.sqlite.connections import connect_reader
from perdure.stores.sqlite.reader import FURTHER_RUNS_OF_EVENT, RUNS_OF_EVENT, STEPS
from perdure.stores.sqlite.run_listing import run_record

MOST = 1_000_000
_RUNS = (
    f"SELECT {','.join(RunRecord.__struct_fields__)} FROM runs ORDER BY created_at,receipts,function_id,id"
)
_EVENTS = f"SELECT {','.join(EventRecord.__struct_fields__)} FROM events ORDER BY receipt"


class Reads:
    """Questions to the store of one engine."""

    def __init__(self, path: Path, shard: int) -> None:
        self._db = connect_reader(path)
        self._shard = shard

    def whole(self, run_id: str) -> WholeRun | None:
        """A run and all that belongs to it."""
        return whole_run.whole_run(self._db, run_id, MAX_TRACED_ENTRIES)

    def steps(self, run_id: str) -> list[StepRecord]:
        """The finished steps of a run, in the order in which they finished."""
        return [StepRecord(*row) for row in self._db.execute(STEPS, (run_id,))]

    def runs(self) -> list[RunRecord]:
        """All runs, in the order of their events."""
        return [run_record(row) for row in self._db.execute(_RUNS)]

    def runs_of_event(self, event_id: str) -> set[str]:
        """The runs that an event has started, alone or with others."""
        rows = self._db.execute(RUNS_OF_EVENT, (event_id, "", MOST)).fetchall()
        rows += self._db.execute(FURTHER_RUNS_OF_EVENT, (event_id, "", MOST, self._shard)).fetchall()
        return {run_record(row).id for row in rows}

    def events(self) -> list[EventRecord]:
        """All events, in the order in which they came."""
        return [_event(*row) for row in self._db.execute(_EVENTS)]

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


def _event(*columns: Any) -> EventRecord:
    *first, internal, body = columns
    make: Callable[..., EventRecord] = EventRecord
    return make(*first, bool(internal), body)
