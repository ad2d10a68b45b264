"""Tells the server what running steps log, and how far they are.

Never in the way of a step: an entry is put on a list, and a fifth of a second later all that have gathered go in
one request, which nobody waits for. What cannot be sent is lost. Only servers that say in their calls that they
take it (`protocol.capabilities`) are told anything.

The answer names runs that have been cancelled. Their calls are abandoned: async steps get CancelledError where they
are, sync ones learn of it when they next tell how far they are. So that this reaches steps which tell nothing, a
call over HTTP that takes long gives a sign of life by itself; over a socket and in process the server has a way of
its own to say it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from perdure.protocol.capabilities import LOGS_PATH
from perdure.protocol.step_logs import MAX_ENTRIES, MAX_MESSAGE, read_taken
from perdure.sdk.api import Api
from perdure.sdk.job import Job
from perdure.sdk.key import Key

log = logging.getLogger("perdure")

FLUSH_S = 0.2
"""For how long entries gather."""
BEAT_S = 3.0
"""How often the calls that were there before give a sign of life, in seconds."""
AGAIN_S = 1.0
"""Pause after a request that has not reached the server."""
MOST_WAITING = 10_000
"""Lines that wait to be sent; more are lost."""
MAX_BODY = 1024 * 1024

_formatter = logging.Formatter()
_KNOWN = {"run_id", "function_id", "step_id", "attempt", "trace_id", "span_id"}
"""What `loggers.LogContext` adds."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"} | _KNOWN
"""What every record has: the rest is what its author gave as `extra`."""
_USUAL = len(vars(logging.makeLogRecord({})))


class Telling(Protocol):
    """A call whose steps tell something."""

    job: Job
    loop: asyncio.AbstractEventLoop
    now_ns: Callable[[], int]
    over: bool

    def abandon(self) -> None: ...


class _Line(msgspec.Struct, gc=False):
    """A line that waits. What its author gave besides the message is read from the record when it is sent."""

    call: Telling
    key: Key | None
    ts: int
    message: str
    record: logging.LogRecord


class _Entry(msgspec.Struct, omit_defaults=True, gc=False):
    """An entry as it is sent (`protocol.step_logs`)."""

    run_id: str
    step: str
    step_id: str
    attempt: int
    ts: int
    level: str = ""
    logger: str = ""
    message: str = ""
    fields: dict[str, Any] | None = None
    progress: float | None = None


