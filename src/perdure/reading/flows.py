"""The observed flow of a function: its steps and what followed what, merged from several of its runs.

Nobody declares a flow; code decides it as it runs. So this is what was seen. Within a run a step follows those that had
ended when it was planned, except those that had ended before another of them was even planned: so parallel steps stand
side by side, and branches stay apart. Steps of one name are one node, however often a loop ran them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from perdure.reading.timeline import FAILED, PENDING, REQUESTS, Activity

START, END = "start", "end"
MAX_STEPS = 200
"""Steps of one run that are looked at."""
Kind = Literal["step", "sleep", "event", "signal", "invoke", "request", "send"]
_KINDS: dict[str, Kind] = {
    "Sleep": "sleep",
    "WaitForEvent": "event",
    "WaitForSignal": "signal",
    "InvokeFunction": "invoke",
}
SENDING = "step.sendEvent"
"""The SDKs' own word for a step that sends events."""


class Place(msgspec.Struct, frozen=True):
    """Where a step ran last: for whoever wants to look at its result."""

    run_id: str
    step_id: str


class FlowStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a function: it stood in `runs` of the runs, `times` times in all, of which `failed` failed for good
    and `retried` were tried more than once. `p50` and `p95` are how long it took in ms, from its first try or from the
    begin of its wait to its end, None if none has ended. `layer` is how many steps come before it, at least 1.

    `targets` are the functions that it invoked or the events or signals that it waited for.
    """

    key: str
    name: str
    kind: Kind
    layer: int
    runs: int
    times: int
    failed: int
    retried: int
    timed_out: int
    p50: int | None
    p95: int | None
    targets: list[str]
    last: Place


class FlowEdge(msgspec.Struct, frozen=True):
    """One step followed another in `runs` runs. The first node is `start`, the last `end`."""

    before: str
    after: str
    runs: int


class Flow(msgspec.Struct, frozen=True):
    """The steps by layer, and what followed what. `more` says that some runs had further steps."""

    steps: list[FlowStep]
    edges: list[FlowEdge]
    runs: int
    more: bool


class ObservedRun(msgspec.Struct, frozen=True):
    """What one run did."""

    run_id: str
    activities: list[Activity]
    ended: bool


class _Node:
    def __init__(self, name: str, kind: Kind) -> None:
        self.name, self.kind = name, kind
        self.runs = self.times = self.failed = self.retried = self.timed_out = 0
        self.took: list[int] = []
        self.layers: Counter[int] = Counter()
        self.targets: dict[str, None] = {}
        self.last = Place("", "")

    def add(self, activity: Activity) -> None:
        self.times += 1
        self.failed += activity.status == FAILED
        self.retried += len(activity.attempts) > 1
        self.timed_out += activity.timed_out is True
        if activity.status not in PENDING and activity.ended is not None:
            tries = [one.started for one in activity.attempts if one.started is not None]
            begun = min(tries, default=activity.started if activity.started is not None else activity.queued)
            self.took.append(max(0, activity.ended - begun))
        for target in (activity.function, activity.event):
            if target:
                self.targets[target] = None


def flow_of(runs: Sequence[ObservedRun]) -> Flow:
    """The flow of a function as these runs of it show it; the newest first."""
    nodes: dict[str, _Node] = {}
    edges: Counter[tuple[str, str]] = Counter()
    more = False
    for run in runs:
        steps = sorted((one for one in run.activities if one.step_id), key=_when)
        more = more or len(steps) > MAX_STEPS
        edges.update(_merge(nodes, run, steps[:MAX_STEPS], len(steps) <= MAX_STEPS))
    shown = [_shown(key, node) for key, node in nodes.items()]
    return Flow(
        sorted(shown, key=lambda step: step.layer),
        [FlowEdge(before, after, count) for (before, after), count in edges.items()],
        len(runs),
        more,
    )


def _merge(
    nodes: dict[str, _Node], run: ObservedRun, steps: list[Activity], whole: bool
) -> set[tuple[str, str]]:
    """Add a run to the nodes. Returns its edges."""
    edges: set[tuple[str, str]] = set()
    depths: list[int] = []
    followed: set[int] = set()
    met: set[str] = set()
    for place, step in enumerate(steps):
        key = node_key(step)
        before = _before(steps, place)
        depths.append(1 + max((depths[one] for one in before), default=0))
        followed.update(before)
        names = {node_key(steps[one]) for one in before} or {START}
        edges.update((name, key) for name in names if name != key)
        node = nodes.setdefault(key, _Node(step.name, _kind(step)))
        node.add(step)
        if key not in met:
            met.add(key)
            node.runs += 1
            node.layers[depths[place]] += 1
        if not node.last.run_id:
            node.last = Place(run.run_id, step.step_id)
    if run.ended and whole:
        last = [place for place in range(len(steps)) if place not in followed]
        edges.update((node_key(steps[place]), END) for place in last)
        if not steps:
            edges.add((START, END))
    return edges


def _before(steps: list[Activity], place: int) -> list[int]:
    """Those that a step followed: they had ended when it was planned, and none was over before another began."""
    planned = steps[place].queued
    over = [one for one in range(place) if (ended := steps[one].ended) is not None and ended <= planned]
    newest = max((steps[one].queued for one in over), default=0)
    return [one for one in over if (steps[one].ended or 0) > newest or steps[one].queued == newest]


def node_key(step: Activity) -> str:
    """Steps of one name and kind are one node."""
    return f"{_kind(step)}:{step.name}"


def _kind(step: Activity) -> Kind:
    if step.op in REQUESTS:
        return "request"
    return _KINDS.get(step.op, "send" if step.type == SENDING else "step")


def _when(step: Activity) -> tuple[int, int]:
    return (step.queued, step.ended if step.ended is not None else 2**62)


def _shown(key: str, node: _Node) -> FlowStep:
    most = max(node.layers.values())
    return FlowStep(
        key=key,
        name=node.name,
        kind=node.kind,
        layer=max(layer for layer, count in node.layers.items() if count == most),
        runs=node.runs,
        times=node.times,
        failed=node.failed,
        retried=node.retried,
        timed_out=node.timed_out,
        p50=quantile(node.took, 0.5),
        p95=quantile(node.took, 0.95),
        targets=list(node.targets),
        last=node.last,
    )


def quantile(values: Iterable[int], share: float) -> int | None:
    """The smallest value that at least this share of all are not above; None of none."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]
