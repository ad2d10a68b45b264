"""Why a run waits, as data: one cause for each thing that it waits for, and what may end it meanwhile.

Times are ms since the epoch, attempts count from 1. Nothing here holds a secret: of a request its host is told, of an
event the values that its wait compares.
"""

from __future__ import annotations

import msgspec

from perdure.core.expressions.comparing import Compared
from perdure.shard.rows import ItemRef


class Doing(msgspec.Struct, kw_only=True):
    """A run that holds a place. `since` and `doing` (a sentence) are None while only the store knows them."""

    run_id: str
    since: int | None = None
    doing: str | None = None


class Limit(msgspec.Struct, kw_only=True):
    """A limit that a call stands before.

    `kind` is `concurrency` (calls), `run_concurrency` (runs) or `throttle`. `key` is its expression, None if it has
    none, `value` what that gave for this run. `taken` of `limit` places are held, by `holders` (the longest, at most
    ten). `free_at` is when a throttle lets the next start through. `line_place` is that of its line among the lines
    that take turns at this limit, 0 if it does not stand among them; `lines` is how many there are, those of other
    functions that share the limit too.
    """

    kind: str
    scope: str = "fn"
    key: str | None = None
    value: str = ""
    limit: int = 0
    period_ms: int | None = None
    taken: int = 0
    open: bool = True
    free_at: int | None = None
    line_place: int = 0
    lines: int = 0
    holders: list[Doing] = []


class Queued(msgspec.Struct, kw_only=True):
    """A place in a queue: `ahead` is how many go before it, None if only the store knows.

    `function_id`, `part` and `ref` say where the store is to count.
    """

    function_id: str
    part: str
    ref: ItemRef
    ahead: int | None = None


class Cause(msgspec.Struct, tag_field="cause", kw_only=True):
    """One thing that a run waits for. `text` says it in a sentence. `step` is the name of its step, if it is one."""

    n: int = 0
    step: str = ""
    text: str = ""


class Called(Cause, tag="call", kw_only=True):
    """A call to the app is under way. `recoveries` counts restarts of the server in the middle of it."""

    app: str
    since: int
    attempt: int
    attempts: int
    recoveries: int = 0


class Requested(Cause, tag="request", kw_only=True):
    """A request for a step is under way."""

    method: str
    host: str
    since: int
    attempt: int
    attempts: int


class AtGate(Cause, tag="gate", kw_only=True):
    """Too many calls are under way: of the app (`most`, and `young_most` that are young), or in all for requests.

    `full` is `young`, `all`, `half` (a function may have half while another waits), `stopping`, `no_worker` (none is
    connected for an app that is called through workers), `capacity` (those that are take no more calls), or empty:
    then its turn comes at once.
    """

    of: str
    full: str
    calls: int
    most: int
    young: int
    young_most: int
    queued: Queued
    free_at: int | None = None


class InLine(Cause, tag="line", kw_only=True):
    """Limits of the function stand before the call."""

    limits: list[Limit]
    queued: Queued
    free_at: int | None = None


class PutOff(Cause, tag="backoff", kw_only=True):
    """An attempt failed; the next one, `attempt` of `attempts`, is made at `until`. `error` is the last one's."""

    until: int
    attempt: int
    attempts: int
    error: str | None = None


class Scheduled(Cause, tag="future", kw_only=True):
    """Its event's own time has not come."""

    until: int


class Held(Cause, tag="paused", kw_only=True):
    """Its function is paused."""

    function: str


class Asleep(Cause, tag="sleep", kw_only=True):
    """A sleep."""

    until: int


class NearMiss(msgspec.Struct):
    """An event of the awaited name for which the expression was false. `error` says if it could not be computed."""

    event_id: str
    received_at: int
    compared: list[Compared] = []
    error: str | None = None


class AwaitsEvent(Cause, tag="event", kw_only=True):
    """A wait for an event.

    `shown` is the expression with the values of the run's own event. `path` and `value` are the equality by which it
    is found. `since` is when it began, `after` the receipt after which events count. Of `looked_at` events of the name
    since then `missed` did not meet it, `near_misses` are the newest of those; None before somebody has looked.
    """

    event: str
    expression: str | None
    shown: str | None
    path: str
    value: str
    since: int
    after: int
    until: int
    looked_at: int | None = None
    missed: int | None = None
    near_misses: list[NearMiss] = []


class AwaitsRun(Cause, tag="invoke", kw_only=True):
    """A wait for the run of an invoked function. `run_id` is None as long as there is none. `why` is about that run."""

    until: int
    run_id: str | None = None
    why: Why | None = None


class AwaitsSignal(Cause, tag="signal", kw_only=True):
    """A wait for a signal; `taken` if another wait has taken the signal over, and it can only time out."""

    signal: str
    until: int
    taken: bool = False


class SetAside(Cause, tag="set_aside", kw_only=True):
    """The server has failed to handle it several times, and leaves it alone until it is restarted."""


AnyCause = (
    Called
    | Requested
    | AtGate
    | InLine
    | PutOff
    | Scheduled
    | Held
    | Asleep
    | AwaitsEvent
    | AwaitsRun
    | AwaitsSignal
    | SetAside
)


class Deadline(msgspec.Struct, tag_field="guard", tag="deadline", kw_only=True):
    """`timeouts.start` or `timeouts.finish` (`which`): the run is cancelled at `at`."""

    which: str
    at: int
    text: str = ""


class Cancellation(msgspec.Struct, tag_field="guard", tag="cancellation", kw_only=True):
    """An event that cancels the run; `until` is None for ever."""

    event: str
    expression: str | None
    until: int | None
    text: str = ""


class AppState(msgspec.Struct, kw_only=True):
    """The app of a run. `error` says why its last sync failed, or is empty."""

    name: str
    url: str
    error: str
    synced_at: int


class Why(msgspec.Struct, kw_only=True):
    """Why a run waits, or how it has ended.

    `causes` begin with what is nearest to its next step; `more` were left out. `next_at` is the next moment at which
    something happens by itself, None if that hangs on others. `notes` are further things to know. `trigger` is the
    body of the run's first event, for whoever goes on looking. `reason` says why it has ended so, `error` is that of a
    run that failed, with its name, and `holder` the run because of which it was skipped.
    """

    run_id: str
    function: str
    status: str
    text: str = ""
    queued_at: int
    started_at: int | None = None
    ended_at: int | None = None
    reason: str | None = None
    error: str | None = None
    holder: str | None = None
    next_at: int | None = None
    causes: list[AnyCause] = []
    more: int = 0
    guards: list[Deadline | Cancellation] = []
    app: AppState | None = None
    notes: list[str] = []
    trigger: bytes = b""
