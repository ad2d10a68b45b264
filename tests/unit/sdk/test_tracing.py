"""Spans: whose children they are, what they tell, and which calls count as failed."""

from __future__ import annotations

import io
import logging

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import perdure
from perdure.middleware import OpenTelemetry
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request
from tests.unit.sdk.calls import body_of, h, make_app

TRACE, PARENT = "ab" * 16, "cd" * 8


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(exporter: InMemorySpanExporter) -> perdure.App:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = make_app(middleware=[OpenTelemetry(provider)])

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        await step.run("one", works)

    @app.function("unit/go")
    def plain(step: perdure.SyncStep) -> None:
        step.run("one", works)

    @app.function("unit/go")
    async def fails(step: perdure.Step) -> None:
        await step.run("one", lambda: int("x"))

    return app


def works() -> str:
    """A span of the step's own code, as an instrumented library would make it."""
    tracer = trace.get_tracer("library")
    with tracer.start_as_current_span("inner"):
        return f"{trace.get_current_span().get_span_context().trace_id:032x}"


async def called(
    app: perdure.App, fn: str, exporter: InMemorySpanExporter, **given: object
) -> dict[str, ReadableSpan]:
    url = f"http://app.test/api/inngest?fnId=unit-{fn}&stepId=step"
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    await Endpoint(app, "test").handle(Request("POST", url, headers, body_of(**given)))  # type: ignore[arg-type]
    return {span.name: span for span in exporter.get_finished_spans()}


@pytest.mark.parametrize("fn", ["job", "plain"])
async def test_a_step_is_a_child_of_its_call_which_is_one_of_the_servers(
    app: perdure.App, exporter: InMemorySpanExporter, fn: str
) -> None:
    import asyncio

    spans = await called(app, fn, exporter)
    await asyncio.sleep(0.05)  # the thread of a sync function ends after the answer
    spans = {span.name: span for span in exporter.get_finished_spans()}
    function, step = spans[f"unit-{fn}"], spans["one"]
    assert function.parent is not None
    assert f"{function.parent.span_id:016x}" == PARENT
    assert f"{function.context.trace_id:032x}" == TRACE
    assert step.parent is not None
    assert step.parent.span_id == function.context.span_id
    assert dict(step.attributes or {}) == {
        "perdure.function.id": f"unit-{fn}", "perdure.run.id": "01RUN", "perdure.attempt": 0,
        "perdure.step.id": "one", "perdure.step.index": 0,
    }  # fmt: skip
    assert step.status.is_unset
    assert function.status.is_unset, "a call that ends after its step is no failed one"
    assert (function.attributes or {})["perdure.suspended"] is True


async def test_a_failing_step_and_a_failing_function(
    app: perdure.App, exporter: InMemorySpanExporter
) -> None:
    spans = await called(app, "fails", exporter)
    assert not spans["one"].status.is_ok
    assert "ValueError" in (spans["one"].status.description or "")
    assert spans["one"].events[0].name == "exception"
    exporter.clear()
    error = {"error": {"name": "ValueError", "message": "bad"}}
    spans = await called(app, "fails", exporter, steps={h("one"): error}, attempt=1)
    assert list(spans) == ["unit-fails"], "a saved step is not run"
    assert spans["unit-fails"].status.status_code is trace.StatusCode.ERROR


async def test_log_lines_know_the_span(app: perdure.App, exporter: InMemorySpanExporter) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(trace_id)s %(span_id)s %(message)s"))
    handler.addFilter(perdure.LogContext())
    log = logging.getLogger("tests.traced")
    log.addHandler(handler)
    try:

        @app.function("unit/go")
        async def says(step: perdure.Step) -> None:
            await step.run("one", lambda: log.warning("in it"))

        spans = await called(app, "says", exporter)
        assert stream.getvalue() == f"{TRACE} {spans['one'].context.span_id:016x} in it\n"
        log.warning("outside")
        assert stream.getvalue().splitlines()[1] == "  outside"
    finally:
        log.removeHandler(handler)
