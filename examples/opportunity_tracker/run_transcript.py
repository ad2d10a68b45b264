"""Run a transcript through the running app and check what comes out.

    python -m examples.opportunity_tracker.run_transcript              # transcripts/short.txt
    python -m examples.opportunity_tracker.run_transcript messy german
    python -m examples.opportunity_tracker.run_transcript my_call.txt --app http://localhost:8001

Ends with 0 if each call was parsed, saved, and added to the history of its opportunity, else with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pydantic

from examples.opportunity_tracker.summary import CallSummary

SAMPLES = Path(__file__).parent / "transcripts"
POLL_SECONDS = 0.3


class Wrong(Exception):
    """The call did not come out as it should. The text says what is wrong."""


def main(arguments: list[str] | None = None) -> int:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(description="Run transcripts through the app and check the results.")
    parser.add_argument("transcripts", nargs="*", default=["short"], help="files, or names of the samples")
    parser.add_argument(
        "--app", default=os.environ.get("TRACKER_URL", "http://localhost:8000"), help="where the app is"
    )
    parser.add_argument("--opportunity", default="Sample calls", help="the opportunity that gets the calls")
    parser.add_argument("--timeout", type=float, default=180, help="seconds to wait for each call")
    chosen = parser.parse_args(arguments)
    wrong = 0
    with httpx2.Client(base_url=chosen.app, timeout=20) as app:
        for name in chosen.transcripts:
            try:
                run(app, name, chosen.opportunity, chosen.timeout)
            except Wrong as error:
                wrong += 1
                print(f"{name}: {error}", file=sys.stderr)
            except httpx2.TransportError as error:
                print(f"The app cannot be reached at {chosen.app} ({error}). Is it running?", file=sys.stderr)
                return 1
    return 1 if wrong else 0


def run(app: httpx2.Client, name: str, opportunity: str, timeout: float) -> None:
    """Upload one, watch its status, check it. Raises Wrong."""
    file = find(name)
    body = {"opportunity": opportunity, "title": file.stem, "transcript": file.read_text(encoding="utf-8")}
    answer = app.post("/api/calls", json=body)
    if answer.status_code != 202:
        raise Wrong(f"was not taken: HTTP {answer.status_code} {answer.text}")
    call = answer.json()
    page = f"{str(app.base_url).rstrip('/')}{call['page']}"
    print(f"{name}: call {call['id']}, {call['status']}   {page}", flush=True)
    done = watch(app, call["id"], timeout)
    if done["status"] == "failed":
        raise Wrong(f"parsing failed: {done['error']}")
    summary = check(app, done)
    print(f"{name}: {len(summary.participants)} participants, {len(summary.pain_points)} pain points, "
          f"{len(summary.next_steps)} next steps, {len(summary.objections)} objections, "
          f"budget {summary.budget or 'not mentioned'!r}, {summary.sentiment}")  # fmt: skip


def find(name: str) -> Path:
    """A file, or a sample of that name. Raises Wrong."""
    for path in (Path(name), SAMPLES / name, SAMPLES / f"{name}.txt"):
        if path.is_file():
            return path
    raise Wrong(f"there is no such file, and no such sample in {SAMPLES}")


def watch(app: httpx2.Client, call_id: str, timeout: float) -> dict[str, Any]:
    """Wait until the call is completed or failed, printing each status. Raises Wrong if that takes too long.

    An app that is killed meanwhile is waited for: its job goes on when it is back.
    """
    deadline, shown = time.monotonic() + timeout, "pending"
    while True:
        call = ask(app, call_id)
        status = call["status"] if call else "the app does not answer, waiting for it"
        if status != shown:
            shown = status
            print(f"  {shown}", flush=True)
        if call and shown in ("completed", "failed"):
            return call
        if time.monotonic() > deadline:
            raise Wrong(f"still {shown} after {timeout:g} s. `perdure why` tells what its run waits for")
        time.sleep(POLL_SECONDS)


def ask(app: httpx2.Client, call_id: str) -> dict[str, Any] | None:
    """The call as it is now; None if the app does not answer."""
    try:
        call: dict[str, Any] = app.get(f"/api/calls/{call_id}").json()
    except httpx2.TransportError:
        return None
    return call


def check(app: httpx2.Client, call: dict[str, Any]) -> CallSummary:
    """The summary of a completed call, which must have all fields and be in the history. Raises Wrong."""
    try:
        summary = CallSummary.model_validate(call["summary"])
    except pydantic.ValidationError as error:
        raise Wrong(f"the summary is not complete: {error}") from error
    # The history is written by the step after the one that completes the call.
    deadline = time.monotonic() + 10
    while True:
        history = app.get(f"/api/opportunities/{call['opportunity_id']}").json()
        known = set(history["participants"])
        if history["calls_parsed"] and known >= {person.name for person in summary.participants}:
            return summary
        if time.monotonic() > deadline:
            raise Wrong(f"the call is not in the history of opportunity {call['opportunity_id']}: {history}")
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
