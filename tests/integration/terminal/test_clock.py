"""`perdure clock` against a server of its own: its clock moves for all that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.terminal.conftest import Terminal
from tests.sdk.bare_app import Answer, Scripted, op, ops
from tests.sdk.driver import Server, until

DAY = 86_400_000
HASH = "ab" * 32
Make = Callable[..., Scripted]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("clock"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def terminal(server: Server) -> Terminal:
    return Terminal(server.url)


def sleeping(terminal: Terminal, scripted: Make, time: str) -> tuple[Scripted, str]:
    """A function, and a run of it whose sleep is the next thing to happen."""
    made = scripted([ops(op("Sleep", "nap", name=time, displayName="nap")), Answer(200, "rested")])
    run: str = made.server.run_of(made.trigger(), made.slug)["run_id"]
    until("the sleep", lambda: (terminal.json("clock")["next"] or {}).get("run_id") == run)
    return made, run


def labelled(out: str) -> dict[str, str]:
    return {text[:7].strip(): text[7:] for text in out.splitlines()}


def test_to_what_is_due_next(terminal: Terminal, scripted: Make) -> None:
    made, run = sleeping(terminal, scripted, "30d")
    shown = labelled(terminal("clock").out)
    assert list(shown) == ["clock", "next"]
    assert "as the clock of the machine" in shown["clock"]
    assert shown["next"].startswith("in 29d 23h")
    told = labelled(terminal("clock", "next").out)
    assert list(told) == ["moved", "due", "clock", "next"]
    for part in ("nap", made.slug, run):
        assert part in shown["next"]
        assert part in told["due"]
    assert told["due"].startswith("just now")
    assert told["moved"] == "29d 23h"
    assert "ahead" in told["clock"]
    assert told["next"] == "nothing is to come"
    assert made.server.ended(run)["output"] == "rested"
    # The run is shown by the clock that its records were made with.
    assert terminal.json("run", run)["status"] == "COMPLETED"
    assert "rested" in terminal("run", run).out
    for since, listed in (("1h", False), ("31d", True)):
        assert (run in [each["id"] for each in terminal.json("runs", "--since", since)]) is listed


@pytest.mark.parametrize("plus", ["+", ""])
def test_by_a_duration(terminal: Terminal, scripted: Make, plus: str) -> None:
    made, run = sleeping(terminal, scripted, "2d")
    before = terminal.json("clock")["ahead_ms"]
    told = labelled(terminal("clock", f"{plus}1d").out)
    assert (told["moved"], told["due"]) == ("1d 0h", "nothing came due in between")
    assert told["next"].startswith("in 23h 59m")
    moved = terminal.json("clock", f"{plus}1d")
    assert (moved["moved_ms"], moved["ahead_ms"]) == (DAY, before + 2 * DAY)
    assert [timer["run_id"] for timer in moved["happened"]] == [run]
    assert made.server.ended(run)["status"] == "Completed"


def test_many_at_once_are_counted(terminal: Terminal, scripted: Make) -> None:
    made = scripted(lambda _: ops(op("Sleep", "nap", name="1d", displayName="nap")))
    made.server.send(*[{"name": f"bare/{made.slug}"} for _ in range(13)])
    until("all calls", lambda: len(made.calls) == 13)
    until("all sleeps", lambda: terminal.json("clock")["next"])
    lines = terminal("clock", "+2d").out.splitlines()
    assert sum(made.slug in text for text in lines[1:11]) == 10
    assert lines[11].strip() == "and 3 more"
    made.server.http.post("/test/reset")


def test_what_cannot_be_asked(terminal: Terminal) -> None:
    for given, named in (
        ("-1d", "only be moved forward"),
        ("tomorrow", "neither next nor a duration"),
        ("+", "neither"),
    ):
        assert named in terminal.error("clock", given, code=2)
    assert "10 years" in terminal.error("clock", "+600w")
    assert "Nothing is to come" in terminal.error("clock", "next")


def test_a_server_with_keys(tmp_path_factory: pytest.TempPathFactory) -> None:
    keyed = Server.start(tmp_path_factory.mktemp("keyed"), "--signing-key", HASH)
    try:
        terminal = Terminal(keyed.url)
        assert "without keys" in terminal.error("clock", "+1d", PERDURE_SIGNING_KEY=HASH)
        assert "asks for its signing key" in terminal.error("clock")
        assert "as the clock of the machine" in terminal("clock", PERDURE_SIGNING_KEY=HASH).out
    finally:
        keyed.stop()
