"""The call to an app for one item: its URL, headers and body.

The body is joined from bytes that are stored as they came: events and step results are never decoded here.
A signature, if a key is set, is made over the canonical form, which is what SDKs check (they canonicalise
what they receive).
"""

from __future__ import annotations

import base64
import hashlib

from ulid_transform import bytes_to_ulid, ulid_to_bytes

from perdure.core.functions import Function
from perdure.core.model import FromStep, Item, ItemKind, Run, Step
from perdure.core.settings import Settings
from perdure.protocol import capabilities
from perdure.protocol.calls import Call
from perdure.protocol.ids import ACCOUNT_ID
from perdure.protocol.memos import input_memo
from perdure.protocol.payloads import json_string
from perdure.protocol.signing import sign

_TRUE, _FALSE = b"true", b"false"
QUEUE_NAME = "default"
"""Second part of a queue item's id, as SDKs send it back in checkpoints."""


def job_id(run_id: str, n: int) -> str:
    """The name of an item towards apps; the same for all its attempts."""
    return f"{run_id}.{n}"


def queue_item_id(run_id: str, n: int) -> str:
    """The item's id as SDKs send it back: base64 of `<job id>::<queue>`."""
    return base64.b64encode(f"{job_id(run_id, n)}::{QUEUE_NAME}".encode()).decode()


def read_queue_item_id(text: str) -> tuple[str, int] | None:
    """(run id, n) of an item from what `queue_item_id` made, or from a bare job id; None if it is neither."""
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except ValueError:
        decoded = text
    run_id, dot, n = decoded.partition("::")[0].rpartition(".")
    return (run_id, int(n)) if dot and n.isascii() and n.isdigit() and len(n) < 10 else None


def request_id(run_id: str, n: int, generation: int) -> str:
    """The id of one dispatch of an item, a ULID in time like its run's.

    It can be made again by whoever knows the item, so that an answer finds its call after a restart of the server.
    """
    made = hashlib.blake2b(b"%b.%d.%d" % (run_id.encode(), n, generation), digest_size=10)
    return bytes_to_ulid(ulid_to_bytes(run_id)[:6] + made.digest())


def uses_api(run: Run, settings: Settings) -> bool:
    """Whether the run's steps are too large to travel in the call; the SDK then fetches them.

    The first event stands in a call twice: alone, and among all events.
    """
    edited = run.edited_step
    more = 0 if edited is None else len(edited.arguments or b"")
    return run.state_bytes + _event_bytes(run) + more > settings.inline_state_bytes


def _event_bytes(run: Run) -> int:
    return len(run.events[0]) + sum(len(event) for event in run.events)


class CallBuilder:
    """Builds calls. `kind` is what the server calls itself (`dev` or `cloud`), `signing_key` signs if
    given.
    """

    def __init__(self, kind: str, signing_key: str | None, settings: Settings) -> None:
        self._signing_key = signing_key
        self._settings = settings
        self._headers = (
            ("Content-Type", "application/json"),
            ("Accept-Encoding", "gzip"),
            ("User-Agent", "Inngest"),
            ("X-Inngest-Server-Kind", kind),
            ("account-id", ACCOUNT_ID),
            (capabilities.HEADER, capabilities.OFFERED),
        )

    def build(
        self,
        run: Run,
        item: Item,
        function: Function,
        attempts: int,
        request_id: str,
        trace: tuple[str, str],
        now_s: int,
    ) -> Call:
        """The call for `item` as it is now. `trace` is (trace id, span id) in hex.

        The run's memos must be in memory, unless it uses the API: TypeError if one is not.
        """
        job = job_id(run.id, item.n)
        step_id = item.step_id if item.kind is ItemKind.STEP else "step"
        body = self._body(run, item, function, attempts, job, request_id)
        headers: tuple[tuple[str, str], ...] = (
            *self._headers,
            ("X-Run-ID", run.id),
            ("x-request-id", request_id),
            ("x-inngest-generation-id", str(item.generation)),
            ("x-inngest-job-id", job),
            ("x-inngest-req-version", str(run.version)),
            ("X-Inngest-Step-ID", step_id),
            ("traceparent", f"00-{trace[0]}-{trace[1]}-01"),
        )
        if self._signing_key is not None:
            headers = (*headers, ("X-Inngest-Signature", sign(body, self._signing_key, now_s)))
        return Call(function.url.to(step_id), body, headers)

    def _body(
        self, run: Run, item: Item, function: Function, attempts: int, job: str, request_id: str
    ) -> bytes:
        use_api = uses_api(run, self._settings)
        api = _TRUE if use_api else _FALSE
        grouped = any(other.group for other in run.items.values()) or (run.parallel and 0 <= run.version < 2)
        current = item.data if item.data is not None and item.data.isdigit() else b"0"
        stack = b",".join([_quoted(step_id) for step_id in run.steps])
        steps = b""
        if not use_api:
            steps = b",".join([_memo(step) for step in run.steps.values()])
            edited = run.edited_step
            if edited is not None:
                steps += (b"," if steps else b"") + edited_input(edited)
        events = run.events
        return (
            b'{"ctx":{"attempt":%d,"disable_immediate_execution":%b,"env":"","fn_id":"%b","generation_id":%d,'
            b'"job_id":"%b","max_attempts":%d,"qi_id":"%b","request_id":"%b","run_id":"%b",'
            b'"stack":{"current":%b,"stack":[%b]},"step_id":"step","use_api":%b},'
            b'"defers":{},"event":%b,"events":[%b],"steps":{%b},"use_api":%b,"version":%d}'
        ) % (
            item.attempt,
            _TRUE if grouped else _FALSE,
            function.id.encode(),
            item.generation,
            job.encode(),
            attempts,
            queue_item_id(run.id, item.n).encode(),
            request_id.encode(),
            run.id.encode(),
            current,
            stack,
            api,
            events[0],
            b"" if use_api and _event_bytes(run) > self._settings.inline_state_bytes else b",".join(events),
            steps,
            api,
            run.version,
        )


def _quoted(step_id: str) -> bytes:
    """A step's id as JSON: ids are hashes by custom, but any text by right."""
    return b'"%b"' % step_id.encode() if step_id.isalnum() and step_id.isascii() else json_string(step_id)


def _memo(step: Step) -> bytes:
    """A finished step as a member of `steps`. Dispatch has seen to it that the result is in memory."""
    assert step.memo is not None
    return b"%b:%b" % (_quoted(step.id), step.memo)


def edited_input(step: FromStep) -> bytes:
    """A step that is to run with edited input, as a member of `steps`."""
    return b"%b:%b" % (_quoted(step.id), input_memo(step.arguments or b"[]"))
