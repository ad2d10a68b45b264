"""The server's public API as these commands use it: REST (`/v1`, `/e`, `/invoke`) and GraphQL (`/v0/gql`)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from perdure.protocol.durations import format_time, parse_time
from perdure.protocol.ids import is_ulid
from perdure.terminal import queries
from perdure.terminal.connection import Connection
from perdure.terminal.failures import NotThere, Refused, WrongKey
from perdure.terminal.records import (
    ENDED,
    NULL,
    App,
    ErrorText,
    Function,
    LogPage,
    Run,
    SentEvent,
    Span,
    StepReport,
    TracedRun,
)

PAGE = 400
"""Most runs that the server gives at once."""
NO_KEY = "dev"
"""The event key of those who have none: a server without keys takes any."""

T = TypeVar("T")


class _RunState(msgspec.Struct):
    run_id: str
    status: str
    output: msgspec.Raw = NULL
    steps: list[StepReport] = []


class _Metadata(msgspec.Struct):
    fetched_at: str


class _Wrapped(msgspec.Struct):
    data: msgspec.Raw
    metadata: _Metadata


class _Taken(msgspec.Struct):
    ids: list[str] = []
    id: str = ""
    error: str | None = None


class _Node(msgspec.Struct):
    node: Run


class _PageInfo(msgspec.Struct):
    hasNextPage: bool
    endCursor: str | None


class _Runs(msgspec.Struct):
    edges: list[_Node]
    pageInfo: _PageInfo


class _Message(msgspec.Struct):
    message: str


class _Result(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None
    errors: list[_Message] = []


class _Output(msgspec.Struct):
    input: str | None = None
    data: str | None = None
    error: ErrorText | None = None


class Client:
    """Talks to one server. Every method raises a `TerminalError` for what did not work."""

    def __init__(self, connection: Connection, event_key: str | None = None) -> None:
        self._http = connection
        self._event_key = event_key
        self._outputs: dict[str, _Output] = {}

    # Events

    def send(self, event: dict[str, object]) -> SentEvent:
        """Send an event; with the runs that it has started so far."""
        path = f"/e/{quote(self._event_key or NO_KEY, safe='')}"
        answer = self._http.request("POST", path, msgspec.json.encode(event))
        if answer.status == 401:
            raise WrongKey(
                "The server takes events under an event key only; give it with --event-key or PERDURE_EVENT_KEY."
                if self._event_key is None
                else "The server knows another event key; check --event-key and PERDURE_EVENT_KEY."
            )
        taken = self._decode(answer.body, _Taken)
        if answer.status != 200 or not taken.ids:
            raise Refused(f"The server did not take the event: {taken.error or answer.error()}")
        return SentEvent(taken.ids[0], str(event["name"]), self._started(taken.ids[0]))

    def _started(self, event_id: str) -> list[str] | None:
        try:
            return [run.run_id for run in self.runs_of_event(event_id)]
        except WrongKey:
            return None

    def runs_of_event(self, event_id: str) -> list[_RunState]:
        """The runs that an event started."""
        return self._rest(f"/v1/events/{event_id}/runs", list[_RunState])[0]

    def invoke(self, slug: str, data: msgspec.Raw, user: msgspec.Raw | None = None) -> str:
        """Start a run of a function; the id of the event that stands for it."""
        given = {"data": data} if user is None else {"data": data, "user": user}
        path = f"/invoke/{quote(slug, safe='')}"
        answer = self._http.request("POST", path, msgspec.json.encode(given))
        if answer.status == 404:
            raise self._unknown_function(slug)
        if answer.status != 200:
            raise Refused(f"The server did not start it: {answer.error()}")
        taken: _Taken = self._decode(answer.body, _Taken)
        return taken.id

    # Runs

    def now(self) -> int:
        """The server's time, in ms since the epoch. Its clock is the one that its records were made with."""
        path = "/v1/events?limit=1&received_before=1970-01-02T00:00:00Z"
        return self._rest(path, msgspec.Raw)[1]

    def state(self, run_id: str) -> tuple[_RunState, int]:
        """A run's status and output, and the server's time. Raises `NotThere` for an unknown one."""
        if not is_ulid(run_id.upper()):
            raise NotThere(
                f"{run_id[:60]!r} is not the id of a run: those have 26 letters and digits; see 'perdure runs'."
            )
        run_id = run_id.upper()
        try:
            return self._rest(
                f"/v1/runs/{run_id}", _RunState, f"There is no run {run_id}; see 'perdure runs'."
            )
        except NotThere:
            if self.why_event(run_id) is None:
                raise
            raise NotThere(
                f"{run_id} is the id of an event, not of a run; 'perdure why {run_id}' says what became of it."
            ) from None

    def why(self, run_id: str, near_misses: int = 20) -> tuple[msgspec.Raw, int]:
        """Why a run waits, as the server says it, and the server's time. Raises `NotThere` for an unknown one."""
        state, _ = self.state(run_id)
        path = f"/v1/runs/{state.run_id}/why?near_misses={near_misses}"
        return self._rest(path, msgspec.Raw, "This server does not say why a run waits.")

    def export(self, run_id: str) -> msgspec.Raw:
        """A run as one document, as the server makes it. Raises `NotThere` for an unknown one."""
        state, _ = self.state(run_id)
        answer = self._http.request("GET", f"/v1/runs/{state.run_id}/export")
        if answer.status == 404:
            raise Refused("This server exports no runs.")
        if answer.status != 200:
            raise Refused(f"The server did not export it: {answer.error()}")
        self._decode(answer.body, msgspec.Raw)
        return msgspec.Raw(answer.body)

    def logs(self, run_id: str, after: int = 0) -> LogPage:
        """A page of what the run's steps have logged, after that line. Raises `NotThere` for an unknown run."""
        path = f"/v1/runs/{run_id.upper()}/logs?after={after}"
        return self._rest(path, LogPage, f"There is no run {run_id}, or this server keeps no log lines.")[0]

    def why_event(self, event_id: str) -> msgspec.Raw | None:
        """What became of an event, as the server says it; None if there is no such event."""
        if not is_ulid(event_id.upper()):
            return None
        try:
            return self._rest(f"/v1/events/{event_id.upper()}/why", msgspec.Raw, "unknown")[0]
        except NotThere:
            return None

    def clock(self, move: dict[str, str] | None = None) -> msgspec.Raw:
        """Where the server's clock stands, as the server says it, and what came of a `move` if one is wanted."""
        body = None if move is None else msgspec.json.encode(move)
        answer = self._http.request("GET" if body is None else "POST", "/dev/clock", body)
        if answer.status == 404:
            raise Refused("This server does not tell of its clock.")
        if answer.status != 200:
            raise Refused(f"The server refused this: {answer.error()}")
        return msgspec.Raw(answer.body)

    def ask(self, method: str, path: str, body: bytes | None = None) -> msgspec.Raw:
        """The data of any request to `/v1`. Raises `Refused`, with the server's own words, for what it refuses."""
        answer = self._http.request(method, path, body)
        if answer.status != 200:
            raise Refused(f"The server refused this: {answer.error()}")
        wrapped: _Wrapped = self._decode(answer.body, _Wrapped)
        return wrapped.data

    def read(self, data: msgspec.Raw, kind: type[T]) -> T:
        """Data of the server's as a record. Raises a `TerminalError` if it is something else."""
        found: T = self._decode(data, kind)
        return found

    def runs(
        self, limit: int, since: int = 0, statuses: Sequence[str] = (), function_ids: Sequence[str] = ()
    ) -> list[Run]:
        """The newest runs, at most `limit`, queued at or after `since` (ms since the epoch)."""
        wanted: dict[str, object] = {"from": format_time(since)}
        if statuses:
            wanted["status"] = list(statuses)
        if function_ids:
            wanted["functionIDs"] = list(function_ids)
        found: list[Run] = []
        after: str | None = None
        while len(found) < limit:
            variables = {"first": min(PAGE, limit - len(found)), "after": after, "filter": wanted}
            page = self._graphql(queries.RUNS, "runs", _Runs, **variables)
            found += [edge.node for edge in page.edges]
            after = page.pageInfo.endCursor
            if not page.pageInfo.hasNextPage or after is None:
                break
        return found

    def trace(self, run_id: str) -> tuple[TracedRun, int]:
        """A run with its trace and results, and the server's time."""
        state, now = self.state(run_id)
        run = self._graphql(queries.TRACE, "run", TracedRun, id=state.run_id)
        run.steps = state.steps
        spans = [span for top in ([run.trace] if run.trace else []) for span in _all_spans(top)]
        self._read_outputs(spans)
        if run.trace is not None:
            known = self._outputs.get(str(run.trace.output_id))
            run.output, run.error = run.trace.output, run.trace.error
            run.events = msgspec.Raw(known.input.encode()) if known and known.input else NULL
            # The root's result is the run's: it is told once.
            run.trace.output, run.trace.error = NULL, None
        for span in spans:
            if span.status not in ENDED:
                self._outputs.pop(str(span.output_id), None)
            span.output_id = msgspec.UNSET
        return run, now

    def _read_outputs(self, spans: list[Span]) -> None:
        """Fill in results. Those of what has ended never change, and are asked for once."""
        names = dict.fromkeys(span.output_id for span in spans if isinstance(span.output_id, str))
        missing = [name for name in names if name not in self._outputs]
        for at in range(0, len(missing), queries.OUTPUTS_AT_ONCE):
            part = missing[at : at + queries.OUTPUTS_AT_ONCE]
            given = {f"i{n}": name for n, name in enumerate(part)}
            found = self._answered(queries.outputs(len(part)), given).data or {}
            for n, name in enumerate(part):
                self._outputs[name] = self._decode(found.get(f"o{n}", NULL), _Output | None) or _Output()
        for span in spans:
            known = self._outputs.get(str(span.output_id))
            if known is not None:
                span.output = msgspec.Raw(known.data.encode()) if known.data is not None else NULL
                edited = known.input if span.step_id else None
                span.input = msgspec.Raw(edited.encode()) if edited is not None else NULL
                span.error = known.error

    def cancel(self, run_id: str) -> str:
        """Cancel a run. Its status afterwards: that of one which had ended before stays."""
        state, _ = self.state(run_id)
        if state.status.upper() in ENDED:
            return state.status.upper()
        answer = self._http.request("DELETE", f"/v1/runs/{state.run_id}")
        if answer.status != 200:
            raise Refused(f"The server did not cancel it: {answer.error()}")
        return self.state(run_id)[0].status.upper()

    def rerun(self, run_id: str, step: str | None = None, arguments: msgspec.Raw | None = None) -> str:
        """Run a run again from its events; the new run's id.

        From a `step` if one is named, which runs with other `arguments` (a JSON list) if they are given.
        """
        state, _ = self.state(run_id)
        given = None if arguments is None else bytes(arguments).decode()
        start = None if step is None else {"stepID": step, "input": given}
        return self._graphql(queries.RERUN, "rerun", str, **{"id": state.run_id, "from": start})

    # Apps and functions

    def apps(self) -> list[App]:
        """The apps with their functions, by name."""
        self.now()  # asks for the key
        return sorted(self._apps(), key=lambda app: (app.name, app.id))

    def _apps(self) -> list[App]:
        apps = self._graphql(queries.APPS, "apps", list[App])
        for function in (each for app in apps for each in app.functions):
            text: str | None = self._decode(function.overrides, str | None)
            function.overrides = NULL if text is None else msgspec.Raw(text.encode())
        return apps

    def function(self, named: str) -> Function:
        """The function of a slug, an id or a name, or of a slug without the app's name before it.

        Raises `NotThere`, with what comes near, for one that is unknown or not the only one.
        """
        apps = self._apps()
        functions = [(app, function) for app in apps for function in app.functions]
        for _, function in functions:
            if named in (function.slug, function.id):
                return function
        found = [
            function
            for app, function in functions
            if function.slug == f"{app.name}-{named}" or function.name.casefold() == named.casefold()
        ]
        if len(found) == 1:
            return found[0]
        if found:
            slugs = ", ".join(sorted(function.slug for function in found))
            raise NotThere(f"{named[:100]!r} may be any of {slugs}; name one of them.")
        raise self._unknown_function(named, [function.slug for _, function in functions])

    def _unknown_function(self, named: str, slugs: Iterable[str] = ()) -> NotThere:
        near = difflib.get_close_matches(named, list(slugs), n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}?" if near else "See 'perdure functions'."
        return NotThere(f"There is no function {named[:100]!r}. {hint}")

    # Requests

    def _rest(self, path: str, kind: type[T], missing: str | None = None) -> tuple[T, int]:
        """The data of a GET, and the server's time."""
        answer = self._http.request("GET", path)
        if answer.status == 404 and missing is not None:
            raise NotThere(missing)
        if answer.status == 404:
            raise self._http.stranger()
        if answer.status != 200:
            raise Refused(f"The server refused this: {answer.error()}")
        wrapped = self._decode(answer.body, _Wrapped)
        return self._decode(wrapped.data, kind), parse_time(wrapped.metadata.fetched_at)

    def _graphql(self, query: str, field: str, kind: type[T], **variables: object) -> T:
        result = self._answered(query, variables)
        found = (result.data or {}).get(field, NULL)
        if bytes(found) == b"null":
            raise Refused(
                f"The server refused this: {result.errors[0].message if result.errors else 'no reason given'}"
            )
        decoded: T = self._decode(found, kind)
        return decoded

    def _answered(self, query: str, variables: dict[str, Any]) -> _Result:
        body = msgspec.json.encode({"query": query, "variables": variables})
        answer = self._http.request("POST", "/v0/gql", body)
        if answer.status == 404:
            raise self._http.stranger()
        result: _Result = self._decode(answer.body, _Result)
        return result

    def _decode(self, text: bytes | msgspec.Raw, kind: Any) -> Any:
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError:
            raise self._http.stranger() from None


def _all_spans(span: Span) -> Iterator[Span]:
    yield span
    for child in span.children:
        yield from _all_spans(child)
