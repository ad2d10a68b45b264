"""Posting finished steps while the function goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from perdure.sdk import ops
from perdure.sdk.api import TRIES, Api
from perdure.sdk.call import Stale
from perdure.sdk.durations import milliseconds
from perdure.sdk.job import Job
from perdure.sdk.options import Checkpoint

log = logging.getLogger("perdure")


class CheckpointPoster:
    """Posts the steps of calls, `limit` at a time."""

    def __init__(self, api: Api, option: Checkpoint, now_ms: Callable[[], int]) -> None:
        self._api = api
        self._now_ms = now_ms
        self.limit = max(1, option.steps)
        runtime = option.max_runtime
        self.max_runtime_ns = None if runtime is None else milliseconds(runtime, "max_runtime") * 1_000_000

    async def post(self, job: Job, steps: list[bytes]) -> bool:
        """True if the steps are saved. Raises Stale if another call has taken over the run, or it has ended."""
        now = self._now_ms()
        fields = {
            "run_id": job.run_id,
            "fn_id": job.fn_id,
            "qi_id": job.qi_id,
            "request_id": job.request_id,
            "generation_id": job.generation,
            "request_started_at": now,
            "steps": msgspec.Raw(ops.array(steps)),
            "ts": now,
        }
        body = msgspec.json.encode(fields)
        try:
            answer = await self._api.call("POST", f"/v1/checkpoint/{job.run_id}/async", body, tries=TRIES)
        except (OSError, TimeoutError, ValueError) as error:
            log.warning(
                "A checkpoint of run %s could not be posted (%s); it comes with the answer.",
                job.run_id,
                error,
            )
            return False
        if answer.status == 200:
            return True
        if answer.status == 409:
            log.info("Run %s goes on in another call, or was cancelled; this call stops.", job.run_id)
            raise Stale
        text = answer.body[:200].decode("utf-8", "replace")
        log.warning("A checkpoint of run %s was refused (HTTP %s): %s", job.run_id, answer.status, text)
        return False
