"""`perdure cancel` and `perdure replay`: what is done with single runs, and with many.

With many runs the server does the work, as a job that goes on by itself. Here it is started; `jobs` watches it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import click
import msgspec

from perdure.protocol.durations import format_time
from perdure.terminal import printing
from perdure.terminal.arguments import make_client, server_options, since
from perdure.terminal.client import Client
from perdure.terminal.failures import TerminalError
from perdure.terminal.jobs import CANCELLATION, PATHS, REPLAY, Job, agrees, follow
from perdure.terminal.rendering import sign
from perdure.terminal.text import Line, Piece, line

ENDED = ("completed", "failed", "cancelled", "skipped")
_VERBS = {CANCELLATION: "Cancel", REPLAY: "Run again"}

When = Callable[[int], int] | None


class _Count(msgspec.Struct):
    matching: int
    whole: bool

    def __str__(self) -> str:
        more = "" if self.whole else "at least "
        return f"{more}{self.matching:,} run{'' if self.matching == 1 else 's'}"


# Which runs

_since = click.option(
    "--since",
    "since_when",
    callback=since,
    metavar="TIME",
    help="Queued since then: 2h, 2027-01-31T09:00:00Z.",
)
_until = click.option(
    "--until", "until_when", callback=since, metavar="TIME", help="Queued before then, written like --since."
)
_condition = click.option("--if", "condition", metavar="CEL", help="Only runs for whose event this holds.")
_yes = click.option("-y", "--yes", is_flag=True, help="Do not ask first.")
_dry_run = click.option("--dry-run", is_flag=True, help="Only tell how many runs these are.")


def _wanted(
    client: Client, named: str, since_when: When, until_when: When, condition: str | None
) -> dict[str, object]:
    """Which runs, as the API takes it. `started_before` is always given: what comes later is not meant."""
    now = client.now()
    wanted: dict[str, object] = {"function_id": client.function(named).id}
    if since_when is not None:
        wanted["started_after"] = format_time(since_when(now))
    wanted["started_before"] = format_time(until_when(now) if until_when is not None else now + 1)
    if condition is not None:
        wanted["if"] = condition
    return wanted


def _begin(
    client: Client, kind: str, wanted: dict[str, object], *, yes: bool, dry_run: bool, as_json: bool
) -> tuple[Job, msgspec.Raw, _Count] | None:
    """Start a job, once the person agrees; None if there is nothing to be done."""
    path = PATHS[kind]
    counted = client.ask("POST", path, msgspec.json.encode({**wanted, "dry_run": True}))
    count = client.read(counted, _Count)
    if dry_run:
        if as_json:
            printing.show_json(counted)
        else:
            printing.show([line(str(count))])
        return None
    if not count.matching and count.whole and not as_json:
        printing.show([line("There are no such runs.")])
        return None
    if not yes and sys.stdin.isatty() and not agrees(f"{_VERBS[kind]} {count}?"):
        raise TerminalError("Nothing was done.")
    answer = client.ask("POST", path, msgspec.json.encode(wanted))
    return client.read(answer, Job), answer, count


# The commands


@click.command()
@click.argument("function")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(ENDED, case_sensitive=False),
    help="Runs that have ended so; failed ones if not given. May be given several times.",
)
@_since
@_until
@_condition
@click.option("-w", "--watch", is_flag=True, help="Follow it until it is over; exit with 3 if it is stopped.")
@_dry_run
@_yes
@server_options
@printing.explained
def replay(
    function: str,
    statuses: tuple[str, ...],
    since_when: When,
    until_when: When,
    condition: str | None,
    watch: bool,
    dry_run: bool,
    yes: bool,
    url: str,
    signing_key: str | None,
    as_json: bool,
) -> None:
    """Run many runs of a FUNCTION again, each as a new run.

    On a terminal it tells how many they are, and asks first.
    """
    client = make_client(url, signing_key)
    wanted = _wanted(client, function, since_when, until_when, condition)
    wanted["statuses"] = [status.upper() for status in statuses]
    begun = _begin(client, REPLAY, wanted, yes=yes, dry_run=dry_run, as_json=as_json)
    if begun is None:
        return
    job, answer, count = begun
    if watch:
        follow(client, job, count.matching if count.whole else None, as_json)
    elif as_json:
        printing.show_json(answer)
    else:
        printing.show([line("job    ", Piece(job.id, "strong"), f"  {count}"), *_hint(job)])


@click.command()
@click.argument("run_ids", metavar="[ID]...", nargs=-1)
@click.option("--function", "function", metavar="FUNCTION", help="Cancel runs of it that have not ended.")
@_since
@_until
@_condition
@_dry_run
@_yes
@server_options
@printing.explained
def cancel(
    run_ids: tuple[str, ...],
    function: str | None,
    since_when: When,
    until_when: When,
    condition: str | None,
    dry_run: bool,
    yes: bool,
    url: str,
    signing_key: str | None,
    as_json: bool,
) -> None:
    """Cancel runs by their IDs, or many runs of one function with --function.

    A run that has ended otherwise stays as it is; named by its ID it makes the exit code 1. With --function it tells,
    on a terminal, how many runs they are, and asks first.
    """
    if bool(run_ids) == bool(function):
        raise click.UsageError("Give the IDs of runs, or --function.")
    client = make_client(url, signing_key)
    if function is None:
        if since_when or until_when or condition is not None or dry_run:
            raise click.UsageError("--since, --until, --if and --dry-run go with --function.")
        _cancel(client, run_ids, as_json)
        return
    wanted = _wanted(client, function, since_when, until_when, condition)
    begun = _begin(client, CANCELLATION, wanted, yes=yes, dry_run=dry_run, as_json=as_json)
    if begun is not None:
        job, _, count = begun
        follow(client, job, count.matching if count.whole else None, as_json)


def _cancel(client: Client, run_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel single runs. Exits with 1 if one could not be."""
    outcomes: list[dict[str, str | None]] = []
    for run_id in run_ids:
        try:
            outcomes.append({"id": run_id, "status": client.cancel(run_id), "error": None})
        except TerminalError as error:
            if len(run_ids) == 1:
                raise
            outcomes.append({"id": run_id, "status": None, "error": str(error)})
    if as_json:
        printing.show_json(outcomes)
    for outcome in outcomes:
        status = outcome["status"]
        if status is None:
            printing.complain(str(outcome["error"]))
        elif status != "CANCELLED":
            printing.complain(
                f"Run {outcome['id']} could not be cancelled: it has {_ended_as(status)} already."
            )
        elif not as_json:
            printing.show([line(sign(status), " cancelled  ", str(outcome["id"]))])
    if any(outcome["status"] != "CANCELLED" for outcome in outcomes):
        sys.exit(printing.ERROR)


def _ended_as(status: str) -> str:
    return {"COMPLETED": "completed", "FAILED": "failed"}.get(status, f"been {status.lower()}")


def _hint(job: Job) -> list[Line]:
    return [line(Piece(f"perdure jobs {job.id} --watch", "dim"))] if printing.on_terminal() else []
