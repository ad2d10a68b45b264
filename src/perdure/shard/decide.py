"""One function for each command: what it changes, by the state in memory at this moment.

Each runs to its end without waiting. It first finds out what follows (planning, which may raise and has
changed nothing by then), and then applies it. Answers to the caller are effects of the batch: they leave
after the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from perdure.core import planning
from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.core.history import MetadataNote, encode
from perdure.core.model import Item, ItemKind, Part, Run
from perdure.core.operations import SIGNAL_EVENT, SIGNAL_PATH
from perdure.core.plan import Context, Plan
from perdure.core.requests import read_request_answer, request_op
from perdure.errors import RequestError
from perdure.protocol.calls import UNDELIVERED, CallAnswer, CallFailure
from perdure.protocol.failures import OpError
from perdure.protocol.function_rules import load_function
from perdure.protocol.ids import app_uuid, function_uuid
from perdure.protocol.memos import signal_memo
from perdure.protocol.op_options import signal_options
from perdure.protocol.registration import RegistrationError
from perdure.protocol.replies import OpsReply, read_reply
from perdure.shard import commands as c
from perdure.shard.admitting import tell_invoker
from perdure.shard.job import JobState
from perdure.shard.jobs import Page, end_job, go_on, put_job
from perdure.shard.keys import RATE, TAKEN
from perdure.shard.looking_back import look_back
from perdure.shard.registered import make_function, overridden
from perdure.shard.rerunning import create_rerun
from perdure.shard.rollups import PutRollups, put_rollups
from perdure.shard.rows import CONNECT, AppRow, FunctionRow
from perdure.shard.scheduling import put_schedules
from perdure.shard.state import State
from perdure.shard.step_logs import AddStepLogs, add_step_logs
from perdure.shard.travelling import move_clock


def answer(state: State, command: c.Command, value: object) -> None:
    """Answer the caller once the batch is committed."""
    if command.future is not None:
        state.batch.effects.append(partial(_set_result, command.future, value))


def refuse(state: State, command: c.Command, error: Exception) -> None:
    """Tell the caller, once the batch is committed, that it cannot be done."""
    if command.future is not None:
        state.batch.effects.append(partial(_set_exception, command.future, error))


def _set_result(future: asyncio.Future[object], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: asyncio.Future[object], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def context(state: State, run: Run, signals: dict[str, tuple[str, int] | None] | None = None) -> Context:
    """What planning needs to know about the shard now."""
    function = state.functions.by_id.get(run.function_id)

    def find(name: str) -> str | None:
        found = state.functions.find(name)
        return None if found is None else found.id

    return Context(
        state.now,
        state.next_receipt - 1,
        function.attempts if function is not None else 1,
        state.settings_for(run),
        find,
        lambda: int.from_bytes(state.entropy(4)) / 2**32,
        signals or {},
        state.ahead,
    )


def call_ended(state: State, command: c.CallEnded) -> None:
    """The answer of an app, or of the world for a request, unless it is for an older call than the newest."""
    tell_stored(state, command)
    run = state.memory.get(command.run)
    item = run.items.get(command.n) if run is not None else None
    result = command.result
    if run is None or item is None or result is None:
        return
    if not item.in_flight or item.generation != command.generation:
        return
    if isinstance(result, CallFailure) and result.code in UNDELIVERED:
        state.apply(planning.plan_undelivered(run, item, state.now))
        return
    if item.kind is ItemKind.REQUEST:
        state.apply(_plan_request(state, run, item, command))
        return
    status = getattr(result, "status", 0)
    reply = command.reply or read_reply(result, state.real_now, state.settings.steps_per_run)
    signals = dict(command.signals or {})
    for name in signal_names(reply, state.now):
        signals[name] = signal_holder(state, name, signals.get(name))
    plan = planning.plan_reply(run, item, reply, status, context(state, run, signals))
    state.apply(plan)


def tell_stored(state: State, command: c.CallEnded) -> None:
    """Tell whoever brought an answer once what follows from it is on disk."""
    if isinstance(command.result, CallAnswer) and command.result.on_stored is not None:
        state.batch.effects.append(command.result.on_stored)


def call_wanted(state: State, command: c.CallWanted) -> None:
    """Say whether a call under way is still wanted."""
    run = state.memory.get(command.run)
    item = None if run is None or run.status.ended else run.items.get(command.n)
    wanted = item is not None and item.in_flight and item.generation == command.generation
    answer(state, command, wanted)


def signal_names(reply: object, now: int) -> list[str]:
    """The signals that the operations of an answer wait for.

    An operation that cannot be carried out has none; planning will say what is wrong with it.
    """
    names: list[str] = []
    for op in reply.ops if isinstance(reply, OpsReply) else ():
        if op.op == "WaitForSignal":
            with suppress(OpError):
                names.append(signal_options(op, now).signal)
    return names


def signal_holder(state: State, name: str, read: tuple[str, int] | None) -> tuple[str, int] | None:
    """Who waits for a signal now.

    Memory knows best of runs in memory, `read` is what the store said of others.
    """
    in_memory = state.memory.waits_in_memory(SIGNAL_EVENT, SIGNAL_PATH, name)
    if in_memory:
        return min(in_memory)
    if read is None:
        return None
    run = state.memory.get(read[0])
    return read if run is not None and read[1] in run.waits else None


def _plan_request(state: State, run: Run, item: Item, command: c.CallEnded) -> Plan:
    assert item.data is not None
    assert command.result is not None
    op = request_op(item.data)
    url = getattr(command.result, "url", "")
    outcome = read_request_answer(op, url, command.result)
    rules = context(state, run)
    if outcome.error is not None and item.attempt + 1 < rules.attempts:
        return planning.plan_request_retry(run, item, outcome.error, rules)
    failed = outcome.error is not None
    return planning.plan_request_answer(run, item, outcome.memo, op, state.now, rules.settings, failed)


def checkpoint(state: State, command: c.Checkpoint) -> None:
    """Record steps that a running call posts; refuse them if another call has taken over."""
    run = state.memory.get(command.run)
    refusal = _refusal(run, command)
    if refusal is not None or run is None:
        refuse(state, command, refusal or RequestError(400, "run not found in state store"))
        return
    item = run.items[command.n]
    plan = planning.plan_checkpoint(run, item, command.ops, context(state, run))
    state.apply(plan)
    if plan.outcome is not None and plan.outcome.error is not None:
        refuse(state, command, RequestError(413, plan.outcome.error.message, data={"run_id": run.id}))
    else:
        answer(state, command, None)


def _refusal(run: Run | None, command: c.Checkpoint) -> RequestError | None:
    data = {"run_id": command.run}
    if run is None:
        return RequestError(400, "run not found in state store", data=data)
    if run.status.ended:
        return RequestError(409, f"stale dispatch: the run has ended ({run.status.value})", data=data)
    item = run.items.get(command.n)
    if item is None:
        return RequestError(409, "stale dispatch: queue item not found", data=data)
    if not item.in_flight or (command.generation is not None and command.generation != item.generation):
        message = (
            f"stale dispatch: dispatch generation {command.generation} does not match "
            f"queue item generation {item.generation}"
        )
        return RequestError(409, message, data=data)
    for op in command.ops:
        if not planning.checkpointable(op):
            return RequestError(400, f"cannot checkpoint async steps: {op.op}", data=data)
    return None


def cancel_run(state: State, command: c.CancelRun) -> None:
    """Cancel a run, unless it has ended. The caller learns its status before."""
    run = state.memory.get(command.run)
    if run is None:
        answer(state, command, None)
        return
    before = run.status
    if not before.ended:
        state.apply(
            planning.plan_cancel(run, state.now, "A person or a program has cancelled it.", command.quiet)
        )
    answer(state, command, before)


def rerun(state: State, command: c.Rerun) -> None:
    """Run a run again. The caller learns the new run's id."""
    try:
        answer(state, command, create_rerun(state, command))
    except RequestError as error:
        refuse(state, command, error)


