"""The observed flow of a function: what starts it, its steps, what it sends and invokes."""

from __future__ import annotations

import asyncio
import time

import msgspec

from perdure.protocol.ids import is_ulid
from perdure.reading.flows import Flow, FlowEdge, FlowStep, ObservedRun, Place, flow_of
from perdure.reading.port import RunFilter, WholeRun
from perdure.reading.timeline import read_timeline
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.context import Server
from perdure.server.operating import served_function

MOST = 50
"""Runs that are looked at, the newest ones."""
ENTRIES = 1_000
"""Entries of the history of each that are read."""
MAX_SECONDS = 1.0
MAX_SENDING = 20
"""Steps that send events whose last events are looked up, and so many events of each."""


class StartedBy(msgspec.Struct, frozen=True):
    """What started `runs` of the runs: an event (`inngest/function.invoked` for invocations), or a schedule."""

    event: str | None
    cron: str | None
    runs: int


class Sends(msgspec.Struct, frozen=True):
    """The names of the events that a step sent last."""

    step: str
    events: list[str]


class ObservedFlow(msgspec.Struct, frozen=True):
    """What the newest `runs` runs of a function did. Of `ended` that have ended `failed` failed. `more` says that some
    of them had more steps than were looked at."""

    started_by: list[StartedBy]
    steps: list[FlowStep]
    edges: list[FlowEdge]
    sends: list[Sends]
    runs: int
    ended: int
    failed: int
    since: int | None
    more: bool


async def show_flow(server: Server, asked: Asked[Nothing, Nothing]) -> ObservedFlow:
    """What the newest runs of a function did: its steps, in which order, and what followed what."""
    function = served_function(server, asked.path["slug"])
    listed = await server.reader.list_runs(RunFilter(function_ids=(function.id,)), limit=MOST)
    runs: list[WholeRun] = []
    deadline = time.monotonic() + MAX_SECONDS
    for one in listed:
        whole = await server.reader.whole_run(one.run.id, entries=ENTRIES)
        if whole is not None and whole.run.status != "SKIPPED":
            runs.append(whole)
        if time.monotonic() > deadline:
            break
    flow = await asyncio.to_thread(_flow, runs)
    ended = [one.run for one in runs if one.run.ended_at is not None]
    return ObservedFlow(
        started_by=_started_by(runs),
        steps=flow.steps,
        edges=flow.edges,
        sends=[await _sent(server, step) for step in _sending(flow)],
        runs=len(runs),
        ended=len(ended),
        failed=sum(run.status == "FAILED" for run in ended),
        since=runs[-1].run.created_at if runs else None,
        more=flow.more or any(one.more for one in runs),
    )


def _flow(runs: list[WholeRun]) -> Flow:
    return flow_of(
        [
            ObservedRun(
                one.run.id, read_timeline(one).activities, one.run.ended_at is not None and not one.more
            )
            for one in runs
        ]
    )


def _started_by(runs: list[WholeRun]) -> list[StartedBy]:
    counts: dict[tuple[str | None, str | None], int] = {}
    for one in runs:
        cron = one.run.cron
        key = (None if cron else one.run.event_name, cron)
        counts[key] = counts.get(key, 0) + 1
    return [StartedBy(event, cron, count) for (event, cron), count in counts.items()]


def _sending(flow: Flow) -> list[FlowStep]:
    return [step for step in flow.steps if step.kind == "send"][:MAX_SENDING]


class _Ids(msgspec.Struct, frozen=True):
    ids: list[str] = []


class _Memo(msgspec.Struct):
    data: _Ids = _Ids()


async def _sent(server: Server, step: FlowStep) -> Sends:
    """The names of the events that a step sent last."""
    place: Place = step.last
    recorded = await server.reader.step_of_run(place.run_id, place.step_id)
    names: dict[str, None] = {}
    for event_id in _sent_ids(b"" if recorded is None else recorded.memo)[:MAX_SENDING]:
        event = await server.reader.event(event_id) if is_ulid(event_id) else None
        if event is not None:
            names[event.name] = None
    return Sends(step.key, list(names))


def _sent_ids(memo: bytes) -> list[str]:
    try:
        return msgspec.json.decode(memo, type=_Memo).data.ids
    except msgspec.MsgspecError:
        return []


ENDPOINTS = [Endpoint("GET", "/api/functions/{slug:path}/flow", show_flow, ObservedFlow)]
