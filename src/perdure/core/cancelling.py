"""The waits by which later events cancel a run (`cancelOn`)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.core.expressions import compile_expression, equalities
from perdure.core.model import Run, Wait, WaitKind
from perdure.errors import ExpressionError
from perdure.protocol.functions import Cancel


def cancel_waits(run: Run, cancellations: Iterable[Cancel], since: int, now: int) -> list[Wait]:
    """A wait for each cancellation of the function, for events received after `since`; they take the next numbers.

    One whose condition cannot be read never cancels, and has none.
    """
    event: dict[str, object] | None = None
    waits = []
    for cancel in cancellations:
        path = value = ""
        if cancel.condition:
            try:
                expression = compile_expression(cancel.condition)
            except ExpressionError:
                continue
            if event is None:
                event = msgspec.json.decode(run.events[0], type=dict[str, object])
            found = equalities(expression, event)
            path, value = (found.path, found.value) if found is not None else ("", "")
        until = cancel.until_ms or (now + cancel.timeout_ms if cancel.timeout_ms is not None else 0)
        waits.append(
            Wait(run.seq, WaitKind.CANCEL, cancel.event, path, value, cancel.condition, since, until)
        )
        run.seq += 1
    return waits
