"""Patience with a server that is away for a while."""

from __future__ import annotations

import pytest

from perdure.terminal import watching
from perdure.terminal.failures import NotThere, Unavailable, Unreachable


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "EVERY_S", 0.001)
    monkeypatch.setattr(watching, "PATIENCE_S", 0.1)


def test_a_server_that_comes_back():
    troubles = [Unreachable("http://x", "connection refused"), Unavailable("Try again in a moment.")]

    def look() -> str:
        if troubles:
            raise troubles.pop()
        return "there"

    assert watching.patiently(look) == "there"
    assert troubles == []


def test_one_that_does_not():
    def look() -> str:
        raise Unreachable("http://x", "connection refused")

    with pytest.raises(Unreachable):
        watching.patiently(look)


def test_what_will_not_change_is_told_at_once():
    looks = []

    def look() -> str:
        looks.append(1)
        raise NotThere("There is no run.")

    with pytest.raises(NotThere):
        watching.patiently(look)
    assert len(looks) == 1
