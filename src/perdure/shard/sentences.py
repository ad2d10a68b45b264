"""Each cause of a wait in one English sentence. All of them are made here."""

from __future__ import annotations

from perdure.protocol.durations import format_time
from perdure.protocol.skipping import skipped_because
from perdure.shard.why import (
    AnyCause,
    Asleep,
    AtGate,
    AwaitsEvent,
    AwaitsRun,
    AwaitsSignal,
    Called,
    Cancellation,
    Deadline,
    Held,
    InLine,
    Limit,
    PutOff,
    Queued,
    Requested,
    Scheduled,
    SetAside,
    Why,
)

MAX_ERROR = 200
"""Longer errors are cut in a sentence; the trace has them whole."""


def tell(why: Why) -> Why:
    """Fill in all texts by what is known now."""
    for cause in why.causes:
        if isinstance(cause, AwaitsRun) and cause.why is not None:
            tell(cause.why)
        cause.text = sentence(cause)
    for guard in why.guards:
        guard.text = _guard(guard)
    why.text = _whole(why)
    return why


def _whole(why: Why) -> str:
    if why.ended_at is not None:
        text = f"{why.status.lower()} at {format_time(why.ended_at)}"
        reason = why.error or why.reason
        return f"{text}: {_short(skipped_because(reason, why.holder or ''))}" if reason else text
    if not why.causes:
        return "nothing is known that it waits for"
    others = len(why.causes) - 1 + why.more
    return why.causes[0].text + (f" (and {others} more)" if others else "")


def sentence(cause: AnyCause) -> str:
    """One cause in a sentence, without a capital and a full stop."""
    match cause:
        case Called():
            what = f" for step {cause.step}" if cause.step else ""
            since = format_time(cause.since)
            return f"a call to app {cause.app}{what} has been under way since {since}{_attempt(cause)}"
        case Requested():
            return (
                f"a {cause.method} request to {cause.host or 'a host'} for step {cause.step} has been under way since"
                f" {format_time(cause.since)}{_attempt(cause)}"
            )
        case AtGate():
            return _at_gate(cause)
        case InLine():
            return _in_line(cause)
        case PutOff():
            failed = f"attempt {cause.attempt - 1} of {cause.attempts} failed"
            error = f" ({_short(cause.error)})" if cause.error else ""
            return f"{failed}{error}; the next one is made at {format_time(cause.until)}"
        case Scheduled():
            return f"its event is for {format_time(cause.until)}; it starts then"
        case Held():
            return f"function {cause.function} is paused; the run starts when that is resumed"
        case Asleep():
            return f"sleeping until {format_time(cause.until)}{_step(cause.step)}"
        case SetAside():
            return "the server has failed to handle it several times and leaves it alone; its log says why"
        case _:
            return _awaits(cause)


def _awaits(cause: AwaitsEvent | AwaitsRun | AwaitsSignal) -> str:
    until = f" until {format_time(cause.until)}"
    if isinstance(cause, AwaitsSignal):
        if cause.taken:
            return f"another wait has taken its signal over; times out at {format_time(cause.until)}"
        return f"waiting for signal {cause.signal}{until}"
    if isinstance(cause, AwaitsRun):
        if cause.run_id is None:
            return f"waiting for an invoked function whose run has not been started yet,{until}"
        inner = f": {cause.why.text}" if cause.why is not None else ""
        named = f" of {cause.why.function}" if cause.why is not None else ""
        return f"waiting for run {cause.run_id}{named}{inner}"
    condition = f" if {cause.shown or cause.expression}" if cause.expression else ""
    missed = ""
    if cause.missed == 1:
        missed = "; 1 such event has come since and does not match"
    elif cause.missed:
        missed = f"; {cause.missed} such events have come since and do not match"
    return f"waiting for event {cause.event}{condition}{until}{missed}"


def _at_gate(cause: AtGate) -> str:
    if cause.full == "stopping":
        return "the server is stopping: no call starts any more"
    place = _place(cause.queued)
    if cause.full == "no_worker":
        return f"no worker of {cause.of} is connected that has its function and takes calls; it starts when one is"
    if cause.full == "capacity":
        return f"all workers of {cause.of} are at capacity ({cause.calls} calls under way){place}"
    if not cause.full:
        return f"due now for a call to {cause.of}{place}"
    taken = {
        "young": f"{cause.young} of {cause.young_most} that may have just begun",
        "all": f"{cause.calls} of {cause.most} are under way",
        "half": f"its function has its half of {cause.most}, and others wait",
    }
    return f"waiting for a call to {cause.of}: {taken[cause.full]}{place}"


def _in_line(cause: InLine) -> str:
    closed = [limit for limit in cause.limits if not limit.open]
    place = _place(cause.queued)
    lines = max((limit.lines for limit in closed if limit.line_place), default=0)
    if place and lines > 1:
        place += f" of its line, one of {lines} that take turns"
    if not closed:
        return f"due now: every limit has room{place}"
    first = cause.queued.ahead == 0 and lines <= 1
    return "waiting for " + " and ".join(_limit(limit, first) for limit in closed) + place


def _limit(limit: Limit, first: bool) -> str:
    """A limit that has no room. `first` says that the call is the next that it lets through."""
    key = f" key {limit.value or '(empty)'}" if limit.key is not None else ""
    if limit.kind == "throttle":
        free_at = format_time(limit.free_at or 0)
        return (
            f"throttle{key} until {free_at}" if first else f"throttle{key} (its next start is at {free_at})"
        )
    name = "concurrency" if limit.kind == "concurrency" else "run concurrency"
    return f"{name}{key}" if key else f"the {name} limit of {limit.limit}"


def _guard(guard: Deadline | Cancellation) -> str:
    if isinstance(guard, Deadline):
        verb = "begun" if guard.which == "start" else "ended"
        return f"cancelled at {format_time(guard.at)} if it has not {verb} by then"
    condition = f" if {guard.expression}" if guard.expression else ""
    until = f" until {format_time(guard.until)}" if guard.until else ""
    return f"event {guard.event} cancels it{condition}{until}"


def _place(queued: Queued) -> str:
    return "" if queued.ahead is None else f", place {queued.ahead + 1}"


def _attempt(cause: Called | Requested) -> str:
    tries = f", attempt {cause.attempt} of {cause.attempts}" if cause.attempt > 1 else ""
    if isinstance(cause, Called) and cause.recoveries:
        times = "a restart" if cause.recoveries == 1 else f"{cause.recoveries} restarts"
        tries += f", {times} of the server in the middle of it"
    return tries


def _step(name: str) -> str:
    return f" in step {name}" if name else ""


def _short(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= MAX_ERROR else text[:MAX_ERROR] + "…"
