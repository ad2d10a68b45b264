"""Running a run again, from its start or from one of its steps, and perhaps with other input for that step.

Which steps a run knows is read from what is stored of it: those that have finished, and those that were planned or
failed. What a rerun cannot do is refused here, before anything is changed.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.model import FromStep
from perdure.errors import RequestError
from perdure.protocol.durations import format_time
from perdure.protocol.ids import hash_step_id, is_ulid
from perdure.protocol.memos import takes_input
from perdure.protocol.payloads import NestedTooDeeply, json_text, without_lone_surrogates
from perdure.reading.port import RunRecord, WholeRun
from perdure.reading.timeline import FINISHING, read_timeline
from perdure.server.context import Server
from perdure.server.http import read_body
from perdure.server.json import JsonResponse
from perdure.shard.commands import Rerun

MAX_BYTES = 4 * 1024 * 1024
"""Most that a request may hold, edited input and all: as much as the state that a call carries."""
_SHOWN_STEPS = 20
_CODES = {400: "invalid_request", 404: "not_found", 409: "validation_error", 422: "validation_error"}

_CODE = FINISHING | {"StepPlanned"}
_TAKING_TYPES = frozenset(("", "step.ai.wrap"))
"""Steps that an SDK runs with edited input: code in the app that is given arguments. For all others it goes past the
input; a request to a model (`step.ai.infer`) with edited input it never reports at all (JavaScript 3.54 and 4.24)."""


class WantedStep(msgspec.Struct, frozen=True):
    """The step that a rerun is to begin at, as the caller names it: by its id on the wire, by the id in the code, or by
    its name. `input` is JSON, None to leave it as the code gives it."""

    named: str
    input: bytes | None = None


class KnownStep(msgspec.Struct, frozen=True, gc=False):
    """A step of the old run. `op` is the operation that last told of it, `type` the SDK's own word for its kind."""

    id: str
    name: str
    op: str
    type: str = ""


async def rerun_run(server: Server, run_id: str, wanted: WantedStep | None = None) -> str | None:
    """Run a run again; the new run's id, or None if there is no such run.

    Raises `RequestError`: 404 for a step that the run does not know, 400 for input that is no JSON list, 422 for
    input where none is taken, 409 if the function is not served any more.
    """
    start = None
    if wanted is not None:
        whole = await server.reader.whole_run(run_id)
        if whole is None:
            return None
        start = _start(server, whole, wanted)
    new = await server.submit(Rerun(run=run_id, from_step=start))
    return None if new is None else str(new)


def _start(server: Server, whole: WholeRun, wanted: WantedStep) -> FromStep:
    steps = known_steps(whole)
    step = find_step(steps, wanted.named)
    if step is None:
        raise RequestError(404, _no_step(whole.run, steps, wanted.named))
    if wanted.input is None:
        return FromStep(step.id, step.name)
    arguments = read_arguments(wanted.input)
    if step.op not in _CODE or step.type not in _TAKING_TYPES:
        kind = step.type or step.op
        raise RequestError(
            422,
            f"The step {step.name[:100]!r} takes no other input ({kind}): only `step.run` and `step.ai.wrap` do.",
        )
    sdk = _sdk_of(server, whole.run)
    if not takes_input(sdk):
        raise RequestError(
            422,
            f"The SDK of the app ({sdk or 'unknown'}) cannot run a step with other input: it would take the input for "
            "the step's result. Run it again from this step without input, or send another event.",
        )
    return FromStep(step.id, step.name, msgspec.Raw(arguments))


def _sdk_of(server: Server, run: RunRecord) -> str:
    state = server.shard.state
    function = state.functions.by_id.get(run.function_id)
    app = None if function is None else state.apps.get(function.app_id)
    return "" if app is None else app.sdk