def add_metadata(state: State, command: c.AddMetadata) -> None:
    """Write down values for a run, ended or not."""
    run = state.memory.get(command.run)
    request = command.request
    if run is None or request is None:
        answer(state, command, False)
        return
    plan = Plan(run, state.now, idle_replies=run.idle_replies)
    for update in request.updates:
        note = MetadataNote(update.kind, update.op, msgspec.Raw(update.values), request.step)
        plan.history.append(("metadata", encode(note)))
    state.apply(plan)
    answer(state, command, True)


def send_signal(state: State, command: c.SendSignal) -> None:
    """Give a signal to the run that waits for it."""
    holder = signal_holder(state, command.signal, command.holder)
    run = state.memory.get(holder[0]) if holder is not None else None
    if run is None or holder is None:
        answer(state, command, None)
        return
    memo = signal_memo(command.signal, command.data)
    wait, settings = run.waits[holder[1]], state.settings_for(run)
    state.apply(planning.plan_match(run, wait, memo, "", state.now, settings))
    answer(state, command, run.id)


def register_app(state: State, command: c.RegisterApp) -> None:
    """Take in an app's functions; those that it no longer has are archived, and start no more runs."""
    registration = command.registration
    assert registration is not None
    app_id = app_uuid(registration.app_name)
    known = state.apps.get(app_id)
    modified = known is None or known.checksum != registration.checksum or known.archived_at is not None
    _take_url(state, app_id, registration.url)
    error = "" if registration.functions else "No functions registered within your app"
    state.put_app(
        AppRow(
            app_id,
            registration.app_name,
            registration.url,
            registration.sdk,
            registration.framework or "",
            registration.app_version or "",
            command.method,
            registration.checksum,
            error,
            known.created_at if known else state.real_now,
            state.real_now,
            None,
        )
    )
    if command.method != CONNECT:
        state.gate(app_id).reset()
    if modified:
        _put_functions(state, app_id, command)
    answer(state, command, c.Registered(app_id, modified))


