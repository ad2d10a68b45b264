"""A stream of events for functions under rules, each at its time. What is not acknowledged is sent until it is.

The events of one function are sent one after the other, so they are received in their order. Some are sent once more
with the same seed, as by a client that never got the answer.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.integration.durability import rules
from tests.integration.durability.load import TRY_AGAIN_S, TWICE_EVERY, seed_header, send_events
from tests.integration.durability.processes import post

SENDERS = 3
SHARES = {
    **dict.fromkeys((rules.PACED, rules.SKIPS, rules.LIMITED, rules.BOTH, rules.START_PACED), 2),
    **dict.fromkeys((rules.FLURRY, rules.RATED, rules.HELD), 3),
    **dict.fromkeys((rules.BATCHED, rules.BURST, rules.ASKS), 4),
}
"""How many times as many events as the others a function gets: enough for its rule to bite."""
KEYS = {rules.ONCE: 5, rules.FLURRY: 3, rules.BOTH: 6}
"""So many keys a function has; two, if it is not named."""
FLURRIES, FLURRY_EVERY_S = 0.5, 3.4
"""Such a part of the events comes together with others, every so many seconds."""
LONG_MS = 60_000
PAUSE_S = (0.7, 2.0)
PAUSED_AHEAD_S = 0.3


@dataclass(order=True)
class Planned:
    """An event, so many seconds after the start. `n` is its number; what cancels another has none."""

    at_s: float
    n: int | None
    event: dict[str, Any] = field(compare=False)
    seed: dict[str, str] = field(compare=False)


def planned(entropy: random.Random, total: int, duration_s: float) -> dict[str, list[Planned]]:
    """Events by function, in order of their time."""
    names = [name for name in rules.STREAMED for _ in range(SHARES.get(name, 1))]
    plan: dict[str, list[Planned]] = {name: [] for name in names}
    for n in range(total):
        # Each function gets some, however few events there are; half of them in flurries, so that its rule bites.
        function = names[n % len(names)]
        at_s = entropy.uniform(0, duration_s)
        if entropy.random() < FLURRIES:
            at_s -= at_s % FLURRY_EVERY_S
        who = f"who-{entropy.randrange(KEYS.get(function, 2))}"
        if function == rules.CANCELLABLE:
            who = f"only-{n}"
            cancel = {"name": rules.CANCEL, "data": {"who": who}}
            later_s = at_s + entropy.uniform(0.2, 2.0)
            plan[function].append(Planned(later_s, None, cancel, seed_header(entropy)))
        data = {"n": n, "who": who, **_work(function, entropy)}
        event = {"name": f"{rules.APP}/{function}", "data": data}
        plan[function].append(Planned(at_s, n, event, seed_header(entropy)))
    return {name: sorted(of, key=lambda each: each.at_s) for name, of in plan.items()}


def _work(function: str, entropy: random.Random) -> dict[str, Any]:
    work: dict[str, Any] = {"takes_s": round(entropy.uniform(0.01, 0.15), 3)}
    if function in (rules.LIMITED, rules.BOTH, *rules.SHARED):
        work["takes_s"] = round(entropy.uniform(0.1, 0.3), 3)
    if function == rules.START_BY:
        work["takes_s"] = round(entropy.uniform(0.2, 1.0), 3)
    if function in (rules.WHOLE, rules.SKIPS, rules.REPLACES, rules.MIXED):
        work["nap_ms"] = entropy.randrange(100, 600)
    if function == rules.FINISH_BY:
        work["nap_ms"] = entropy.choice((100, LONG_MS))
    if function == rules.ASKS:
        work["asks"] = entropy.choice(rules.ASKED)
    if function == rules.CANCELLABLE:
        work["nap_ms"] = LONG_MS
    return work


class Stream:
    """Sends events from threads of its own.

    `accepted` are the internal ids of the acknowledged events by number, `pauses` the times (ms) from which until when
    `rules.HELD` was certainly paused.
    """

    def __init__(self, url: str, entropy: random.Random, total: int, duration_s: float) -> None:
        self.total = total
        self.accepted: dict[int, str] = {}
        self.refused: list[str] = []
        self.pauses: list[tuple[int, int]] = []
        self._url = url
        self._duration_s = duration_s
        self._stopping = threading.Event()
        self._start = 0.0
        self._entropy = random.Random(entropy.random())
        plan = planned(entropy, total, duration_s)
        of_sender: list[list[Planned]] = [[] for _ in range(SENDERS)]
        for place, events in enumerate(plan.values()):
            of_sender[place % SENDERS] += events
        self._threads = [
            threading.Thread(target=self._send_all, args=(sorted(each, key=lambda p: p.at_s),), daemon=True)
            for each in of_sender
        ]
        self._operator = threading.Thread(target=self._pause_and_resume, daemon=True)

    def start(self) -> None:
        """Begin to send, and to pause."""
        self._start = time.monotonic()
        for thread in (*self._threads, self._operator):
            thread.start()

    @property
    def over(self) -> bool:
        """Whether everything was acknowledged, and no function is paused."""
        return not any(thread.is_alive() for thread in (*self._threads, self._operator))

    def stop(self) -> None:
        """End the threads, whether all is sent or not."""
        self._stopping.set()
        for thread in (*self._threads, self._operator):
            thread.join()

    def _send_all(self, plan: list[Planned]) -> None:
        parts = urlsplit(self._url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=15)
        for each in plan:
            self._stopping.wait(max(0.0, self._start + each.at_s - time.monotonic()))
            while not self._stopping.is_set() and not self._send(connection, each):
                self._stopping.wait(TRY_AGAIN_S)
            if each.n is not None and each.n % TWICE_EVERY == 0:
                self._send(connection, each)

    def _send(self, connection: http.client.HTTPConnection, each: Planned) -> bool:
        status, body = send_events(connection, [each.event], each.seed)
        if status == 200 and each.n is not None:
            self.accepted[each.n] = json.loads(body)["ids"][0]
        elif status not in (0, 200):
            self.refused.append(f"{status}: {body}")
        return status == 200

    def _pause_and_resume(self) -> None:
        """Pause a function whenever its events come together, and resume it, until the stream is over."""
        at_s = 0.0
        while at_s < self._duration_s and not self._stopping.is_set():
            self._stopping.wait(max(0.0, self._start + at_s - PAUSED_AHEAD_S - time.monotonic()))
            at_s += FLURRY_EVERY_S
            self.operate(rules.HELD, "pause")
            since = time.time()
            self._stopping.wait(self._entropy.uniform(*PAUSE_S))
            self.pauses.append((int(since * 1_000), int(time.time() * 1_000)))
            self.operate(rules.HELD, "resume")

    def operate(self, function: str, what: str, **body: object) -> None:
        """Pause or resume a function; tried until the server says that it is done."""
        while not self._stopping.is_set():
            try:
                status, _, _ = post(f"{self._url}/v1/functions/{rules.APP}-{function}/{what}", body)
                if status == 200:
                    return
            except (OSError, http.client.HTTPException, ValueError):
                pass
            self._stopping.wait(TRY_AGAIN_S)
