"""The sudden death of a server, and what is known of it afterwards."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

from tests.integration.durability.journal import Journal
from tests.integration.durability.processes import Site
from tests.integration.durability.rules_checks import Death
from tests.integration.durability.rules_ledger import RulesLedger

KILLED_AT_START = 0.3
"""How often a server that was killed is killed another time while it starts and reads its state."""
START_S = 1.2


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def die(
    running: Site, journal: Journal, scratch: Path, entropy: random.Random, down_s: float = 0
) -> list[Death]:
    """Kill the server and start it again, `down_s` later; sometimes it is killed another time while it starts."""
    deaths: list[Death] = []
    again = entropy.random() < KILLED_AT_START and not down_s
    while True:
        running.server.kill()
        killed_at = now_ms()
        cut = RulesLedger.of_the_dead(running.database, scratch).in_flight
        journal.read()
        line = len(journal.lines)
        time.sleep(down_s)
        running.server.start(wait=not again)
        if again:
            time.sleep(entropy.random() * START_S)
        deaths.append(Death(line, killed_at, now_ms(), cut))
        if not again:
            return deaths
        again = False


def stop(running: Site) -> None:
    """Stop the server in order."""
    running.server.send(signal.SIGTERM)
    assert running.server.wait(12) == 0, running.server.tail()


def left(running: Site) -> str:
    """What is left, and the log."""
    return f"{RulesLedger.read(running.database).leftovers}\n{running.server.tail()}"