def _take_url(state: State, app_id: str, url: str) -> None:
    """Of two apps with one URL the newer stays; a row that only knew the URL goes."""
    for other in list(state.apps.values()):
        if other.id == app_id or other.url != url or other.archived_at is not None:
            continue
        archive_app(state, other.id)


def _drop_placeholder(state: State, app_id: str) -> None:
    """Forget a row that only knew the URL of an app."""
    del state.apps[app_id]
    state.batch.changes.apps[app_id] = None


def _put_functions(state: State, app_id: str, command: c.RegisterApp) -> None:
    registration = command.registration
    assert registration is not None
    changed: list[Function] = []
    kept: set[str] = set()
    for config in registration.functions:
        function_id = function_uuid(registration.app_name, config.id)
        kept.add(function_id)
        known = state.function_rows.get(function_id)
        row = FunctionRow(
            function_id,
            app_id,
            config.id,
            config.name,
            config.raw,
            known.created_at if known else state.real_now,
            None,
            known.paused if known else "",
            known.overrides if known else None,
        )
        state.put_function(row)
        changed.append(make_function(row, config, state.settings))
    for row in list(state.function_rows.values()):
        if row.app_id == app_id and row.id not in kept and row.archived_at is None:
            changed.append(_archive_function(state, row))
    _take_in(state, changed)


def _take_in(state: State, functions: list[Function]) -> None:
    """Put functions, new or changed, in force, and their schedules."""
    state.put_functions(functions)
    for function in functions:
        put_schedules(state, function)


def _archive_function(state: State, row: FunctionRow) -> Function:
    function = state.functions.by_id[row.id]
    function.archived = True
    state.put_function(row._replace(archived_at=state.real_now))
    return function


def archive_app(state: State, app_id: str) -> bool:
    """Archive an app and its functions; forget a row that only knew a URL.

    False if it is unknown or archived already.
    """
    app = state.apps.get(app_id)
    if app is None or app.archived_at is not None:
        return False
    if not app.name:
        _drop_placeholder(state, app_id)
        return True
    state.put_app(app._replace(archived_at=state.real_now))
    rows = [row for row in state.function_rows.values() if row.app_id == app_id and row.archived_at is None]
    _take_in(state, [_archive_function(state, row) for row in rows])
    return True


def remove_app(state: State, command: c.RemoveApp) -> None:
    """Archive an app at the caller's wish."""
    answer(state, command, archive_app(state, command.app_id))


def put_app(state: State, command: c.PutApp) -> None:
    """Note on an app why its sync failed.

    The caller composed the row some time ago: what has been registered since stays.
    """
    row = command.app
    assert row is not None
    known = state.apps.get(row.id)
    state.put_app(row if known is None else known._replace(error=row.error, synced_at=row.synced_at))
    answer(state, command, None)


def override_limits(state: State, command: c.OverrideLimits) -> None:
    """Set or remove limits of one function (kept in memory only: they are a help for tests)."""
    function = state.functions.find(command.slug)
    if function is None:
        answer(state, command, False)
        return
    limits = state.limits.setdefault(function.slug, {})
    for name, value in (("steps_per_run", command.steps), ("state_bytes", command.state_bytes)):
        if name == command.change and value is None:
            limits.pop(name, None)
        elif value is not None:
            limits[name] = value
    answer(state, command, True)


