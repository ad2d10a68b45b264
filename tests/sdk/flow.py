"""What a test of a rule of flow control measures by: the times at which an app began and ended to work."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.sdk.driver import App, Log, until

EARLY_S = 0.02
"""How much sooner than promised something may seem to happen: clocks of two processes, and whole milliseconds."""

APPS = ("flow-py", "flow-js")
on_both = pytest.mark.apps(*APPS)

POOL = ThreadPoolExecutor(len(APPS))
RUNNING: dict[tuple[str, str], Future[None]] = {}


def side_by_side(test: Callable[[App], None]) -> Callable[[App], None]:
    """Let the test run on its apps at the same time, in threads: most of it is waiting.

    Each app's own test gives that app's result.
    """

    @functools.wraps(test)
    def run(app: App) -> None:
        name = test.__qualname__
        if (name, app.app_id) not in RUNNING:
            for peer in app.peers:
                RUNNING[name, peer.app_id] = POOL.submit(test, peer)
        RUNNING.pop((name, app.app_id)).result()

    return run


def new_key() -> str:
    return uuid.uuid4().hex


def send(app: App, fn: str, key: str, *events: dict[str, Any]) -> list[str]:
    """Send events of function `fn` in one request, each with the test's key and the data given; their ids."""
    return app.server.send(*({"name": f"{app.app_id}/{fn}", "data": {"key": key, **data}} for data in events))


def send_singly(app: App, fn: str, key: str, *events: dict[str, Any]) -> list[str]:
    """The same in one request each, so that the server's clock tells them apart."""
    return [send(app, fn, key, event)[0] for event in events]


def runs_of(app: App, events: Iterable[str], fn: str) -> list[dict[str, Any]]:
    """The ended runs of `fn` that the events have started, one each, in the order of the events."""
    slug = app.slug(fn)
    return [app.server.ended(app.server.run_of(event, slug)["run_id"]) for event in events]


def statuses(runs: Iterable[dict[str, Any]]) -> list[str]:
    return [run["status"] for run in runs]


@dataclass(frozen=True)
class Span:
    """One piece of work in the app; `end` is None if the app still works."""

    run: str
    part: str
    n: Any
    user: Any
    events: list[Any]
    begin: float
    end: float | None


def spans(*logs: Log) -> list[Span]:
    """Pieces of work of one or more apps, by their beginning."""
    open_: dict[tuple[str, str], Span] = {}
    for note in (note for log in logs for note in log.notes):
        if note["step"] not in ("begin", "end"):
            continue
        which = (note["run"], note["part"])
        if note["step"] == "end":
            begun = open_[which]
            open_[which] = Span(
                *(begun.run, begun.part, begun.n, begun.user, begun.events, begun.begin), end=note["at"]
            )
            continue
        assert which not in open_, f"{which} began twice"
        open_[which] = Span(*which, note["n"], note["user"], note["events"], note["at"], None)
    return sorted(open_.values(), key=lambda span: span.begin)


def most_at_once(pieces: Iterable[Span]) -> int:
    """The largest number of pieces of work that went on at the same time."""
    marks = []
    for span in pieces:
        marks += [(span.begin, 1), (float("inf") if span.end is None else span.end, -1)]
    most = now = 0
    for _, change in sorted(marks):
        now += change
        most = max(most, now)
    return most


def worked(app: App, key: str, count: int, timeout: float = 20) -> list[Span]:
    """The pieces of work of a key, as soon as `count` of them have ended."""

    def look() -> list[Span] | None:
        found = spans(app.log(key))
        return found if sum(span.end is not None for span in found) >= count else None

    return until(f"{count} pieces of work", look, timeout)
