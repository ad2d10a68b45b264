"""What running steps tell besides their results: log lines, progress and signs of life (`POST /v1/step-logs`).

The body is a JSON array of entries, as they come from one app, of any runs:

    {"run_id": "01…", "step": "<hash>", "step_id": "charge", "attempt": 0, "ts": 1767225600000,
     "level": "INFO", "logger": "shop.jobs", "message": "charged", "fields": {"amount": 7}}
    {"run_id": "01…", "step": "<hash>", "step_id": "charge", "attempt": 0, "ts": …, "progress": 0.4,
     "message": "40 of 100 pages"}
    {"run_id": "01…", "step": "<hash>", "step_id": "charge", "attempt": 0, "ts": …}

An entry with a `level` is a line, one with `progress` (0 to 1) says how far a step is, one with neither that it is
alive. `step` is empty for the function's own code, of whose signs of life nothing is kept. The answer names the
runs among them that have been cancelled, so that the app can stop their steps.
"""

from __future__ import annotations

import math

import msgspec

from perdure.errors import RequestError
from perdure.protocol.payloads import NestedTooDeeply, json_text, nests_too_deeply, without_lone_surrogates

MAX_ENTRIES = 1_000
MAX_BODY_BYTES = 2 * 1024 * 1024
MAX_MESSAGE = 16_384
"""Characters of a message that are kept; what is longer is cut, with a sign of it."""
MAX_NAME = 200
"""Characters of an id, a level or a logger's name that are kept."""
LATEST = 2**47
"""Times (ms) are below this."""


class LogEntry(msgspec.Struct, gc=False):
    """One entry. `fields` is raw JSON, an object, or empty."""

    run_id: str
    step: str = ""
    step_id: str = ""
    attempt: int = 0
    ts: int = 0
    level: str = ""
    logger: str = ""
    message: str = ""
    fields: msgspec.Raw = msgspec.Raw(b"")
    progress: float | None = None

    def size(self) -> int:
        """Bytes that count towards the limits."""
        return len(self.message.encode()) + len(self.fields) + len(self.logger) + 32


class Taken(msgspec.Struct):
    """The answer: entries that were taken and dropped, and which of their runs have been cancelled."""

    taken: int = 0
    dropped: int = 0
    cancelled: list[str] = []


_ENTRIES: msgspec.json.Decoder[list[LogEntry]] = msgspec.json.Decoder(list[LogEntry])
_TAKEN: msgspec.json.Decoder[Taken] = msgspec.json.Decoder(Taken)


def read_entries(body: bytes) -> list[LogEntry]:
    """The entries of a body, cut to their limits. Raises `RequestError` 400 or 413 that says what is wrong."""
    try:
        entries = _ENTRIES.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        entries = _mended(body)
    if len(entries) > MAX_ENTRIES:
        raise RequestError(413, f"{len(entries)} entries in one body; at most {MAX_ENTRIES} are taken")
    for entry in entries:
        _cut(entry)
    return entries


def _mended(body: bytes) -> list[LogEntry]:
    """The entries of a body that is no proper JSON or UTF-8, as far as that can be put right."""
    try:
        text = json_text(body)
        if text is None:
            raise RequestError(400, "Invalid step logs: the request body is not JSON")
        return _ENTRIES.decode(without_lone_surrogates(text))
    except (msgspec.MsgspecError, NestedTooDeeply) as error:
        raise RequestError(400, f"Invalid step logs: {error}") from None


def read_taken(body: bytes) -> Taken:
    """The answer, as an app reads it; nothing if it is none."""
    try:
        return _TAKEN.decode(body)
    except msgspec.MsgspecError:
        return Taken()


def _cut(entry: LogEntry) -> None:
    if len(entry.message) > MAX_MESSAGE:
        entry.message = entry.message[: MAX_MESSAGE - 1] + "…"
    entry.step, entry.step_id = entry.step[:MAX_NAME], entry.step_id[:MAX_NAME]
    entry.level, entry.logger = entry.level[:MAX_NAME], entry.logger[:MAX_NAME]
    entry.attempt = min(max(entry.attempt, 0), 2**31)
    fields = bytes(entry.fields)
    if fields and (fields[:1] != b"{" or nests_too_deeply(fields)):
        entry.fields = msgspec.Raw(b"")
    if entry.progress is not None:
        entry.progress = min(max(entry.progress, 0.0), 1.0) if math.isfinite(entry.progress) else None
