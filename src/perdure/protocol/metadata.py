"""Metadata: small values that user code or an SDK attaches to a run or a step (protocol §7.5).

An update has a kind, a way to change what stands there (`merge`, `set`, `delete`, `add`) and values. It comes
in a request of its own, or beside the result of a step.
"""

from __future__ import annotations

import msgspec

from perdure.errors import RequestError
from perdure.protocol.ids import hash_step_id

OPS = ("merge", "set", "delete", "add")
RESERVED = frozenset(("inngest.score", "inngest.experiment", "inngest.ai"))
"""Kinds that SDKs may write; all others of users begin with `userland.`."""
MAX_UPDATE_BYTES = 64 * 1024
MAX_RUN_BYTES = 1024 * 1024
"""All updates of a run together."""
MAX_UPDATES = 100
"""Updates of one request, and of one step's result."""
MAX_KIND_CHARS = 128


class MetadataUpdate(msgspec.Struct, frozen=True, gc=False):
    """A change. `values` is a raw JSON object."""

    kind: str
    op: str
    values: bytes

    def size(self) -> int:
        """How many bytes it counts for."""
        return len(self.values) + len(self.kind)


class MetadataRequest(msgspec.Struct, frozen=True):
    """Updates for a run, or for the step with this id on the wire (empty: the run)."""

    step: str
    updates: list[MetadataUpdate]


class _Target(msgspec.Struct):
    run_id: str | None = None
    step_id: str | None = None
    step_index: int | None = None
    step_attempt: int | None = None
    span_id: str | None = None


class _Update(msgspec.Struct):
    kind: str
    op: str = "merge"
    values: msgspec.Raw = msgspec.Raw(b"{}")


class _Body(msgspec.Struct):
    target: _Target = msgspec.field(default_factory=_Target)
    metadata: list[_Update] = []


_BODY = msgspec.json.Decoder(_Body)
_UPDATES = msgspec.json.Decoder(list[_Update])


def read_metadata(body: bytes, run_id: str) -> MetadataRequest:
    """Read the body of a request about a run.

    Raises `RequestError`: 400 for what is no update or names no target, 413 for one that is too large.
    """
    try:
        given = _BODY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"Invalid metadata: {error}") from None
    return MetadataRequest(_step_of(given.target, run_id), _checked(given.metadata))


def _step_of(target: _Target, run_id: str) -> str:
    wrong_run = target.run_id is not None and target.run_id != run_id
    part = target.step_index is not None or target.step_attempt is not None or target.span_id is not None
    index = target.step_index or 0
    if wrong_run or index < 0 or (target.step_id is None and part):
        raise RequestError(400, "Invalid metadata target")
    return "" if target.step_id is None else hash_step_id(target.step_id, index)


def _checked(given: list[_Update]) -> list[MetadataUpdate]:
    if len(given) > MAX_UPDATES:
        raise RequestError(413, f"{len(given)} metadata updates at once; {MAX_UPDATES} are allowed")
    updates = []
    for update in given:
        values = bytes(update.values)
        if update.op not in OPS:
            raise RequestError(
                400, f"Invalid metadata op {update.op[:40]!r}; it must be one of {', '.join(OPS)}"
            )
        if not _kind_allowed(update.kind):
            kinds = ", ".join(sorted(RESERVED))
            raise RequestError(
                400,
                f"Invalid metadata kind {update.kind[:60]!r}; it must begin with userland. or be one of {kinds}",
            )
        if values[:1] != b"{":
            raise RequestError(400, f"Invalid metadata of kind {update.kind}: values must be an object")
        checked = MetadataUpdate(update.kind, update.op, values)
        if checked.size() > MAX_UPDATE_BYTES:
            raise RequestError(
                413, f"Metadata of kind {update.kind} is larger than {MAX_UPDATE_BYTES // 1024} KiB"
            )
        updates.append(checked)
    return updates


def _kind_allowed(kind: str) -> bool:
    if len(kind) > MAX_KIND_CHARS:
        return False
    return kind in RESERVED or (kind.startswith("userland.") and len(kind) > len("userland."))


def read_updates(raw: bytes) -> list[MetadataUpdate]:
    """The updates that came with a step's result. What is none is left out: the result counts, not they."""
    try:
        given = _UPDATES.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return []
    updates = []
    for update in given[:MAX_UPDATES]:
        try:
            updates += _checked([update])
        except RequestError:
            continue
    return updates
