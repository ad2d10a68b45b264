"""Workers that are connected. One with several apps is listed once for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from perdure.protocol.ids import app_uuid
from perdure.server.graphql.session import Session
from perdure.server.graphql.values import Page, always, cursor, read_cursor, read_page, read_time, time_text
from perdure.shard.workers import STATUSES, WorkerApp, WorkerRecord


class Worker(NamedTuple):
    """A worker as far as one of its apps is concerned."""

    record: WorkerRecord
    app: WorkerApp


class WorkerPlace(msgspec.Struct):
    """Where a worker stands in a listing."""

    id: str
    app: str


_TIMES: dict[str, Callable[[WorkerRecord], int | None]] = {
    "CONNECTED_AT": lambda record: record.connected_at,
    "LAST_HEARTBEAT_AT": lambda record: record.heard_at,
    # Those that are gone are not listed.
    "DISCONNECTED_AT": lambda _: None,
}


def worker_connections(
    _: object,
    session: Session,
    first: int,
    after: str | None = None,
    orderBy: list[dict[str, str]] | None = None,
    filter: dict[str, Any] | None = None,
) -> Page:
    """A page of workers, those that came last first unless it is to be otherwise."""
    size = read_page(first)
    place = read_cursor(after, WorkerPlace)
    found = _ordered(_matching(_all(session), filter or {}), orderBy or [])
    places = [WorkerPlace(worker.record.id, worker.app.name) for worker in found]
    start = places.index(place) + 1 if place in places else 0
    page = found[start : start + size]
    cursors = [cursor(one) for one in places[start : start + size]]
    more = start + size < len(found)
    return Page(list(page), cursors, more, start > 0, cursors[-1] if cursors else None, lambda: len(found))


def worker_connection(_: object, session: Session, connectionId: str) -> Worker | None:
    """One worker, with the first of its apps."""
    return next((worker for worker in _all(session) if worker.record.id == connectionId), None)


def _all(session: Session) -> list[Worker]:
    return [Worker(record, app) for record in session.workers for app in record.apps]


def _matching(workers: list[Worker], wanted: dict[str, Any]) -> list[Worker]:
    apps, statuses = wanted.get("appIDs") or (), wanted.get("status") or ()
    since = read_time(wanted.get("from"), "filter.from")
    until = read_time(wanted.get("until"), "filter.until")
    time = _TIMES[wanted.get("timeField") or "CONNECTED_AT"]

    def fits(worker: Worker) -> bool:
        at = time(worker.record)
        return (
            (not apps or app_uuid(worker.app.name) in apps)
            and (not statuses or STATUSES[worker.record.status] in statuses)
            and (since is None or (at is not None and at >= since))
            and (until is None or (at is not None and at < until))
        )

    return [worker for worker in workers if fits(worker)]


def _ordered(workers: list[Worker], orders: list[dict[str, str]]) -> list[Worker]:
    found = sorted(workers, key=lambda worker: (worker.record.id, worker.app.name), reverse=True)
    for order in reversed(orders or [{"field": "CONNECTED_AT", "direction": "DESC"}]):
        time = _TIMES[order["field"]]
        found.sort(key=lambda worker: time(worker.record) or 0, reverse=order["direction"] == "DESC")
    return found


RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {"workerConnections": worker_connections, "workerConnection": worker_connection},
    "ConnectV1WorkerConnection": {
        "id": lambda worker, _: worker.record.id,
        "gatewayId": lambda worker, _: worker.record.gateway,
        "instanceId": lambda worker, _: worker.record.instance_id,
        "workerIp": lambda worker, _: worker.record.address,
        "maxWorkerConcurrency": lambda worker, _: worker.record.capacity,
        "appName": lambda worker, _: worker.app.name,
        "appID": lambda worker, _: app_uuid(worker.app.name),
        "app": lambda worker, session: session.app(app_uuid(worker.app.name)),
        "connectedAt": lambda worker, _: time_text(worker.record.connected_at),
        "lastHeartbeatAt": lambda worker, _: time_text(worker.record.heard_at),
        "disconnectedAt": always(None),
        "disconnectReason": always(None),
        "status": lambda worker, _: STATUSES[worker.record.status],
        "groupHash": lambda worker, _: worker.app.group,
        "sdkLang": lambda worker, _: worker.record.sdk_language,
        "sdkVersion": lambda worker, _: worker.record.sdk_version,
        "sdkPlatform": lambda worker, _: worker.record.platform,
        "syncId": always(None),
        "buildId": lambda worker, _: worker.app.version or None,
        "appVersion": lambda worker, _: worker.app.version or None,
        "functionCount": lambda worker, _: len(worker.app.functions),
        "cpuCores": lambda worker, _: worker.record.cpu_cores,
        "memBytes": lambda worker, _: worker.record.mem_bytes,
        "os": lambda worker, _: worker.record.os,
    },
}
