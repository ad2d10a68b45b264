"""What an app did, as it did it: one line in a file for each call it got and each step it ran.

A line is written by a single call of the system to a file opened for appending, so it is whole, in order, and
outlives a process that is killed right after it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Writer:
    """The app's end."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def call(self, body: dict[str, Any], target: str) -> None:
        """A call has arrived, with these results of steps."""
        context = body["ctx"]
        self._write(
            what="call",
            run=context["run_id"],
            fn=context["fn_id"],
            step=target,
            attempt=context["attempt"],
            memos=body["steps"],
        )

    def entered(self, body: dict[str, Any]) -> None:
        """A call to a function under rules has arrived, with these numbers of events."""
        context, data = body["ctx"], body["event"]["data"]
        self._write(
            what="call",
            run=context["run_id"],
            fn=context["fn_id"],
            job=context["job_id"],
            generation=context["generation_id"],
            who=data.get("who"),
            events=[event["data"].get("n") for event in body["events"]],
        )

    def left(self, body: dict[str, Any]) -> None:
        """The call's answer is about to leave, or is wanted by nobody any more."""
        context = body["ctx"]
        self._write(what="left", job=context["job_id"], generation=context["generation_id"])

    def ran(self, run: str, step: str, token: str) -> None:
        """The code of a step has run and is about to return `token`."""
        self._write(what="ran", run=run, step=step, token=token)

    def ended(self, run: str, key: int) -> None:
        """The code of a function has come to its end."""
        self._write(what="end", run=run, key=key)

    def posted(self, run: str, status: int) -> None:
        """A checkpoint was answered with this status."""
        self._write(what="posted", run=run, status=status)

    def posted_together(self, count: int, status: int) -> None:
        """A request with so many checkpoints was answered with this status."""
        self._write(what="together", count=count, status=status)

    def _write(self, **line: object) -> None:
        os.write(self._file, json.dumps({"at": time.time(), **line}).encode() + b"\n")


@dataclass
class Journal:
    """The test's end: all lines so far; `read` takes in what has come since."""

    path: Path
    lines: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    ended_keys: set[int] = field(default_factory=set)
    _offset: int = 0

    def read(self) -> None:
        """Take in new lines."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for raw in whole.splitlines():
            line = json.loads(raw)
            self.lines.append(line)
            self.counts[line["what"]] = self.counts.get(line["what"], 0) + 1
            if line["what"] == "end":
                self.ended_keys.add(line["key"])

    def count(self, what: str) -> int:
        """How many lines of a kind there are by now."""
        self.read()
        return self.counts.get(what, 0)

    def of(self, what: str, matching: Callable[[dict[str, Any]], bool] = lambda _: True) -> Iterator[Any]:
        """Lines of a kind, in order."""
        return (line for line in self.lines if line["what"] == what and matching(line))
