"""Checkpoints: running calls post their finished steps.

`POST /v1/checkpoint/{run}/async` takes those of one run, as every SDK posts them. `POST /v1/checkpoints` takes
those of many runs in one body, a JSON array of the same objects, and answers with an array that says for each, in
the same order, what a request of its own would have been answered: `{"status":200}`, or a status with an `error`.
Calls announce it (`protocol.capabilities`), so that no SDK sends it to a server without it.

The answer comes when the steps are on disk, so that an app goes on only with what cannot be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from perdure.errors import RequestError
from perdure.protocol.ids import is_ulid
from perdure.protocol.ops import OpsError, read_ops
from perdure.server.context import Server
from perdure.server.http import JSON, Receive, Send, read_body, respond
from perdure.shard.calls import read_queue_item_id
from perdure.shard.commands import Checkpoint

MAX_CHECKPOINT_BYTES = 8 * 1024 * 1024
"""Largest checkpoint of one run."""

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Largest body with those of many."""

MAX_CHECKPOINTS = 1_000
"""Most checkpoints in one body."""

_SAVED = b'{"status":200}'


class Posted(msgspec.Struct, gc=False):
    """A checkpoint as it came: `steps` is JSON, an array of ops, and not looked at yet.

    `request_started_at` and `ts` are when the call began and when it posted, in ms by the app's clock; they only say
    how quick the app is, so whatever is there is taken.
    """

    run_id: str = ""
    qi_id: str = ""
    generation_id: int | None = None
    steps: msgspec.Raw = msgspec.Raw(b"[]")
    request_started_at: msgspec.Raw = msgspec.Raw()
    ts: msgspec.Raw = msgspec.Raw()

    @property
    def took(self) -> int | None:
        """How long (ms) the app had the call until it posted, if it says."""
        begun, posted = bytes(self.request_started_at), bytes(self.ts)
        if not (begun.isdigit() and posted.isdigit() and len(begun) < 20 and len(posted) < 20):
            return None
        return max(int(posted) - int(begun), 0)


class _Body(msgspec.Struct, gc=False):
    """A checkpoint of the run that is named by the path."""

    qi_id: str = ""
    generation_id: int | None = None
    steps: msgspec.Raw = msgspec.Raw(b"[]")
    request_started_at: msgspec.Raw = msgspec.Raw()
    ts: msgspec.Raw = msgspec.Raw()


_BODY = msgspec.json.Decoder(_Body)
_POSTED = msgspec.json.Decoder(Posted)
_MANY: msgspec.json.Decoder[list[Posted]] = msgspec.json.Decoder(list[Posted])
_RAW: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

_MALFORMED = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


async def checkpoint(server: Server, receive: Receive, send: Send, run_id: str) -> None:
    """Record the steps of a checkpoint. 409 tells the app that another call has taken over the run."""
    body = await read_body(receive, MAX_CHECKPOINT_BYTES, server.intake)
    if not is_ulid(run_id):
        raise _wrong_run(run_id)
    try:
        read = _BODY.decode(body)
    except _MALFORMED as error:
        raise _malformed(error, run_id) from None
    posted = Posted(run_id, read.qi_id, read.generation_id, read.steps, read.request_started_at, read.ts)
    await server.submit(command_of(posted))
    await respond(send, 200, b"", JSON)


async def checkpoints(server: Server, receive: Receive, send: Send) -> None:
    """Record checkpoints of many runs, each by itself: what is wrong with one is no matter to the others."""
    fates = await record(server, _read_many(await read_body(receive, MAX_BODY_BYTES, server.intake)))
    answers = [_SAVED if fate is None else _refusal(fate) for fate in fates]
    await respond(send, 200, b"[" + b",".join(answers) + b"]", JSON)


async def record(server: Server, posts: Sequence[Posted | RequestError]) -> Sequence[RequestError | None]:
    """Have checkpoints decided and saved, in their order; for each None, or why it was refused.

    Returns when all are on disk or refused. A `RequestError` among `posts` stands for one that could not be read,
    and is its own outcome.
    """
    waiting: list[asyncio.Future[object] | RequestError] = []
    for posted in posts:
        try:
            waiting.append(posted if isinstance(posted, RequestError) else server.submit(command_of(posted)))
        except RequestError as refusal:
            waiting.append(refusal)
    try:
        return [await _outcome(one) for one in waiting]
    finally:
        for one in waiting:
            if not isinstance(one, RequestError):
                one.cancel()  # of use only if nobody waits for the rest any more


async def _outcome(one: asyncio.Future[object] | RequestError) -> RequestError | None:
    if isinstance(one, RequestError):
        return one
    try:
        await one
    except RequestError as refusal:
        return refusal
    return None


def command_of(posted: Posted, took: int | None = None) -> Checkpoint:
    """What the shard is asked to do. Raises `RequestError` if the checkpoint cannot be used.

    `took` stands in for `Posted.took` where that is told in another way.
    """
    run_id = posted.run_id
    if not is_ulid(run_id):
        raise _wrong_run(run_id)
    data = {"run_id": run_id}
    try:
        ops = read_ops(bytes(posted.steps))
    except OpsError as error:
        if error.too_large is not None:
            text = f"step {error.too_large} output too large: step output size is greater than the limit"
            raise RequestError(413, text, data=data) from None
        raise RequestError(400, error.message, data=data) from None
    except _MALFORMED as error:
        raise _malformed(error, run_id) from None
    item = read_queue_item_id(posted.qi_id)
    if item is None or item[0] != run_id:
        raise RequestError(409, "stale dispatch: queue item not found", data=data)
    return Checkpoint(
        run=run_id,
        n=item[1],
        generation=posted.generation_id,
        ops=ops,
        took=posted.took if took is None else took,
    )


def _read_many(body: bytes) -> Sequence[Posted | RequestError]:
    try:
        return _within_limits(_MANY.decode(body))
    except _MALFORMED:
        pass
    try:
        raws = _RAW.decode(body)
    except _MALFORMED as error:
        raise RequestError(400, f"Not an array of checkpoints: {error}") from None
    return _within_limits([_read_one(raw) for raw in raws])


def _within_limits(posts: Sequence[Posted | RequestError]) -> Sequence[Posted | RequestError]:
    if len(posts) > MAX_CHECKPOINTS:
        raise RequestError(413, f"{len(posts)} checkpoints in one body; at most {MAX_CHECKPOINTS} are taken")
    return posts


def _read_one(raw: msgspec.Raw) -> Posted | RequestError:
    try:
        return _POSTED.decode(raw)
    except _MALFORMED as error:
        return _malformed(error, "")


def _wrong_run(run_id: str) -> RequestError:
    return RequestError(400, f"Invalid run ID: {run_id}", data={"run_id": run_id})


def _malformed(error: Exception, run_id: str) -> RequestError:
    return RequestError(400, f"Invalid checkpoint: {error}", data={"run_id": run_id})


def _refusal(error: RequestError) -> bytes:
    return msgspec.json.encode({"status": error.status, "error": error.message})
