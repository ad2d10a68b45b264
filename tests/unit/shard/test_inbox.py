"""Which command comes next, and which are refused."""

from __future__ import annotations

import pytest

from perdure.protocol.events import IncomingEvent
from perdure.protocol.ops import Op
from perdure.shard import inbox as inbox_module
from perdure.shard.commands import CallEnded, CancelRun, Checkpoint, Command, ContinueEvent, ReceiveEvents
from perdure.shard.inbox import Inbox


def events(size: int = 10) -> ReceiveEvents:
    return ReceiveEvents(events=[IncomingEvent("i", "n", "i", False, 0, b"x" * size)])


def test_what_ends_something_comes_before_what_begins_something() -> None:
    inbox = Inbox()
    ordinary: list[Command] = [events(), CancelRun()]
    urgent: list[Command] = [CallEnded(), Checkpoint(), ContinueEvent()]
    ready: list[Command] = [events(), CallEnded()]
    for command in (*ordinary, *urgent):
        inbox.put(command)
    inbox.put_back(ready)
    assert len(inbox) == 7
    assert inbox.take_all() == [*ready, *urgent, *ordinary]
    assert len(inbox) == 0
    assert not inbox


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_BYTES", 1_000)
    inbox = Inbox()
    assert not inbox.refuses(events())
    inbox.put(events(2_000))
    assert inbox.refuses(events())
    assert inbox.refuses(CancelRun())
    inbox.take()
    assert not inbox.refuses(events())


def test_too_many_commands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_COMMANDS", 2)
    inbox = Inbox()
    inbox.put(events())
    assert not inbox.refuses(events())
    inbox.put(events())
    assert inbox.refuses(events())


def test_checkpoints_are_never_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their call waits for them: refusing one would keep it from ending, and so from making room."""
    monkeypatch.setattr(inbox_module, "MAX_COMMANDS", 0)
    inbox = Inbox()
    assert inbox.refuses(events())
    assert not inbox.refuses(Checkpoint())


def test_urgent_commands_take_no_room_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_COMMANDS", 1)
    monkeypatch.setattr(inbox_module, "MAX_BYTES", 1_000)
    inbox = Inbox()
    for _ in range(50):
        inbox.put(Checkpoint(ops=[Op("StepRun", "a", data=b"x" * 1_000)]))
    assert not inbox.refuses(events())


def test_costs_are_sizes() -> None:
    assert events(5_000).cost() - events(0).cost() == 5_000
    assert Checkpoint(ops=[Op("StepRun", "a", data=b"x" * 900)]).cost() - Checkpoint().cost() == 900
