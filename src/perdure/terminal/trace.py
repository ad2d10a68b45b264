"""The trace of a run as a tree.

Two columns of figures, then the tree, which may run as far as the terminal is wide:

          AT    TOOK
         0ms     6ms  ├─ ✓ load    {"rows": 3}
        49ms   1.01s  └─ ✗ charge
        49ms     2ms     └─ ✗ Attempt 0  HTTP 500
                              CardError: declined

`AT` counts from the time at which the run was queued, for attempts as for steps. The server's spans for the end
of the function are told as one line; `--json` has them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo

import msgspec

from perdure.protocol.durations import parse_time
from perdure.protocol.skipping import skipped_because
from perdure.terminal.records import ENDED, ErrorText, Span, StepInfo, TracedRun
from perdure.terminal.rendering import UNCUT, sign, status_word, took
from perdure.terminal.text import (
    Line,
    Piece,
    clean,
    clock_time,
    columns,
    cut,
    date_and_time,
    duration,
    fitted,
    line,
    padded,
    wrapped,
)

_FIGURES = 8
"""Columns of one figure."""
_MARGIN = 2 * _FIGURES + 2
_LONGEST_NAME = 32
_ERROR_LINES = 3

_NAMES = {"Finalization": "end of the function", "Execution": "call of the function"}
"""Spans that are no steps, in words."""
_HIDDEN = "executor.nonstep"
"""The attempts of the end once more."""


class Tree:
    """One rendering of one run. `full` shows results and stacks whole, each below its step."""

    def __init__(
        self, run: TracedRun, now: int, width: int | None, zone: tzinfo | None = None, full: bool = False
    ) -> None:
        self.run = run
        self.now = now
        self.width = width or UNCUT
        self.zone = zone
        self.full = full
        self.begin = parse_time(run.queued_at)

    def lines(self) -> list[Line]:
        """All of it: what run this is, the tree, and the result."""
        return [
            fitted(pieces, self.width)
            for pieces in [*self.head(), *self.tree(), *self.progress(), *self.result()]
        ]

    def head(self) -> list[Line]:
        """Which run this is."""
        run = self.run
        time = took(run.started_at or run.queued_at, run.ended_at, self.now)
        word = status_word(run.status)
        name = cut(run.function.name, self.width - columns(word.text) - 12)
        lines = [line(word, "  ", Piece(name, "strong"), "  ", Piece(time)), []]
        rows = [("run", run.id), ("function", run.function.slug)]
        rows.append(("cron", run.cron) if run.cron else ("event", self._events()))
        rows.append(("queued", date_and_time(self.begin, self.zone)))
        if run.original_run_id:
            begin = f", from step {run.from_step.name or run.from_step.id}" if run.from_step else ""
            rows.append(("rerun of", run.original_run_id + begin))
        if run.from_step and run.from_step.input is not None:
            rows.append(("new input", msgspec.json.format(run.from_step.input, indent=0)))
        data = _data_of(run.events)
        if data is not None:
            rows.append(("data", data))
        if run.reason and run.status in ("CANCELLED", "SKIPPED"):
            rows.append(("reason", self._reason(run.reason)))
        for label, text in rows:
            lines.append(line("  ", Piece(f"{label:<10}", "dim"), cut(text, self.width - 12)))
        if not run.cron and len(run.event_ids) == 1:
            lines[4].append(Piece(f"  {run.event_ids[0]}", "dim"))
        return [*lines, []]

    def _events(self) -> str:
        ids, name = self.run.event_ids, self.run.event_name or "?"
        if self.run.batch_id:
            return f"{name}, {len(ids)} in batch {self.run.batch_id}"
        return name if len(ids) == 1 else f"{name}, {len(ids)} events"

    def _reason(self, reason: str) -> str:
        holder = self.run.trace.skipped_for if self.run.trace else None
        return skipped_because(reason, holder or "")

    def tree(self) -> list[Line]:
        """The steps, and what else happened between them."""
        root = self.run.trace
        spans = [span for span in root.children if span.name != _HIDDEN] if root else []
        if root is None or not spans:
            reason = "not started yet" if not self.run.ended else "no step was run"
            return [line(" " * _MARGIN, Piece(reason, "dim"))]
        head = f"{'AT':>{_FIGURES}}{'TOOK':>{_FIGURES}}"
        room = min(_LONGEST_NAME, max(12, (self.width - _MARGIN) // 2))
        longest = min(room, max(columns(_name(span)) for span in spans))
        lines = [line(Piece(head, "dim"))]
        for place, span in enumerate(spans):
            lines += self.span(span, "", place == len(spans) - 1, longest)
        return lines

    def progress(self) -> list[Line]:
        """What steps under way tell of themselves."""
        if self.run.ended:
            return []
        done = {span.step_id for span in _all(self.run.trace) if span.status in ENDED}
        told = [report for report in self.run.steps if report.step and report.step not in done]
        lines: list[Line] = []
        for report in told:
            share = "alive" if report.progress is None else f"{report.progress:.0%}"
            ago = duration(max(0, self.now - parse_time(report.at)))
            message = f", {report.message}" if report.message else ""
            text = cut(f"{report.name}: {share}{message} ({ago} ago)", self.width - 12)
            lines.append(line("  ", Piece(f"{'progress':<10}", "dim"), Piece(text, "busy")))
        return [[], *lines] if lines else []

    def span(self, span: Span, stem: str, last: bool, name_width: int) -> list[Line]:
        """A span, with what is below it."""
        branch = "└─ " if last else "├─ "
        below = stem + ("   " if last else "│  ")
        mark = sign(span.status)
        name = padded(cut(_name(span), name_width), name_width)
        used = _MARGIN + columns(stem + branch) + 2 + columns(name) + 2
        detail = self._detail(span, self.width - used)
        pieces = line(
            Piece(self._figures(span)), "  ", Piece(stem + branch, "dim"), mark, " ", name, "  ", detail
        )
        shown = [child for child in span.children if child.name != _HIDDEN]
        inner = below + ("│ " if shown else "  ")
        lines = [pieces, *self._below(span, inner, bool(shown))]
        widest = max((columns(_name(child)) for child in shown), default=0)
        for place, child in enumerate(shown):
            lines += self.span(child, below, place == len(shown) - 1, widest)
        return lines

    def _figures(self, span: Span) -> str:
        start = span.started_at or span.queued_at
        at = duration(max(0, parse_time(start) - self.begin))
        return f"{at:>{_FIGURES}}{took(span.started_at, span.ended_at, self.now):>{_FIGURES}}"

    def _detail(self, span: Span, room: int) -> Piece:
        """What is said beside the name: what a step waits for, what it gave."""
        if span.status == "CANCELLED":
            return Piece("cancelled", "dim")
        if span.info is not None and (told := told_info(span.info, span, self.now, self.zone)):
            return Piece(cut(told, max(room, 12)), "dim")
        if span.status not in ENDED:
            return Piece(self._under_way(span), "busy")
        if span.error is not None or self.full or _is_attempt(span):
            code = span.http.status if span.http else 0
            return Piece(f"HTTP {code}" if code and code not in (200, 206) else "", "dim")
        copied = "copied" if span.copied_from else ""
        given = "" if _nothing(span.output) else _one_line(span.output)
        return Piece(cut(": ".join(filter(None, (copied, given))), max(room, 12)), "dim")

    def _under_way(self, span: Span) -> str:
        due = parse_time(span.scheduled_at) if span.scheduled_at else self.now
        if span.status == "QUEUED" and due > self.now:
            return f"begins in {duration(due - self.now)}"
        again = f", attempt {span.attempt}" if span.attempt and not span.children else ""
        return f"{clean(span.status.lower())}{again}"

    def _below(self, span: Span, stem: str, has_children: bool) -> list[Line]:
        """What stands below a span: its error; its whole result if `full`."""
        texts: list[Piece] = []
        if span.error is not None and not (has_children and _told_by_attempt(span)):
            if span.error.message or not self.full:
                most = 1 if _is_attempt(span) else _ERROR_LINES
                texts = self._error(span.error, self.width - _MARGIN - columns(stem), most)
        elif self.full and not _nothing(span.output) and not _is_attempt(span):
            texts = [Piece(text, "dim") for text in _indented(span.output)]
        return [line(" " * _MARGIN, Piece(stem, "dim"), text) for text in texts]

    def _error(self, error: ErrorText, room: int, most: int) -> list[Piece]:
        texts = wrapped(error_text(error), room, UNCUT if self.full else most)
        lines = [Piece(text, "bad") for text in texts]
        if self.full and error.stack:
            lines += [Piece(_keep_indent(text), "dim") for text in error.stack.splitlines()]
        return lines

    def result(self) -> list[Line]:
        """What the run gave in the end."""
        run = self.run
        if not run.ended:
            return []
        if run.error is not None:
            texts = [
                Piece(text, "bad")
                for text in wrapped(
                    error_text(run.error), self.width - 12, UNCUT if self.full else _ERROR_LINES
                )
            ]
            label = "error"
        elif self.full and not _nothing(run.output):
            texts, label = [Piece(text) for text in _indented(run.output)], "output"
        elif not _nothing(run.output):
            texts, label = [Piece(cut(_one_line(run.output), self.width - 12))], "output"
        else:
            return []
        heads = [f"{label:<10}", *[" " * 10] * (len(texts) - 1)]
        return [[], *[line("  ", Piece(head, "dim"), text) for head, text in zip(heads, texts, strict=True)]]


def _all(span: Span | None) -> Iterator[Span]:
    if span is not None:
        yield span
        for child in span.children:
            yield from _all(child)


def change(span: Span, begin: int, now: int, zone: tzinfo | None, width: int | None) -> Line:
    """A line of a log: what has become of a span."""
    at = parse_time(span.ended_at or span.started_at or span.queued_at)
    time = took(span.started_at, span.ended_at, now) if span.status in ENDED else ""
    said = ""
    if span.error is not None:
        said = error_text(span.error)
    elif span.info is not None and span.status != "CANCELLED":
        said = told_info(span.info, span, now, zone)
    start = f"{duration(max(0, at - begin)):>{_FIGURES}}  "
    word = status_word(span.status)
    pieces = line(start, Piece(padded(word.text, 11), word.tone))
    for part in (_name(span), time, said):
        if part:
            pieces += line("  ", clean(part))
    return pieces if width is None else fitted(pieces, width)


def error_text(error: ErrorText) -> str:
    """An error in one sentence."""
    message = error.message or (error.stack or "").partition("\n")[0]
    name = "" if error.name in ("", "Error") else error.name
    return f"{name}: {message}" if name and message else name or message or "Error"


def told_info(info: StepInfo, span: Span, now: int, zone: tzinfo | None) -> str:
    """What a step waits or waited for; "" for one that ran in the app."""
    done = span.status in ENDED
    if info.kind == "SleepStepInfo" and info.until:
        return f"{'slept' if done else 'sleeps'} until {clock_time(parse_time(info.until), now, zone)}"
    if info.kind == "InvokeStepInfo":
        run = f", run {info.run_id}" if info.run_id else ""
        return f"{'invoked' if done else 'invokes'} {info.function}{run}"
    what = info.event_name or (f"signal {info.signal}" if info.signal else "")
    if not what:
        return ""
    if info.timed_out:
        return f"{what} did not come in time"
    if done:
        return f"{what} {info.found_event_id}" if info.found_event_id else f"{what} came"
    until = f" until {clock_time(parse_time(info.timeout), now, zone)}" if info.timeout else ""
    condition = f" if {info.expression}" if info.expression else ""
    return f"waits for {what}{until}{condition}"


def _name(span: Span) -> str:
    if span.op is None and span.step_id is None:
        return clean(_NAMES.get(span.name, span.name))
    return clean(span.name)


def _is_attempt(span: Span) -> bool:
    return span.name.startswith("Attempt ") and not span.children


def _told_by_attempt(span: Span) -> bool:
    """Whether the last attempt shows the same error."""
    last = span.children[-1] if span.children else None
    return last is not None and last.error is not None and last.error == span.error


def _nothing(output: msgspec.Raw) -> bool:
    return bytes(output).strip() in (b"", b"null")


def _one_line(output: msgspec.Raw) -> str:
    return msgspec.json.format(bytes(output), indent=0).decode()


def _indented(output: msgspec.Raw) -> list[str]:
    return [_keep_indent(text) for text in msgspec.json.format(bytes(output), indent=2).decode().splitlines()]


def _keep_indent(text: str) -> str:
    inner = text.lstrip(" ")
    return " " * (len(text) - len(inner)) + clean(inner)


class _Event(msgspec.Struct):
    data: dict[str, msgspec.Raw] | None = None


def _data_of(events: msgspec.Raw) -> str | None:
    """What the sender of the first event gave with it, None if nothing."""
    try:
        given = msgspec.json.decode(events, type=list[_Event] | None)
    except msgspec.MsgspecError:
        return None
    if not given or not given[0].data:
        return None
    shown = {name: value for name, value in given[0].data.items() if name != "_inngest"}
    return msgspec.json.format(msgspec.json.encode(shown), indent=0).decode() if shown else None
