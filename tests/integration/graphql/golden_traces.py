"""Compares traces with what the reference server answered for the same run.

What a recorded trace must become before it can be compared is written down here, difference by difference, and
each of them is on purpose:

- a finished step stands twice in the current rendering of the recording; here once, the first of the two;
- a step or wait that had not ended when its run was cancelled goes on waiting in the recording; here it is
  cancelled;
- after an error that is not retried the recording shows one more attempt that is queued and never comes, and the
  step as running; here the attempt is left out and the step has failed;
- a failure counts its attempts in all older renderings, not only where none was left;
- a run that ends by `RunComplete` is named by the operation in the recording, and has no `Finalization`; here it
  looks like all others, and its output is the result alone;
- a step that is told together with `RunComplete` has the status of that answer here;
- so has a step that failed at its first and only try;
- a sleep or wait beside other steps has no step id in older renderings of the recording; here it has its own;
- while an invoke is pending the older rendering of the recording names the function by its id, and the result by
  an id that leads nowhere; here the function is named as the app did, and the result when it is there;
- the invoke of an unknown function sends and gets no event here.
"""

from __future__ import annotations

import json
import re
from typing import Any

from perdure.protocol.ids import hash_step_id

COMPLETE = "0737c22d3bfae812339732d14d8c7dbd6dc4e09c"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")

Span = dict[str, Any]


def expected(view: dict[str, Any], name: str) -> Span:
    """The recorded trace with the differences above."""
    ended = view["status"] not in ("RUNNING", "QUEUED")
    root = _plain(view["trace"])
    root["children"] = _once(root["children"]) if view["preview"] else root["children"]
    for child in root["children"]:
        if ended:
            _without_what_never_came(child, view["status"])
        if not view["preview"]:
            _older(child)
        elif child["id"] is not None and child["op"] is None and not child["children"]:
            child["code"] = 206
        if "invokeunknown" in name and child["info"] is not None:
            child["info"].update(triggeringEventID=None, returnEventID=None)
    if view["trace"].get("stepID") == COMPLETE:
        _as_other_runs(root)
    return root


def seen(trace: Span, run_id: str) -> Span:
    """A trace of the server under test; checks what a plain comparison cannot."""
    ids: set[str] = set()
    _check_ids(trace, None, ids)
    assert trace["traceID"] == trace["childrenSpans"][0]["traceID"] if trace["childrenSpans"] else True
    return _plain(trace)


def _check_ids(span: Span, parent: str | None, ids: set[str]) -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", span["spanID"])
    assert span["spanID"] not in ids, "span ids are unique"
    ids.add(span["spanID"])
    if parent is not None:
        assert span["parentSpanID"] == parent
    if span["endedAt"] is not None and span["startedAt"] is not None:
        assert span["duration"] is not None
        assert span["duration"] >= 0
    for child in span.get("childrenSpans", []):
        _check_ids(child, span["spanID"], ids)


def _plain(span: Span) -> Span:
    """What is compared of a span."""
    info = span.get("stepInfo")
    return {
        "name": span["name"],
        "status": span["status"],
        "attempts": span.get("attempts") or 0,
        "op": span.get("stepOp"),
        "id": span.get("stepID"),
        "type": span.get("stepType") or "",
        "info": None if info is None else {key: _blurred(value) for key, value in _full(info).items()},
        "started": span.get("startedAt") is not None,
        "ended": span.get("endedAt") is not None,
        "scheduled": span.get("scheduledAt") is not None,
        "code": (span.get("response") or {}).get("statusCode"),
        "output": bool(span.get("outputID")),
        "root": span.get("isRoot", False),
        "children": [_plain(child) for child in span.get("childrenSpans") or []],
    }


_FIELDS = {
    "InvokeStepInfo": ("triggeringEventID", "functionID", "timeout", "returnEventID", "runID", "timedOut"),
    "SleepStepInfo": ("sleepUntil",),
    "WaitForEventStepInfo": ("eventName", "expression", "timeout", "foundEventID", "timedOut"),
    "WaitForSignalStepInfo": ("signal", "timeout", "timedOut"),
    "RunStepInfo": ("type",),
}


def _full(info: dict[str, Any]) -> dict[str, Any]:
    kind = info["__typename"]
    values = {field: info.get(field) for field in _FIELDS[kind]}
    # Recordings are stored without what is null or false; only `timedOut` is both at times.
    if "timedOut" in values and values["timedOut"] is None and "timeout" in info:
        values["timedOut"] = False
    return {"kind": kind, **values}


