"""What an answer to a call says, read as simply as can be: the oracle's own eyes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from perdure.protocol.calls import CallAnswer, CallFailure


@dataclass(frozen=True)
class Answer:
    """`kind` is `ops`, `finished` or `error`."""

    kind: str
    ops: list[dict[str, Any]] = field(default_factory=list)
    output: object = None
    final: bool = False
    retry_after: int | None = None
    version: int | None = None


def read_answer(result: CallAnswer | CallFailure) -> Answer:
    """Read an answer, or the lack of one."""
    if isinstance(result, CallFailure):
        return Answer("error")
    status, headers, body = result.status, result.headers, result.body
    if status == 201:
        wrapped = json.loads(body)
        status, headers, body = wrapped["status"], headers | wrapped["headers"], wrapped["body"].encode()
    if "x-inngest-sdk" not in headers:
        return Answer("error")
    final = headers.get("x-inngest-no-retry") == "true"
    after = headers.get("retry-after")
    seconds = None if after is None else int(after)
    if status == 206:
        try:
            ops = json.loads(body)
        except ValueError:
            return Answer("error")
        return Answer("ops", ops, None, final, seconds, int(headers["x-inngest-req-version"]))
    if status == 200:
        return Answer("finished", output=json.loads(body))
    return Answer("error", output=json.loads(body), final=final, retry_after=seconds)
