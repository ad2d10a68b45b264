"""Checkpoints: a running call posts its finished steps (`POST /v1/checkpoint/{run}/async`).

The answer comes when the steps are on disk, so that the app goes on only with what cannot be lost.
"""

from __future__ import annotations

import msgspec

from perdure.errors import RequestError
from perdure.protocol.ids import is_ulid
from perdure.protocol.ops import OpsError, read_ops
from perdure.server.context import Server
from perdure.server.http import JSON, Receive, Send, read_body, respond
from perdure.shard.calls import read_queue_item_id
from perdure.shard.commands import Checkpoint

MAX_CHECKPOINT_BYTES = 8 * 1024 * 1024


class _Body(msgspec.Struct):
    qi_id: str = ""
    generation_id: int | None = None
    steps: msgspec.Raw = msgspec.Raw(b"[]")


_BODY = msgspec.json.Decoder(_Body)


async def checkpoint(server: Server, receive: Receive, send: Send, run_id: str) -> None:
    """Record the steps of a checkpoint. 409 tells the app that another call has taken over the run."""
    body = await read_body(receive, MAX_CHECKPOINT_BYTES, server.intake)
    data = {"run_id": run_id}
    if not is_ulid(run_id):
        raise RequestError(400, f"Invalid run ID: {run_id}", data=data)
    try:
        fields = _BODY.decode(body)
        ops = read_ops(bytes(fields.steps))
    except OpsError as error:
        if error.too_large is not None:
            text = f"step {error.too_large} output too large: step output size is greater than the limit"
            raise RequestError(413, text, data=data) from None
        raise RequestError(400, error.message, data=data) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(400, f"Invalid checkpoint: {error}", data=data) from None
    item = read_queue_item_id(fields.qi_id)
    if item is None or item[0] != run_id:
        raise RequestError(409, "stale dispatch: queue item not found", data=data)
    await server.submit(Checkpoint(run=run_id, n=item[1], generation=fields.generation_id, ops=ops))
    await respond(send, 200, b"", JSON)
