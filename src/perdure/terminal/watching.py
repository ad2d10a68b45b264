"""Following a run until it ends.

The server is asked twice a second. If it does not answer for a while, because it is being restarted, the run
goes on afterwards, and so does the watching.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from perdure.protocol.durations import parse_time
from perdure.terminal import printing, step_logs
from perdure.terminal.client import Client
from perdure.terminal.failures import Unavailable, Unreachable
from perdure.terminal.records import LogLine, Span, TracedRun
from perdure.terminal.text import Line, line
from perdure.terminal.trace import Tree, change

EVERY_S = 0.5
PATIENCE_S = 60.0
"""How long a server that went away is waited for."""

T = TypeVar("T")


def patiently(look: Callable[[], T]) -> T:
    """What `look` gives, also if the server is away for up to `PATIENCE_S`. Raises its last error after that."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return look()
        except (Unreachable, Unavailable):
            if time.monotonic() > end:
                raise
            time.sleep(EVERY_S)


def follow(client: Client, run_id: str) -> Iterator[tuple[TracedRun, int]]:
    """The run again and again, until it has ended; with the server's time. The first look has no patience."""
    run, now = client.trace(run_id)
    yield run, now
    while not run.ended:
        time.sleep(EVERY_S)
        run, now = patiently(lambda: client.trace(run_id))
        yield run, now


def watch(
    client: Client,
    run_id: str,
    as_json: bool,
    full: bool,
    why: Callable[[], list[Line]] = list,
    logs: bool = False,
) -> TracedRun:
    """Show a run until it has ended; the run as it ended. On a terminal `why` is shown below it meanwhile.

    With `logs` the lines of its steps are printed as they come, between the changes.
    """
    if as_json:
        return _as_json(client, run_id, logs)
    if printing.on_terminal() and not logs:
        return _as_picture(client, run_id, full, why)
    return _as_log(client, run_id, full, step_logs.Follower(client, run_id) if logs else None)


def _as_json(client: Client, run_id: str, logs: bool) -> TracedRun:
    """One document a line, each time that something has changed; the last one is final."""
    last: TracedRun | None = None
    follower = step_logs.Follower(client, run_id) if logs else None
    lines: list[LogLine] = []
    for run, _ in follow(client, run_id):
        if follower is not None:
            lines += patiently(follower.new) if not run.ended else _last_lines(follower)
            run.logs = list(lines)
        if run != last:
            printing.show_json(run, indent=0)
        last = run
    assert last is not None
    return last


def _as_picture(client: Client, run_id: str, full: bool, why: Callable[[], list[Line]]) -> TracedRun:
    picture = printing.Picture()
    for run, now in follow(client, run_id):
        lines = Tree(run, now, printing.width(), full=full).lines()
        lines += [] if run.ended else patiently(why)
        picture.draw(lines, whole=run.ended)
    return run


def _last_lines(follower: step_logs.Follower) -> list[LogLine]:
    """What a run that has ended has logged: an app tells its last lines a moment later."""
    time.sleep(2 * EVERY_S)
    return patiently(follower.new)


def _as_log(client: Client, run_id: str, full: bool, follower: step_logs.Follower | None) -> TracedRun:
    """A line for each change, then the whole."""
    seen: dict[tuple[int, ...], str] = {}
    for run, now in follow(client, run_id):
        begin = parse_time(run.queued_at)
        spans = list(_numbered(run.trace.children if run.trace else []))
        changed = [span for place, span in spans if seen.get(place) != _state(span)]
        if changed:
            printing.show(change(span, begin, now, None, None) for span in changed)
        if follower is not None:
            lines = _last_lines(follower) if run.ended else patiently(follower.new)
            if lines:
                printing.show(step_logs.shown(lines, follower.steps, now, printing.width()))
        seen = {place: _state(span) for place, span in spans}
    printing.show([line(), *Tree(run, now, None, full=full).lines()])
    if follower is not None and (over := step_logs.dropped(follower.steps)):
        printing.show(over)
    return run


def _state(span: Span) -> str:
    return f"{span.name} {span.status}"


def _numbered(spans: list[Span], at: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Span]]:
    for number, span in enumerate(spans):
        if span.name != "executor.nonstep":
            yield (*at, number), span
            yield from _numbered(span.children, (*at, number))