def pause_function(state: State, command: c.PauseFunction) -> None:
    """Let a function take no new runs, or take them again: then those that were held start, in their order."""
    function = state.functions.find(command.slug)
    if function is None:
        answer(state, command, False)
        return
    paused = "" if command.pause is Pause.NO else command.pause.value
    state.put_function(state.function_rows[function.id]._replace(paused=paused))
    held = state.queue(function.id, Part.HELD)
    held.blocked = bool(paused)
    state.queues.look(held, state.now)
    answer(state, command, True)


def override_config(state: State, command: c.OverrideConfig) -> None:
    """Put parts of a function's configuration in place of the code's, for what starts from now on."""
    function = state.functions.find(command.slug)
    if function is None:
        answer(state, command, False)
        return
    row = state.function_rows[function.id]._replace(overrides=command.overrides)
    config = load_function(row.config)
    try:
        if command.overrides is not None:
            overridden(config, command.overrides)
    except RegistrationError as error:
        refuse(state, command, RequestError(400, str(error)))
        return
    state.put_function(row)
    _take_in(state, [make_function(row, config, state.settings)])
    answer(state, command, True)


def start_job(state: State, command: c.StartJob) -> None:
    """Begin a job."""
    assert command.job is not None
    answer(state, command, put_job(state, command.job))


def step_job(state: State, command: c.StepJob) -> None:
    """Act on a page of a job's runs, if the job is where the page begins."""
    job = state.jobs.get(command.job_id)
    if job is not None and job.state is JobState.RUNNING and job.cursor == command.before:
        page = Page(command.run_ids, command.cursor, command.last)
        job = go_on(state, job, page, command.flow_keys, command.found)
    answer(state, command, job)


def stop_job(state: State, command: c.StopJob) -> None:
    """End a job where it is."""
    job = state.jobs.get(command.job_id)
    answer(state, command, None if job is None else end_job(state, job, command.reason))


def catch_up(state: State, command: c.CatchUp) -> None:
    """All that was accepted before it has been matched: say so."""
    answer(state, command, command.receipt)


def forget_keys(state: State, command: c.ForgetKeys) -> None:
    """Let every function run again for every key, without limits of its own."""
    for kind in (TAKEN, RATE):
        state.memory.keys.forget_kind(kind)
    state.keys_from = state.now + state.settings.dedupe_ms
    state.limits.clear()
    answer(state, command, None)


def travel(state: State, command: c.MoveClock) -> None:
    """Move the clock, or tell where it stands."""
    try:
        answer(state, command, move_clock(state, command))
    except RequestError as error:
        refuse(state, command, error)


SIMPLE: dict[type[c.Command], Callable[[State, c.Command], None]] = {
    c.CancelRun: cancel_run,  # type: ignore[dict-item]
    c.Rerun: rerun,  # type: ignore[dict-item]
    c.AddMetadata: add_metadata,  # type: ignore[dict-item]
    c.SendSignal: send_signal,  # type: ignore[dict-item]
    c.PauseFunction: pause_function,  # type: ignore[dict-item]
    c.OverrideConfig: override_config,  # type: ignore[dict-item]
    c.TellInvoker: tell_invoker,  # type: ignore[dict-item]
    c.LookBack: look_back,  # type: ignore[dict-item]
    c.StartJob: start_job,  # type: ignore[dict-item]
    c.StepJob: step_job,  # type: ignore[dict-item]
    c.StopJob: stop_job,  # type: ignore[dict-item]
    c.RegisterApp: register_app,  # type: ignore[dict-item]
    c.PutApp: put_app,  # type: ignore[dict-item]
    c.RemoveApp: remove_app,  # type: ignore[dict-item]
    c.OverrideLimits: override_limits,  # type: ignore[dict-item]
    c.CatchUp: catch_up,  # type: ignore[dict-item]
    AddStepLogs: add_step_logs,  # type: ignore[dict-item]
    PutRollups: put_rollups,  # type: ignore[dict-item]
    c.ForgetKeys: forget_keys,  # type: ignore[dict-item]
    c.MoveClock: travel,  # type: ignore[dict-item]
    c.CallWanted: call_wanted,  # type: ignore[dict-item]
    c.CallEnded: call_ended,  # type: ignore[dict-item]
}
"""Commands that are decided by one function once their run is in memory."""
