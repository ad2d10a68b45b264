"""Spans for OpenTelemetry: one for each call of a function, one for each step that is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import perdure
from perdure.sdk.errors import UsageError
from perdure.sdk.middleware import CallInfo, Middleware, StepInfo


class OpenTelemetry(Middleware):
    """Makes a span of each call of a function and of each step, in the trace that the server began for the run.

    A call that ends in the middle of the function, to be taken up by a later one, is no error; it has the attribute
    `perdure.suspended`. `tracer_provider` is the process's own unless given. Raises UsageError without the package
    opentelemetry-api; what exports the spans is opentelemetry-sdk, as set up by the app.
    """

    def __init__(self, tracer_provider: Any = None) -> None:
        try:
            from opentelemetry import trace
        except ImportError:
            raise UsageError(
                "The middleware OpenTelemetry needs a package: pip install opentelemetry-api"
            ) from None
        self._trace = trace
        self._tracer = trace.get_tracer("perdure", perdure.__version__, tracer_provider)

    def wrap_function(self, call: CallInfo) -> AbstractContextManager[Any]:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {"traceparent": call.traceparent} if call.traceparent else {}
        parent = TraceContextTextMapPropagator().extract(carrier)
        return self._span(call.function_id, self._trace.SpanKind.CONSUMER, _attributes(call), parent)

    def wrap_step(self, step: StepInfo) -> AbstractContextManager[Any]:
        attributes = {**_attributes(step.call), "perdure.step.id": step.id, "perdure.step.index": step.index}
        return self._span(step.id, self._trace.SpanKind.INTERNAL, attributes, None)

    @contextmanager
    def _span(self, name: str, kind: Any, attributes: Mapping[str, str | int], parent: Any) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.record_exception(error)
                span.set_status(self._trace.StatusCode.ERROR, f"{type(error).__name__}: {error}")
                raise
            except BaseException:
                span.set_attribute("perdure.suspended", True)
                raise


def _attributes(call: CallInfo) -> dict[str, str | int]:
    return {
        "perdure.function.id": call.function_id,
        "perdure.run.id": call.run_id,
        "perdure.attempt": call.attempt,
    }
