"""`perdure jobs`: replays and bulk cancellations, which go on in the server by themselves; and how one is watched."""

from __future__ import annotations

import sys
import time

import click
import msgspec

from perdure.protocol.durations import parse_time
from perdure.terminal import printing
from perdure.terminal.arguments import make_client, server_options
from perdure.terminal.client import Client
from perdure.terminal.failures import TerminalError
from perdure.terminal.rendering import sign
from perdure.terminal.text import Line, Piece, age, clean, cut, date_and_time, line, table
from perdure.terminal.watching import EVERY_S, patiently

CANCELLATION = "bulk_run"
REPLAY = "replay"
PATHS = {CANCELLATION: "/v1/cancellations", REPLAY: "/v1/replays"}
_WORDS = {CANCELLATION: "cancelled", REPLAY: "run again"}
_STATES = {"done": "COMPLETED", "stopped": "CANCELLED", "running": "RUNNING"}


class Job(msgspec.Struct):
    """A job over many runs, as the server tells it. Of `seen` runs `done` were acted on, `refused` could not be."""

    id: str
    kind: str
    function_id: str
    created_at: str
    state: str
    seen: int
    done: int
    refused: int
    reason: str | None

    @property
    def path(self) -> str:
        """Where it stands in the API."""
        return f"{PATHS.get(self.kind, PATHS[REPLAY])}/{self.id}"

    @property
    def over(self) -> bool:
        """Whether it goes no further."""
        return self.state != "running"


def agrees(question: str) -> bool:
    """Ask the person. Raises KeyboardInterrupt for an interrupt."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        raise KeyboardInterrupt from None


def follow(client: Client, job: Job, total: int | None, as_json: bool) -> None:
    """Watch a job until it is over; an interrupt offers to stop it. Exits with 3 if it was stopped."""
    try:
        job, answer = _watch(client, job, total, as_json)
    except KeyboardInterrupt:
        click.echo(err=True)
        if not sys.stdin.isatty() or not agrees("Stop it? What it has done stays."):
            printing.complain(f"It goes on; see 'perdure jobs {job.id}'.")
            raise
        client.ask("DELETE", job.path)
        answer = client.ask("GET", job.path)
        job = client.read(answer, Job)
    if as_json:
        printing.show_json(answer)
    else:
        printing.show([outcome(job)])
    if job.state != "done":
        sys.exit(printing.NOT_COMPLETED)


def _watch(client: Client, job: Job, total: int | None, as_json: bool) -> tuple[Job, msgspec.Raw]:
    picture = printing.Picture() if printing.on_terminal() and not as_json else None
    pause = EVERY_S / 10
    while True:
        answer = patiently(lambda: client.ask("GET", job.path))
        seen = client.read(answer, Job)
        if picture is not None:
            picture.draw([] if seen.over else [progress(seen, total)], whole=seen.over)
        if seen.over:
            return seen, answer
        time.sleep(pause)
        pause = min(2 * pause, EVERY_S)


def progress(job: Job, total: int | None) -> Line:
    """How far a job is."""
    of = "" if total is None else f" of {total:,}"
    return line(sign("RUNNING"), f" {_done(job)}{of}", *_refused(job))


def outcome(job: Job) -> Line:
    """What a job has done in the end, or up to now."""
    mark = sign(_STATES.get(job.state, ""))
    return line(mark, f" {clean(job.state)}  {_done(job)}", *_refused(job))


def _done(job: Job) -> str:
    return f"{job.done:,} {_WORDS.get(job.kind, 'done')}"


def _refused(job: Job) -> Line:
    """How many could not be, and why; or why the job could not go on."""
    told = line(Piece(f", {job.refused:,} not", "bad")) if job.refused else []
    return [*told, Piece(f"  {clean(job.reason)}", "dim")] if job.reason else told


@click.command()
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("-w", "--watch", is_flag=True, help="Follow it until it is over; exit with 3 if it is stopped.")
@click.option("--stop", is_flag=True, help="Stop it where it is. What it has done stays.")
@server_options
@printing.explained
def jobs(
    job_id: str | None, watch: bool, stop: bool, url: str, signing_key: str | None, as_json: bool
) -> None:
    """List replays and bulk cancellations, newest first; or show, watch or stop the one with this ID."""
    if job_id is None and (watch or stop):
        raise click.UsageError("Give the ID of a job.")
    client = make_client(url, signing_key)
    now = client.now()
    answers = [
        raw for path in PATHS.values() for raw in client.read(client.ask("GET", path), list[msgspec.Raw])
    ]
    found = sorted(
        ((client.read(raw, Job), raw) for raw in answers), key=lambda pair: pair[0].id, reverse=True
    )
    if job_id is None:
        if as_json:
            printing.show_json([raw for _, raw in found])
        else:
            printing.show(jobs_table([job for job, _ in found], now, printing.width()))
        return
    known = next((job for job, _ in found if job.id == job_id.upper()), None)
    if known is None:
        raise TerminalError(f"There is no job {clean(job_id[:60])}; see 'perdure jobs'.")
    _one(client, known, watch, stop, as_json)


def _one(client: Client, job: Job, watch: bool, stop: bool, as_json: bool) -> None:
    if stop:
        client.ask("DELETE", job.path)
    elif watch:
        follow(client, job, None, as_json)
        return
    answer = client.ask("GET", job.path)
    if as_json:
        printing.show_json(answer)
    else:
        found = client.read(answer, Job)
        printing.show([outcome(found)] if stop else one_job(found))


def one_job(job: Job) -> list[Line]:
    """What a job is, and what it has done in the end, or up to now."""
    kind = "bulk cancellation" if job.kind == CANCELLATION else "replay"
    when = date_and_time(parse_time(job.created_at), None)
    rows = (("job", job.id), ("what", f"{kind} of {clean(job.function_id)}"), ("since", when))
    return [outcome(job), *(line("  ", Piece(f"{label:<7}", "dim"), text) for label, text in rows)]


def jobs_table(found: list[Job], now: int, width: int | None) -> list[Line]:
    """A line for each job."""
    if not found:
        return [line("There are no such jobs.")]
    rows = [[Piece(head, "dim") for head in ("STATE", "JOB", "AGE", "RUNS", "FUNCTION")]]
    for job in found:
        mark = sign(_STATES.get(job.state, ""))
        done = f"{_done(job)}" + (f", {job.refused:,} not" if job.refused else "")
        rows.append(
            [
                Piece(f"{mark.text} {clean(job.state)}", mark.tone),
                Piece(job.id),
                Piece(age(max(0, now - parse_time(job.created_at)))),
                Piece(done),
                Piece(clean(job.function_id)),
            ]
        )
    used = sum(max(len(row[n].text) for row in rows) + 2 for n in range(4))
    if width is not None:
        rows = [[*row[:4], Piece(cut(row[4].text, max(12, width - used)), row[4].tone)] for row in rows]
    return table(rows, right=frozenset((2,)))