class StepLogs:
    """What the steps of one app tell. Used from any thread.

    `send` may put another way in the place of a request to the API: it takes a body, and says whether it has gone.
    """

    def __init__(self, api: Api) -> None:
        self.send: Callable[[bytes], bool] | None = None
        self._api = api
        self._lines: deque[_Line] = deque()
        self._signs: dict[tuple[str, str], bytes] = {}
        self._calls: weakref.WeakSet[Telling] = weakref.WeakSet()
        self._young: weakref.WeakSet[Telling] = weakref.WeakSet()
        self._beating: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._armed: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = 0

    def line(self, call: Telling, key: Key | None, record: logging.LogRecord) -> None:
        """A record that was made in a step, or (without a key) in the function's own code."""
        if len(self._lines) >= MOST_WAITING:
            self._lost += 1
            return
        try:
            message = record.getMessage()
        except Exception:  # its author's arguments do not fit; whoever handles it says so
            message = str(record.msg)
        self._lines.append(_Line(call, key, call.now_ns() // 1_000_000, message, record))
        self._arm(call)

    def watch(self, call: Telling) -> None:
        """From the next beat but one on, give signs of life for a call. For its loop."""
        with self._lock:
            self._young.add(call)
        if self._beating is None or self._beating.is_closed():
            self._beating = call.loop
            call.loop.call_later(BEAT_S, self._beat, call.loop, context=contextvars.Context())

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            known = [call for call in self._calls if not call.over]
            young = [call for call in self._young if not call.over]
            self._calls = weakref.WeakSet([*known, *young])
            self._young = weakref.WeakSet()
        for call in known:
            self.sign(call, None)
        if known or young:
            loop.call_later(BEAT_S, self._beat, loop)
        else:
            self._beating = None

    def sign(self, call: Telling, key: Key | None, progress: float | None = None, message: str = "") -> None:
        """How far a step is, or just that it (or the call) is alive. Of what is told quickly the last is sent."""
        place = (call.job.run_id, "" if key is None else key.hash)
        entry = _entry(call, key, call.now_ns() // 1_000_000, progress=progress, message=message)
        with self._lock:
            if progress is not None or place not in self._signs:
                self._signs[place] = entry
            self._calls.add(call)
        self._arm(call)

    def _arm(self, call: Telling) -> None:
        """See to it that what waits is sent soon, on the loop of one of the calls."""
        with self._lock:
            if self._armed is not None and not self._armed.is_closed():
                return
            self._armed = call.loop
        try:
            # In a context of its own: what is begun here is none of the function's.
            call.loop.call_soon_threadsafe(self._wait, call.loop, context=contextvars.Context())
        except RuntimeError:  # the loop is closed
            self._armed = None

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(FLUSH_S, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._work(loop))

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await self.flush()
        finally:
            with self._lock:
                self._armed = None
                more = bool(self._lines or self._signs)
                if more:
                    self._armed = loop
            if more:  # it came after the last look
                self._wait(loop)

    async def flush(self) -> None:
        """Send what waits, one request after the other. Never raises for reasons of the network."""
        if self._lost:
            log.warning("%d log lines of steps came too quickly to be sent to the server.", self._lost)
            self._lost = 0
        while self._lines or self._signs:
            body = b"[" + b",".join(self._take()) + b"]"
            if self.send is not None and self.send(body):
                continue
            try:
                answer = await self._api.call("POST", LOGS_PATH, body)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                log.debug("Log lines of steps could not be sent: %s", error)
                await asyncio.sleep(AGAIN_S)
                continue
            if answer.status == 200:
                self._stop(read_taken(answer.body).cancelled)
            else:
                log.debug(
                    "The server refused log lines of steps (HTTP %s): %r", answer.status, answer.body[:200]
                )

    def _take(self) -> list[bytes]:
        with self._lock:
            signs = list(self._signs)[: MAX_ENTRIES // 2]
            taken = [self._signs.pop(place) for place in signs]
        size = sum(len(entry) for entry in taken)
        while self._lines and len(taken) < MAX_ENTRIES and size < MAX_BODY:
            entry = _line_entry(self._lines.popleft())
            taken.append(entry)
            size += len(entry)
        return taken

    def _stop(self, cancelled: list[str]) -> None:
        if not cancelled:
            return
        with self._lock:
            calls = [call for call in self._calls if call.job.run_id in cancelled]
        for call in calls:
            log.info("Run %s was cancelled; its step is stopped.", call.job.run_id)
            try:
                call.loop.call_soon_threadsafe(call.abandon, context=contextvars.Context())
            except RuntimeError:  # the loop is closed
                continue


def _entry(call: Telling, key: Key | None, ts: int, **more: Any) -> bytes:
    job = call.job
    hash, step_id = ("", "") if key is None else (key.hash, key.step_id)
    return _encode(_Entry(job.run_id, hash, step_id, job.attempt, ts, **more))


def _line_entry(line: _Line) -> bytes:
    record, message = line.record, line.message
    if record.exc_info:
        message += "\n" + _formatter.formatException(record.exc_info)
    given = {"level": record.levelname, "logger": record.name, "message": message[: MAX_MESSAGE + 1]}
    if len(record.__dict__) > _USUAL:
        extra = {name: value for name, value in dict(record.__dict__).items() if name not in _STANDARD}
        if extra:
            try:
                return _entry(line.call, line.key, line.ts, fields=extra, **given)
            except Exception:  # its author's objects have no text
                return _entry(line.call, line.key, line.ts, **given)
    return _entry(line.call, line.key, line.ts, **given)


_json = msgspec.json.Encoder(enc_hook=str)


def _encode(entry: _Entry) -> bytes:
    try:
        return _json.encode(entry)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold as an escape
        import json

        return json.dumps(msgspec.to_builtins(entry, enc_hook=str, str_keys=True)).encode()
