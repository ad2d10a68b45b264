"""From a call as the shard makes it (URL and headers, as over HTTP) to what a worker is sent, and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import parse_qs, urlsplit

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.connect.messages import (
    GatewayExecutorRequestData,
    ResponseStatus,
    SDKResponse,
)
from perdure.protocol.connect.registration import trace_context
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID, app_uuid, function_uuid
from perdure.transports.connect.requests import CallTarget

_STEP = "stepId="
_STATUS: dict[int, int] = {ResponseStatus.DONE: 200, ResponseStatus.NOT_COMPLETED: 206}


@lru_cache(maxsize=4_096)
def _read_prefix(prefix: str) -> tuple[str, str, str, str]:
    """App, slug, and the ids of both, from a URL up to the step."""
    query = parse_qs(urlsplit(prefix).query)
    app, slug = query["app_name"][0], query["fnId"][0]
    return app, slug, app_uuid(app), function_uuid(app, slug)


def read_target(call: Call) -> CallTarget:
    """What a call is for. Raises KeyError or ValueError if it is not one for a worker."""
    prefix, _, step_id = call.url.rpartition(_STEP)
    app, slug, _, _ = _read_prefix(prefix)
    headers = dict(call.headers)
    job_id = headers["x-inngest-job-id"]
    return CallTarget(
        headers["x-request-id"],
        app,
        slug,
        headers["X-Run-ID"],
        int(job_id.rpartition(".")[2]),
        int(headers["x-inngest-generation-id"]),
        step_id,
        job_id,
        trace_context(headers["traceparent"]),
    )


def executor_request(call: Call, target: CallTarget, lease: str) -> GatewayExecutorRequestData:
    """The message by which a worker is called."""
    _, _, app_id, function_id = _read_prefix(call.url.rpartition(_STEP)[0])
    return GatewayExecutorRequestData(
        request_id=target.request_id,
        account_id=ACCOUNT_ID,
        env_id=ENVIRONMENT_ID,
        app_id=app_id,
        app_name=target.app,
        function_id=function_id,
        function_slug=target.slug,
        step_id=target.step_id,
        request_payload=call.body,
        system_trace_ctx=target.trace,
        user_trace_ctx=target.trace,
        run_id=target.run_id,
        lease_id=lease,
        job_id=target.job_id,
    )


def read_answer(
    response: SDKResponse, max_answer: int, on_stored: Callable[[], None]
) -> CallAnswer | CallFailure:
    """What a worker's reply would have been over HTTP: statuses and headers stand for its fields.

    The JavaScript SDK has no status for an error that is final (400 over HTTP), and says DONE with `no_retry`; a result
    never has that.
    """
    if len(response.body) > max_answer:
        text = f"The worker's answer has {len(response.body)} bytes; at most {max_answer} are taken."
        return CallFailure("output_too_large", text)
    headers = {"x-inngest-sdk": response.sdk_version or "connect"}
    if response.request_version:
        headers["x-inngest-req-version"] = str(response.request_version)
    if response.no_retry:
        headers["x-inngest-no-retry"] = "true"
    if response.retry_after:
        headers["retry-after"] = response.retry_after
    failed = response.no_retry and response.status == ResponseStatus.DONE
    status = 500 if failed else _STATUS.get(response.status, 500)
    return CallAnswer(status, headers, response.body, on_stored=on_stored)
