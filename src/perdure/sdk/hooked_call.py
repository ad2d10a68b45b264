"""A call of a function that has middleware: what goes in and out of it passes through their chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import msgspec

from perdure.sdk import codec
from perdure.sdk.asks import Ask
from perdure.sdk.call import NO_OPTS, Call, Step
from perdure.sdk.function import Function
from perdure.sdk.job import Job
from perdure.sdk.middleware import CallHooks, CallInfo, Chain, Payload
from perdure.sdk.saving import Checkpoints

_EVENT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_SERVERS_OWN = frozenset(("Sleep", "Gateway", "AIGateway"))
"""Steps whose results the server makes: no middleware has seen them on their way out."""


class HookedCall(Call):
    """Runs one call through a chain."""

    def __init__(
        self,
        function: Function[Any, Any],
        job: Job,
        now_ns: Callable[[], int],
        checkpoints: Checkpoints | None,
        chain: Chain,
    ) -> None:
        super().__init__(function, job, now_ns, checkpoints)
        self.chain = chain
        self.info = info_of(function, job)
        self.hooks = CallHooks(chain, self.info)

    def begin(self, step_id: str, opts: bytes, strand: Hashable) -> tuple[Step, bytes | None]:
        payload = self._step(step_id)
        if opts is not NO_OPTS:  # ai.wrap shows its arguments
            opts = self.chain.member_out(opts, "input", payload)
        step, saved = super().begin(step_id, opts, strand)
        if step.input is not None:
            step.input = self.chain.incoming(step.input, payload)
        return step, None if saved is None else self.chain.incoming(saved, payload)

    def begin_ask(self, ask: Ask, strand: Hashable) -> tuple[Step, bytes | None]:
        if ask.op == "InvokeFunction" and ask.opts is not None:
            ask = msgspec.structs.replace(ask, opts=self._invoke_opts(ask.opts))
        step, saved = super().begin_ask(ask, strand)
        if saved is None or ask.op in _SERVERS_OWN:
            return step, saved
        if ask.op == "WaitForEvent":
            return step, event_in(self.chain, saved, self.info)
        if ask.op == "WaitForSignal":
            return step, self.chain.member_in(saved, "data", Payload("signal", ask.name or "", self.info))
        return step, self.chain.incoming(saved, self._step(ask.step_id))

    def _invoke_opts(self, opts: bytes) -> bytes:
        fields = _EVENT.decode(opts)
        payload = Payload("event", _TEXT.decode(fields["function_id"]), self.info)
        fields["payload"] = msgspec.Raw(self.chain.member_out(bytes(fields["payload"]), "data", payload))
        return msgspec.json.encode(fields)

    async def finish(self, step: Step, value: object, error: BaseException | None) -> bytes:
        step_id = step.key.step_id
        data = b"null"
        if error is None:
            try:
                data = codec.encode(value, self.what_returned(step))
                value = msgspec.Raw(self.chain.outgoing(data, self._step(step_id)))
            except Exception as raised:
                error = raised
        await super().finish(step, value, error)
        return data

    async def _body(self, start: Callable[[Call], Awaitable[Any]]) -> bytes:
        return self.chain.outgoing(
            await super()._body(start), Payload("function", self.function.slug, self.info)
        )

    def _step(self, step_id: str) -> Payload:
        return Payload("step", step_id, self.info)


def info_of(function: Function[Any, Any], job: Job) -> CallInfo:
    """What middleware is told of a call."""
    return CallInfo(function.slug, job.run_id, job.attempt, job.max_attempts, job.traceparent)


def event_in(chain: Chain, raw: bytes, info: CallInfo) -> bytes:
    """An event from the wire, with its data as the function's code gets them."""
    if raw[:1] != b"{":
        return raw
    name = _EVENT.decode(raw).get("name")
    return chain.member_in(raw, "data", Payload("event", "" if name is None else _TEXT.decode(name), info))


def events_in(chain: Chain, function: Function[Any, Any], job: Job) -> None:
    """Pass the events of a call through the chain."""
    info = info_of(function, job)
    alone = len(job.events) == 1 and job.events[0] == job.event
    job.event = event_in(chain, job.event, info)
    job.events = [job.event] if alone else [event_in(chain, raw, info) for raw in job.events]