def known_steps(whole: WholeRun) -> dict[str, KnownStep]:
    """The steps of a run by id: finished ones in the order of the stack, then those that were only begun or planned."""
    told = {activity.step_id: activity for activity in read_timeline(whole).activities if activity.step_id}
    steps = {}
    for step in whole.steps:
        type = told[step.id].type if step.id in told else ""
        steps[step.id] = KnownStep(step.id, step.name, step.op, type)
    for step_id, activity in told.items():
        steps.setdefault(step_id, KnownStep(step_id, activity.name, activity.op, activity.type))
    return steps


def find_step(steps: dict[str, KnownStep], named: str) -> KnownStep | None:
    """The step of this id (hashed, or as the code has it: `again:1` is the second use of `again`), or of this name.

    Raises `RequestError` 422 if several have the name.
    """
    found = steps.get(named) or steps.get(hash_step_id(named))
    if found is not None:
        return found
    same = [step for step in steps.values() if step.name == named]
    if len(same) > 1:
        ids = ", ".join(step.id for step in same[:_SHOWN_STEPS])
        raise RequestError(422, f"{len(same)} steps are called {named[:100]!r}; say which by its id: {ids}.")
    return same[0] if same else None


def _no_step(run: RunRecord, steps: dict[str, KnownStep], named: str) -> str:
    if not steps:
        return f"Run {run.id} has no step {named[:100]!r}: it has not run any. Run it again from its start."
    shown = ", ".join(step.name[:100] or step.id for step in list(steps.values())[:_SHOWN_STEPS])
    more = f" and {len(steps) - _SHOWN_STEPS} more" if len(steps) > _SHOWN_STEPS else ""
    return f"Run {run.id} has no step {named[:100]!r}. Its steps are: {shown}{more}."


def read_arguments(text: bytes) -> bytes:
    """The edited input of a step. Raises `RequestError` 400 if it is no JSON list."""
    try:
        value = json_text(text)
    except NestedTooDeeply as error:
        raise RequestError(400, f"input is wrong: {error}") from None
    if value is None or value[:1] != b"[":
        raise RequestError(400, 'input must be a JSON list of the step\'s arguments, such as [42, "x"].')
    return without_lone_surrogates(value)


# REST


class _FromStep(msgspec.Struct, rename="camel"):
    step_id: str
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Body(msgspec.Struct, rename="camel"):
    from_step: _FromStep | None = None


def rerun_route(server: Server) -> Route:
    """`POST /v2/runs/{runId}/rerun`."""

    async def handle(request: Request) -> Response:
        try:
            new = await _rerun(server, request)
        except RequestError as error:
            code = error.code or _CODES.get(error.status, "internal_error")
            return JsonResponse({"errors": [{"code": code, "message": error.message}]}, error.status)
        fetched = format_time(server.clock.now())
        return JsonResponse({"data": {"runId": new}, "metadata": {"fetchedAt": fetched}})

    return Route("/v2/runs/{run_id}/rerun", handle, methods=["POST"])


async def _rerun(server: Server, request: Request) -> str:
    run_id: str = request.path_params["run_id"]
    if not is_ulid(run_id):
        raise RequestError(400, f"Invalid run ID: {run_id[:100]}", "invalid_field_format")
    wanted = _read(await read_body(request.receive, MAX_BYTES, server.intake))
    new = await rerun_run(server, run_id.upper(), wanted)
    if new is None:
        raise RequestError(404, f"There is no run {run_id}.")
    return new


def _read(body: bytes) -> WantedStep | None:
    try:
        text = json_text(body or b"{}")
        if text is None:
            raise RequestError(400, "the request body is not JSON")
        given = msgspec.json.decode(without_lone_surrogates(text), type=_Body).from_step
        if given is None:
            return None
        return WantedStep(given.step_id, None if given.input is msgspec.UNSET else _input(bytes(given.input)))
    except (msgspec.MsgspecError, NestedTooDeeply) as error:
        raise RequestError(400, f"the request body is wrong: {error}") from None


def _input(given: bytes) -> bytes | None:
    """The protocol has a string that holds JSON; the JSON itself is taken as well."""
    if given == b"null":
        return None
    return msgspec.json.decode(given, type=str).encode() if given[:1] == b'"' else given
