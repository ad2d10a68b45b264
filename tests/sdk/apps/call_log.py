"""What an app saw and did, kept so that a test can count it.

Two lists. `calls`: each request that the server made to the SDK, with the parts of its body that the protocol
promises and the reply. `notes`: each time a line of user code ran, as the functions report it. Every test puts
its own `key` into the data of its events, and asks for what belongs to that key.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any


class CallLog:
    """Thread-safe: Flask serves each call on a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[dict[str, Any]] = []
        self._notes: list[dict[str, Any]] = []

    def note(self, ctx: Any, step: str, fn: str, **more: object) -> None:
        """Say that user code ran: `step` of `fn`, in the run, attempt and event of `ctx`."""
        line = {
            "key": key_of({"data": dict(ctx.event.data)}),
            "run": ctx.run_id,
            "fn": fn,
            "step": step,
            "attempt": ctx.attempt,
            "at": time.time(),
            **more,
        }
        with self._lock:
            self._notes.append(line)

    def begin(self, query: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Record a call as it arrives; the reply is filled in by `end`. Header names are lower case."""
        sent = json.loads(body) if body else {}
        ctx = sent.get("ctx", {})
        line = {
            "key": key_of(sent.get("event", {})),
            "run": ctx.get("run_id"),
            "fn": query.get("fnId"),
            "target": query.get("stepId"),
            "attempt": ctx.get("attempt"),
            "max_attempts": ctx.get("max_attempts"),
            "planned_only": ctx.get("disable_immediate_execution"),
            "use_api": sent.get("use_api"),
            "version": sent.get("version"),
            "stack": ctx.get("stack", {}).get("stack"),
            "steps": sorted(sent.get("steps") or {}),
            "generation": headers.get("x-inngest-generation-id"),
            "kind": headers.get("x-inngest-server-kind"),
            "signature": headers.get("x-inngest-signature"),
            "at": time.time(),
            "status": None,
        }
        with self._lock:
            self._calls.append(line)
        return line

    def end(self, line: dict[str, Any], status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Fill in the reply of a call. A body too large to look at is kept as its length."""
        line["status"] = status
        line["took"] = time.time() - line["at"]
        reply = json.loads(body) if body and len(body) < 100_000 else None
        if isinstance(reply, dict) and status == 201:
            status, headers, reply = reply["status"], reply["headers"], json.loads(reply["body"])
        line["final_status"] = status
        line["no_retry"] = headers.get("x-inngest-no-retry")
        line["retry_after"] = headers.get("retry-after")
        line["reply_version"] = headers.get("x-inngest-req-version")
        line["ops"] = [op.get("op") for op in reply] if status == 206 and isinstance(reply, list) else None

    def of(self, key: str) -> dict[str, list[dict[str, Any]]]:
        """Both lists, of one test."""
        with self._lock:
            return {
                "calls": [line for line in self._calls if line["key"] == key],
                "notes": [line for line in self._notes if line["key"] == key],
            }


def key_of(event: Mapping[str, Any]) -> str | None:
    """The test's key of an event; that of the original event if this one tells of a run's end."""
    data = event.get("data")
    while isinstance(data, Mapping):
        if "key" in data:
            return str(data["key"])
        inner = data.get("event")
        data = inner.get("data") if isinstance(inner, Mapping) else None
    return None
