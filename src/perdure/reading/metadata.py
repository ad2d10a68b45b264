"""The metadata of a run, from the updates in its history."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.core.history import MetadataNote


class Metadata(msgspec.Struct):
    """The values of one kind for a run or a step, and when they were last changed (ms since the epoch)."""

    kind: str
    values: dict[str, object]
    updated_at: int


def fold(updates: Iterable[tuple[int, MetadataNote]]) -> dict[str, list[Metadata]]:
    """What stands after all updates (time, update), by the step's id; that of the run under the empty one."""
    found: dict[str, dict[str, Metadata]] = {}
    for at, note in updates:
        kinds = found.setdefault(note.step, {})
        known = kinds.get(note.kind)
        if known is None:
            known = kinds[note.kind] = Metadata(note.kind, {}, at)
        known.updated_at = at
        known.values = _changed(
            known.values, note.op, msgspec.json.decode(note.values, type=dict[str, object])
        )
    return {step: [one for one in kinds.values() if one.values] for step, kinds in found.items() if kinds}


def _changed(values: dict[str, object], op: str, given: dict[str, object]) -> dict[str, object]:
    if op == "set":
        return given
    if op == "delete":
        return {key: value for key, value in values.items() if key not in given}
    if op == "add":
        return {**values, **{key: _sum(values.get(key), value) for key, value in given.items()}}
    return {**values, **given}


def _sum(known: object, given: object) -> object:
    """The sum of two numbers; where one is none, what was given."""
    if _is_number(known) and _is_number(given):
        return known + given  # type: ignore[operator]
    return given


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
