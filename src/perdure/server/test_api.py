"""Helps for test suites, which only `perdure dev` offers: limits of single functions, and a clean slate."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.errors import RequestError
from perdure.server.context import Server
from perdure.server.json import JsonResponse
from perdure.server.routing import route_of
from perdure.shard.commands import CancelRun, CatchUp, ForgetKeys, OverrideLimits, PauseFunction

_STEP_LIMIT_MAX = 10_000
_STATE_LIMIT_MAX = 32 * 1024 * 1024
_RESET_PAGE = 1_000
_RESET_PASSES = 20


def test_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    route = partial(route_of, server)

    async def step_limit(server: Server, request: Request) -> Response:
        return await _limit(server, request, "steps_per_run", _STEP_LIMIT_MAX)

    async def state_size_limit(server: Server, request: Request) -> Response:
        return await _limit(server, request, "state_bytes", _STATE_LIMIT_MAX)

    return [
        route("/fn/step-limit", POST=step_limit, DELETE=step_limit),
        route("/fn/state-size-limit", POST=state_size_limit, DELETE=state_size_limit),
        route("/test", GET=present),
        route("/test/reset", POST=reset),
        route("/test/function/pause", POST=pause),
        route("/test/function/runs/cancel", POST=cancel),
        route("/test/queue/function-queue-size", GET=queue_size),
    ]


async def present(_: Server, __: Request) -> Response:
    """The test API is there."""
    return JsonResponse({"ok": True})


async def reset(server: Server, _: Request) -> Response:
    """Drop all that is to happen: live runs with their queues and waits, keys that are taken, limits that
    were set.

    Events accepted before it are matched first, and so are those that the server makes meanwhile: none of them starts
    a run afterwards. Where others go on sending events it takes `_RESET_PASSES` looks and leaves it at that.

    No event tells of the runs that end so. What a debounce or a batch holds stays with it, as do apps, stored events
    and the history. Calls under way are not stopped; what they answer is ignored.
    """
    cancelled, receipt = 0, None
    for _pass in range(_RESET_PASSES):
        before, receipt = receipt, await server.submit(CatchUp())
        ended = await _cancel_live(server)
        cancelled += ended
        if not ended and receipt == before:
            break
    await server.submit(ForgetKeys())
    return JsonResponse({"ok": True, "cancelled": cancelled})


async def _cancel_live(server: Server) -> int:
    """Cancel the runs that are live without a word. Gives back how many there were."""
    after, cancelled = "", 0
    while run_ids := await server.reader.live_runs(after=after, limit=_RESET_PAGE):
        for future in [server.submit(CancelRun(run=run_id, quiet=True)) for run_id in run_ids]:
            await future
        after = run_ids[-1]
        cancelled += len(run_ids)
    return cancelled


async def _limit(server: Server, request: Request, name: str, most: int) -> Response:
    """Set (POST) or remove (DELETE) a limit of one function."""
    slug = request.query_params.get("functionId", "")
    value: int | None = None
    if request.method == "POST":
        text = request.query_params.get("limit", "")
        if not text.isdecimal() or not 0 < int(text[:12]) <= most:
            raise RequestError(400, f"limit is {text[:40]!r}; it must be a number from 1 to {most}")
        value = int(text)
    steps = value if name == "steps_per_run" else None
    state_bytes = value if name == "state_bytes" else None
    if not await server.submit(OverrideLimits(slug=slug, steps=steps, state_bytes=state_bytes, change=name)):
        raise RequestError(404, f"could not find function with ID: {slug}")
    return JsonResponse({"ok": True})


async def pause(server: Server, request: Request) -> Response:
    """Hold new runs of a function (`fnId`, slug or id)."""
    function = _function(server, request)
    await server.submit(PauseFunction(slug=function.id, pause=Pause.HOLD))
    return JsonResponse({"ok": True})


async def cancel(server: Server, request: Request) -> Response:
    """Cancel the run given as `runId` (or `run_id`)."""
    run_id = request.query_params.get("runId") or request.query_params.get("run_id") or ""
    if await server.submit(CancelRun(run=run_id)) is None:
        raise RequestError(404, f"run not found: {run_id}")
    return JsonResponse({"ok": True})


async def queue_size(server: Server, request: Request) -> Response:
    """How many items of a function (`fnId`, slug or id) wait in memory."""
    size = server.shard.state.queue_size(_function(server, request).id)
    return JsonResponse({"count": size, "size": size})


def _function(server: Server, request: Request) -> Function:
    """The function that is named by `fnId` (or `functionId`)."""
    name = request.query_params.get("fnId") or request.query_params.get("functionId") or ""
    function = server.shard.state.functions.find(name)
    if function is None:
        raise RequestError(404, f"could not find function with ID: {name}")
    return function
