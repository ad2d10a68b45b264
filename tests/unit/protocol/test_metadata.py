"""Metadata: what is an update, and what becomes of many."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from perdure.core.history import MetadataNote
from perdure.errors import RequestError
from perdure.protocol.ids import hash_step_id
from perdure.protocol.metadata import MetadataUpdate, read_metadata, read_updates
from perdure.reading.metadata import Metadata, fold

RUN = "01M86GS4BTMJVWBPE7BH9N4XB4"


def body(target: dict[str, Any] | None = None, **update: Any) -> bytes:
    given = {"kind": "userland.x", "op": "merge", "values": {"a": 1}, **update}
    return json.dumps({"target": target or {"run_id": RUN}, "metadata": [given]}).encode()


class TestReading:
    @pytest.mark.parametrize(
        ("target", "step"),
        [
            ({"run_id": RUN}, ""),
            ({}, ""),
            ({"run_id": RUN, "step_id": "a"}, hash_step_id("a")),
            ({"run_id": RUN, "step_id": "a", "step_index": 0, "step_attempt": -1}, hash_step_id("a")),
            ({"run_id": RUN, "step_id": "a", "step_index": 2}, hash_step_id("a", 2)),
        ],
    )
    def test_targets(self, target: dict[str, Any], step: str):
        read = read_metadata(json.dumps({"target": target, "metadata": []}).encode(), RUN)
        assert (read.step, read.updates) == (step, [])

    @pytest.mark.parametrize(
        "target",
        [
            {"run_id": RUN, "step_index": 0},
            {"run_id": RUN, "step_attempt": 1},
            {"run_id": RUN, "span_id": "x"},
            {"run_id": "01HZZZZZZZZZZZZZZZZZZZZZZZ"},
            {"run_id": RUN, "step_id": "a", "step_index": -1},
        ],
    )
    def test_targets_that_are_none(self, target: dict[str, Any]):
        with pytest.raises(RequestError, match="Invalid metadata target") as refused:
            read_metadata(body(target), RUN)
        assert refused.value.status == 400

    def test_updates(self):
        (update,) = read_metadata(
            body(kind="inngest.score", op="set", values={"s": {"value": 0.9}}), RUN
        ).updates
        assert update == MetadataUpdate("inngest.score", "set", b'{"s": {"value": 0.9}}')

    @pytest.mark.parametrize(
        ("wrong", "status", "text"),
        [
            ({"op": "replace"}, 400, "Invalid metadata op 'replace'"),
            ({"kind": "mine"}, 400, "must begin with userland."),
            ({"kind": "userland."}, 400, "must begin with userland."),
            ({"kind": "userland." + "x" * 200}, 400, "must begin with userland."),
            ({"values": [1]}, 400, "values must be an object"),
            ({"values": {"a": "x" * 65_536}}, 413, "larger than 64 KiB"),
            ({"kind": 7}, 400, "Invalid metadata"),
        ],
    )
    def test_updates_that_are_none(self, wrong: dict[str, Any], status: int, text: str):
        with pytest.raises(RequestError, match=text) as refused:
            read_metadata(body(**wrong), RUN)
        assert refused.value.status == status

    @pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"metadata":7}', b"[" * 100_000])
    def test_bodies_that_are_none(self, text: bytes):
        with pytest.raises(RequestError, match="Invalid metadata"):
            read_metadata(text, RUN)

    def test_too_many_updates(self):
        many = json.dumps({"metadata": [{"kind": "userland.x", "values": {}}] * 101}).encode()
        with pytest.raises(RequestError, match="101 metadata updates"):
            read_metadata(many, RUN)

    def test_beside_a_result_only_what_is_right_counts(self):
        given = [
            {"kind": "userland.x", "values": {"a": 1}},
            {"kind": "wrong"},
            {"kind": "inngest.ai", "op": "add"},
        ]
        assert read_updates(json.dumps(given).encode()) == [
            MetadataUpdate("userland.x", "merge", b'{"a": 1}'),
            MetadataUpdate("inngest.ai", "add", b"{}"),
        ]
        assert read_updates(b'{"a":1}') == read_updates(b"[1]") == read_updates(b"[" * 100_000) == []


def folded(*updates: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The values of one kind after these (op, values)."""
    notes = [
        (at, MetadataNote("userland.x", op, msgspec.Raw(json.dumps(values).encode())))
        for at, (op, values) in enumerate(updates)
    ]
    kinds = fold(notes)[""]
    assert kinds == [] or kinds[0].updated_at == len(updates) - 1
    return kinds[0].values if kinds else {}


class TestFolding:
    @pytest.mark.parametrize(
        ("updates", "expected"),
        [
            ([("merge", {"a": 1, "b": {"c": 1}}), ("merge", {"b": {"d": 2}})], {"a": 1, "b": {"d": 2}}),
            ([("merge", {"a": 1}), ("set", {"b": 2})], {"b": 2}),
            ([("merge", {"a": 1, "b": 2}), ("delete", {"a": None, "z": 1})], {"b": 2}),
            ([("add", {"a": 1}), ("add", {"a": 2.5, "b": 3})], {"a": 3.5, "b": 3}),
            ([("merge", {"a": "x"}), ("add", {"a": 2})], {"a": 2}),
            ([("merge", {"a": True}), ("add", {"a": 2})], {"a": 2}),
            ([("merge", {"a": 1}), ("delete", {"a": 1})], {}),
        ],
    )
    def test_ways(self, updates: list[tuple[str, dict[str, Any]]], expected: dict[str, Any]):
        assert folded(*updates) == expected

    def test_kinds_and_steps_stand_apart(self):
        def note(kind: str, step: str, value: int) -> MetadataNote:
            return MetadataNote(kind, "merge", msgspec.Raw(b'{"v":%d}' % value), step)

        notes = [note("userland.x", "", 1), note("userland.y", "", 2), note("userland.x", "s", 3)]
        assert fold(enumerate(notes)) == {
            "": [Metadata("userland.x", {"v": 1}, 0), Metadata("userland.y", {"v": 2}, 1)],
            "s": [Metadata("userland.x", {"v": 3}, 2)],
        }
