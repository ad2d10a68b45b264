"""The commands that talk to a running server: send, invoke, runs, run, rerun, functions.

Exit codes: 0, 1 for an error, 2 for a wrong command line, and 3 from the commands that wait for the end of a
run if it did not complete.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click
import msgspec

from perdure.terminal import printing, step_logs, watching
from perdure.terminal.arguments import (
    data_option,
    event_key_option,
    input_option,
    make_client,
    server_options,
    since,
    user_option,
)
from perdure.terminal.client import Client
from perdure.terminal.failures import NotThere, TerminalError
from perdure.terminal.records import COMPLETED, ENDED, TracedRun
from perdure.terminal.rendering import apps_list, runs_table, sign
from perdure.terminal.text import Line, Piece, clean, line, plain
from perdure.terminal.trace import Tree
from perdure.terminal.why import EventWhy, Why

NO_DATA = msgspec.Raw(b"{}")
NO_TRIGGER = (
    "It has started no run: it meets no function's trigger; see 'perdure functions'. "
    "No run waited for it, and none was cancelled by it."
)
STARTED = ("run", "skipped")
"""Fates of events that have a run."""
SHOWN_EFFECTS = 10
"""Runs that an event resumed or cancelled, as far as they are shown; `perdure why` has more."""
HELD = ("debounced", "collected")
"""Fates of events that may have a run yet."""
STATUSES = ("queued", "running", "completed", "failed", "cancelled", "skipped")
START_S = 2.0
"""How long `invoke` waits for its run to be there; it is, as a rule, when the answer comes."""


@click.command()
@click.argument("name")
@data_option
@click.option("--id", "event_id", metavar="ID", help="Events of one id start runs once, for 24 hours.")
@user_option
@event_key_option
@server_options
@printing.explained
def send(
    name: str,
    data: msgspec.Raw | None,
    event_id: str | None,
    user: msgspec.Raw | None,
    event_key: str | None,
    url: str,
    signing_key: str | None,
    as_json: bool,
) -> None:
    """Send an event, and show the runs that it starts."""
    event: dict[str, object] = {"name": name, "data": data or NO_DATA}
    if event_id:
        event["id"] = event_id
    if user is not None:
        event["user"] = user
    client = make_client(url, signing_key, event_key)
    sent = client.send(event)
    if as_json:
        printing.show_json(sent)
        return
    lines: list[Line] = [line("sent   ", Piece(sent.id, "strong"), "  ", Piece(name, "dim"))]
    lines += [line("run    ", Piece(run, "strong")) for run in sent.runs or []]
    if sent.runs is None:
        lines.append(line(Piece("The runs that it started are told to those with a --signing-key.", "dim")))
    else:
        held = _besides_runs(client, sent.id)
        lines += held
        if sent.runs:
            lines += _hint(sent.runs[0])
        elif not held:
            lines.append(line(Piece(NO_TRIGGER, "dim")))
    printing.show(lines)


def _besides_runs(client: Client, event_id: str) -> list[Line]:
    """What became of an event for the functions that it met and that have no run by it, and for other runs."""
    said = client.why_event(event_id)
    if said is None:
        return []
    found = client.read(said, EventWhy)
    lines = [
        line(
            "held   " if fate.fate in HELD else "no run ",
            Piece(clean(fate.function), "strong"),
            "  ",
            Piece(clean(fate.text), "dim"),
        )
        for fate in found.functions
        if fate.fate not in STARTED
    ]
    for effect in found.effects[:SHOWN_EFFECTS]:
        label, text = (
            ("cancel ", "cancelled") if effect.how == "cancel" else ("wait   ", "a wait of it has ended")
        )
        what = Piece(f"  {clean(effect.function)}: {text}", "dim")
        lines.append(line(label, Piece(effect.run_id, "strong"), what))
    if len(found.effects) > SHOWN_EFFECTS:
        lines.append(line(Piece(f"More runs had it; see 'perdure why {event_id}'.", "dim")))
    return lines


@click.command()
@click.argument("function")
@data_option
@user_option
@click.option("--wait", is_flag=True, help="Wait for the end of the run, and print what it gave.")
@server_options
@printing.explained
def invoke(
    function: str,
    data: msgspec.Raw | None,
    user: msgspec.Raw | None,
    wait: bool,
    url: str,
    signing_key: str | None,
    as_json: bool,
) -> None:
    """Start a run of one FUNCTION: its slug, or its name.

    With --wait, prints what the run gave and exits with 3 if it did not complete.
    """
    client = make_client(url, signing_key)
    client.now()  # asks for the key, before anything is started that could not be followed
    event_id = client.invoke(client.function(function).slug, data or NO_DATA, user)
    run_id = _run_of(client, event_id)
    if run_id is None:
        _show_no_run(client, event_id, wait, as_json)
        return
    if wait:
        _exit_by(_print_output(client, run_id, as_json))
    elif as_json:
        printing.show_json({"event_id": event_id, "run_id": run_id})
    else:
        printing.show([line("run    ", Piece(run_id, "strong")), *_hint(run_id)])


def _show_no_run(client: Client, event_id: str, wait: bool, as_json: bool) -> None:
    """A rule of the function holds the event back, or has dropped it: it is all that there is."""
    if as_json and not wait:
        printing.show_json({"event_id": event_id, "run_id": None})
        return
    told = _besides_runs(client, event_id)
    if wait:
        reason = "; ".join(plain(pieces[1:]) for pieces in told) or "look for it with 'perdure runs'"
        raise TerminalError(f"No run has begun for event {event_id}: {reason}.")
    printing.show(
        [line("sent   ", Piece(event_id, "strong")), *(told or [line("It has started no run yet.")])]
    )


def _run_of(client: Client, event_id: str) -> str | None:
    end = time.monotonic() + START_S
    while not (runs := client.runs_of_event(event_id)) and time.monotonic() < end:
        time.sleep(0.05)
    return runs[0].run_id if runs else None


def _print_output(client: Client, run_id: str, as_json: bool) -> TracedRun:
    """Wait for the end. Standard output gets what the run gave, and nothing else."""
    while client_state(client, run_id).upper() not in ENDED:
        time.sleep(watching.EVERY_S / 5)
    run, now = watching.patiently(lambda: client.trace(run_id))
    if as_json:
        printing.show_json(run)
    elif run.status == COMPLETED:
        click.echo(msgspec.json.format(bytes(run.output), indent=2).decode())
    else:
        for pieces in [
            line(sign(run.status), " ", run.status.lower(), "  run ", run_id),
            *Tree(run, now, None).result()[1:],
        ]:
            click.echo(printing.painted(pieces, colour=False), err=True)
    return run


def client_state(client: Client, run_id: str) -> str:
    """The status of a run, also while the server is being restarted."""
    return watching.patiently(lambda: client.state(run_id))[0].status


@click.command()
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES, case_sensitive=False),
    help="Only such runs. May be given several times.",
)
@click.option(
    "--function",
    "functions",
    multiple=True,
    metavar="FUNCTION",
    help="Only runs of it: its slug, or its name.",
)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="At most so many."
)
@click.option(
    "--since",
    "since_when",
    callback=since,
    metavar="TIME",
    help="Queued since then: 2h, 1d12h, 2027-01-31T09:00:00Z.",
)
@server_options
@printing.explained
def runs(
    statuses: tuple[str, ...],
    functions: tuple[str, ...],
    limit: int,
    since_when: Callable[[int], int] | None,
    url: str,
    signing_key: str | None,
    as_json: bool,
) -> None:
    """List runs, newest first."""
    client = make_client(url, signing_key)
    now = client.now()
    ids = [client.function(named).id for named in functions]
    wanted = [status.upper() for status in statuses]
    found = client.runs(limit, since_when(now) if since_when else 0, wanted, ids)
    if as_json:
        printing.show_json(found)
    else:
        printing.show(runs_table(found, now, printing.width()))


@click.command()
@click.argument("run_id", metavar="ID")
@click.option(
    "-w", "--watch", is_flag=True, help="Follow it until it ends; exit with 3 if it does not complete."
)
@click.option("--full", is_flag=True, help="Show results, errors and stacks whole.")
@click.option("--logs", is_flag=True, help="Show what its steps have logged; with --watch as it comes.")
@server_options
@printing.explained
def run(
    run_id: str, watch: bool, full: bool, logs: bool, url: str, signing_key: str | None, as_json: bool
) -> None:
    """Show what happened to a run: its steps with their times, attempts, errors and results."""
    client = make_client(url, signing_key)
    if watch:
        _exit_by(watching.watch(client, run_id, as_json, full, lambda: _why_it_waits(client, run_id), logs))
        return
    found, now = client.trace(run_id)
    if as_json:
        if logs:
            found.logs = step_logs.Follower(client, run_id).new()
        printing.show_json(found)
    else:
        lines = Tree(found, now, printing.width(), full=full).lines()
        printing.show([*lines, *([] if found.ended else _why_it_waits(client, run_id))])
        if logs:
            step_logs.show(client, run_id, now)


def _why_it_waits(client: Client, run_id: str) -> list[Line]:
    """One sentence; nothing if the run has ended meanwhile, or the server says no such thing."""
    try:
        found = client.read(client.why(run_id, near_misses=0)[0], Why)
    except NotThere:
        return []
    return [[], line("  ", Piece(f"{'why':<10}", "dim"), clean(found.text))] if found.causes else []


def _exit_by(ended: TracedRun) -> None:
    if ended.status != COMPLETED:
        sys.exit(printing.NOT_COMPLETED)


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--from-step", metavar="STEP", help="Begin at this step, named by its id or its name.")
@input_option
@server_options
@printing.explained
def rerun(
    run_id: str,
    from_step: str | None,
    arguments: msgspec.Raw | None,
    url: str,
    signing_key: str | None,
    as_json: bool,
) -> None:
    """Run a run again from its events, as a new run.

    With --from-step the steps that finished before that one are copied with their results; it and all after it run
    again. --input gives it other arguments than the code does.
    """
    if arguments is not None and from_step is None:
        raise click.UsageError("--input needs --from-step: it is the input of that step.")
    new = make_client(url, signing_key).rerun(run_id, from_step, arguments)
    if as_json:
        printing.show_json({"run_id": new, "original_run_id": run_id.upper()})
    else:
        printing.show([line("run    ", Piece(new, "strong")), *_hint(new)])


@click.command()
@server_options
@printing.explained
def functions(url: str, signing_key: str | None, as_json: bool) -> None:
    """List the apps and their functions, with what starts them."""
    apps = make_client(url, signing_key).apps()
    if as_json:
        printing.show_json(apps)
    else:
        printing.show(apps_list(apps, printing.width()))


def _hint(run_id: str) -> list[Line]:
    """What to do next, for people."""
    return [line(Piece(f"perdure run {run_id} --watch", "dim"))] if printing.on_terminal() else []