def _blurred(value: Any) -> Any:
    if isinstance(value, str) and TIME.fullmatch(value):
        return "a time"
    if isinstance(value, str) and ID.fullmatch(value):
        return "an id"
    if isinstance(value, str):
        return re.sub(r"\b(golden-)?(js|ck)/", "js/", value)
    return value


def _once(children: list[Span]) -> list[Span]:
    known: set[str] = set()
    kept = []
    for child in children:
        if child["id"] is not None and child["id"] in known:
            continue
        if child["id"] is not None:
            known.add(child["id"])
        kept.append(child)
    return kept


def _without_what_never_came(span: Span, status: str) -> None:
    left_over = [child for child in span["children"] if child["status"] == "QUEUED"]
    if left_over:
        span["children"] = [child for child in span["children"] if child["status"] != "QUEUED"]
        if span["status"] == "RUNNING":
            span.update(status="FAILED", ended=True, output=True)
    if status == "CANCELLED" and span["status"] in ("WAITING", "RUNNING"):
        span.update(status="CANCELLED", ended=True, children=[])


def _older(span: Span) -> None:
    if span["id"] is None and span["op"] is not None:
        span["id"] = hash_step_id(span["name"])
    if span["status"] == "FAILED" and span["children"]:
        span["attempts"] = len(span["children"])
    info = span["info"]
    if info is not None and info["kind"] == "InvokeStepInfo" and span["status"] == "RUNNING":
        info["functionID"] = "golden-js-calleeslow"
        span["output"] = False
        for child in span["children"]:
            child["info"]["functionID"] = "golden-js-calleeslow"
            child["output"] = False
    if info is not None and info["kind"] == "InvokeStepInfo" and info["timedOut"]:
        info["runID"] = "an id"
    for child in span["children"]:
        child["type"] = ""


def _as_other_runs(root: Span) -> None:
    root.update(name="Run", id=None, code=206)
    for child in root["children"]:
        # Steps that the app posted have no time of scheduling.
        if child["type"] == "RUN" and child["scheduled"]:
            child["code"] = 206
    end = next(child for child in root["children"] if child["name"] == "executor.nonstep")
    final = {**end, "name": "Finalization", "type": "FINALIZATION", "output": False, "code": 206}
    root["children"] = [*(c for c in root["children"] if c is not end), final, end]


def ordered(root: Span, parallel: bool) -> Span:
    """Steps planned at the same time may stand in any order."""
    if parallel:
        root["children"].sort(key=lambda child: child["name"])
    return root


def differences(want: Any, have: Any, path: str = "trace") -> list[str]:
    """Where two values part."""
    if isinstance(want, dict) and isinstance(have, dict):
        keys = [key for key in {**want, **have} if key != "scheduled"]
        return [d for key in keys for d in differences(want.get(key), have.get(key), f"{path}.{key}")]
    if isinstance(want, list) and isinstance(have, list):
        if len(want) != len(have):
            names = [[child.get("name") for child in side] for side in (want, have)]
            return [f"{path}: recorded {names[0]}, seen {names[1]}"]
        return [
            d
            for place, (one, other) in enumerate(zip(want, have, strict=True))
            for d in differences(one, other, f"{path}[{_label(one, place)}]")
        ]
    return [] if want == have else [f"{path}: recorded {want!r}, seen {have!r}"]


def _label(value: Any, place: int) -> Any:
    return value.get("name", place) if isinstance(value, dict) else place


def results(view: dict[str, Any]) -> list[tuple[list[str], dict[str, Any]]]:
    """Recorded results with the names of the spans that lead to them from the root."""
    found: list[tuple[list[str], dict[str, Any]]] = []

    def look(span: Span, path: list[str]) -> None:
        if "output" in span:
            found.append((path, span["output"]))
        for child in span.get("childrenSpans", []):
            look(child, [*path, child["name"]])

    look(view["trace"], [])
    return found


def result_text(result: dict[str, Any]) -> Any:
    """What is compared of a result: decoded, without ids and times."""
    error = result.get("error")
    plain = json.loads(result["data"]) if result.get("data") else None
    text = json.dumps([plain, None if error is None else {**error, "name": error.get("name") or "Error"}])
    text = re.sub(r'"(golden-)?(js|ck)(/|-)', r'"js\3', text)
    text = re.sub(r'"ts": \d+', '"ts": 0', text)
    text = re.sub(r"20\d\d-\d\d-\d\dT[0-9:.]+Z", "a time", text)
    return json.loads(ID.sub("an id", text))
