"""Whatever a history says, also one that was cut off, its trace is a proper tree."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.history import CopiedNote, CutNote, InvokedNote, OpNote, RequestNote
from perdure.protocol.ids import hash_step_id
from perdure.reading.outputs import read_output_name
from perdure.reading.port import WholeRun
from perdure.reading.spans import Span
from perdure.reading.trace import current_trace, older_trace
from tests.unit.reading.histories import T0, History

STEPS = ("a", "b", "c", "complete")
CODES = (
    "StepRun", "Step", "StepError", "StepFailed", "StepPlanned", "Sleep", "WaitForEvent", "WaitForSignal",
    "InvokeFunction", "Gateway", "AIGateway", "RunComplete", "None", "DiscoveryRequest",
)  # fmt: skip
STATUSES = {"FAILED", "QUEUED", "RUNNING", "COMPLETED", "WAITING", "CANCELLED", "SKIPPED"}
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"}

ops = st.builds(
    lambda code, step, name, planned, until, at: OpNote(
        code,
        hash_step_id(step),
        name or hash_step_id(step),
        at=at,
        took=3.0,
        until=until,
        event="e",
        function="f",
        planned=planned,
    ),
    st.sampled_from(CODES),
    st.sampled_from(STEPS),
    st.sampled_from(["", "name"]),
    st.booleans(),
    st.sampled_from([0, T0 + 500]),
    st.sampled_from([0.0, T0 + 7.0]),
)
entries = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("call"),
            "ops": st.lists(ops, max_size=4),
            "item": st.integers(2, 4),
            "attempt": st.integers(0, 2),
            "error": st.booleans(),
            "retry": st.booleans(),
            "end": st.booleans(),
            "step": st.sampled_from(["", "a", "b"]),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("checkpoint"), "ops": st.lists(ops, max_size=3)}),
    st.fixed_dictionaries(
        {
            "kind": st.just("resumed"),
            "step": st.sampled_from(STEPS),
            "how": st.sampled_from(
                ["slept", "matched", "timeout", "finished", "failed", "signal", "request"]
            ),
        }
    ),
    st.fixed_dictionaries({"kind": st.sampled_from(["request", "invoked"]), "step": st.sampled_from(STEPS)}),
    st.fixed_dictionaries(
        {"kind": st.just("cut"), "item": st.integers(2, 5), "step": st.sampled_from(["", *STEPS])}
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("copied"),
            "step": st.sampled_from(STEPS),
            "steps": st.lists(st.sampled_from(STEPS), unique=True),
            "edited": st.booleans(),
        }
    ),
)
items = st.tuples(
    st.sampled_from(["discovery", "step", "sleep", "wait", "request", "deadline"]),
    st.integers(2, 6),
    st.sampled_from(["", *STEPS]),
    st.booleans(),
)


def write(history: History, at: int, entry: dict[str, Any]) -> None:
    kind, step = entry["kind"], hash_step_id(entry.get("step") or "x")
    if kind == "call":
        more: dict[str, Any] = {"end": entry["end"]}
        if entry["error"]:
            more["error"] = b'{"message":"m"}'
        if entry["retry"]:
            more["retry"] = T0 + at + 50
        if entry["step"]:
            more["step"] = step
        history.call(at, *entry["ops"], item=entry["item"], attempt=entry["attempt"], **more)
    elif kind == "checkpoint":
        history.checkpoint(at, *entry["ops"])
    elif kind == "resumed":
        history.resumed(at, entry["step"], entry["how"], event="01E")
    elif kind == "copied":
        ids = [hash_step_id(one) for one in entry["steps"]]
        history.add(at, CopiedNote("01R", step, entry["step"], ids, entry["edited"]))
    elif kind == "cut":
        history.add(at, CutNote(entry["item"], 0, 1, T0 + at - 20, step if entry["step"] else ""))
    elif kind == "request":
        history.add(at, RequestNote(5, step, 0, msgspec.Raw(b"{}"), T0 + at + 9))
    else:
        history.add(at, InvokedNote(5, step, "01E", "01R"))


@given(
    st.lists(entries, max_size=12),
    st.lists(items, max_size=4),
    st.sampled_from(sorted(STATUSES - {"WAITING"})),
    st.sets(st.sampled_from(STEPS)),
)
def test_a_trace_is_a_proper_tree(
    happened: list[dict[str, Any]], left: list[tuple[str, int, str, bool]], status: str, recorded: set[str]
):
    history = History()
    for n, entry in enumerate(happened):
        write(history, 20 * (n + 1), entry)
    for step in sorted(recorded):
        history.step(step, "StepRun", 40, failed=step == "a")
    ended = 20 * (len(happened) + 1) if status in ENDED else None
    for kind, n, step, in_flight in left if ended is None else ():
        history.item(kind, n=n, step=step, in_flight=in_flight)
    whole = history.run(
        status, started=None if status == "QUEUED" else 5, ended=ended, output=b"{}" if ended else None
    )
    for trace in (current_trace(whole), older_trace(whole, "slug")):
        check(trace, whole, ended is not None)


def check(trace: Span, whole: WholeRun, ended: bool) -> None:
    spans = list(walk(trace))
    assert len({span.span_id for span in spans}) == len(spans)
    steps = [span.step_id for span in trace.children if span.step_id is not None]
    assert len(set(steps)) == len(steps)
    for span in spans:
        assert span.status in STATUSES
        assert span.duration is None or span.duration >= 0
        assert span.queued >= T0
        if span.output_id is not None:
            assert read_output_name(span.output_id).run_id == whole.run.id
        if ended:
            assert span.status in ENDED
            assert span.is_root or span.ended is not None
        for child in span.children:
            assert child.parent_id == span.span_id


def walk(span: Span) -> list[Span]:
    return [span, *(below for child in span.children for below in walk(child))]
