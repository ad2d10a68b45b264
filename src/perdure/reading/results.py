"""Reading the result that a name stands for."""

from __future__ import annotations

import msgspec

from perdure.core.model import FromStep
from perdure.reading.outputs import OutputName, SpanOutput, read_error, run_output, step_output
from perdure.reading.port import Reader


class _EntryError(msgspec.Struct):
    error: msgspec.Raw = msgspec.Raw()


async def read_result(reader: Reader, name: OutputName) -> SpanOutput | None:
    """The result of this name; None if there is none (any more)."""
    if name.kind == "root":
        whole = await reader.whole_run(name.run_id, entries=0)
        return None if whole is None else run_output(whole.run, whole.events)
    if name.kind == "end":
        run = await reader.run(name.run_id)
        return None if run is None else run_output(run)
    if name.kind == "step":
        return await _of_step(reader, name)
    n = int(name.key[:12])
    entries = await reader.history_of_run(name.run_id, after=n - 1, limit=1)
    if not entries or entries[0].n != n:
        return None
    error = bytes(msgspec.json.decode(entries[0].body, type=_EntryError).error)
    return SpanOutput(error=read_error(error)) if error else None


async def _of_step(reader: Reader, name: OutputName) -> SpanOutput | None:
    step = await reader.step_of_run(name.run_id, name.key)
    if step is None:
        return None
    run = await reader.run(name.run_id)
    start = None if run is None or run.from_step is None else FromStep.decode(run.from_step)
    return step_output(step.op, step.memo, None if start is None or start.id != step.id else start.arguments)
