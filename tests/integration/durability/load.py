"""Sends the events. What is not acknowledged is sent again with the same seed, until it is.

So is some of what has been acknowledged, as by a client that never got the answer.
"""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from tests.integration.durability import jobs
from tests.integration.durability.journal import Journal

SENDERS = 3
TRY_AGAIN_S = 0.03
NUDGE_S = 1.0
TWICE_EVERY = 7
"""One in so many events is sent once more although it has been acknowledged."""


def seed_header(entropy: random.Random) -> dict[str, str]:
    """The header by which a server knows an event that is sent again."""
    seed = f"{time.time_ns() // 1_000_000},{base64.b64encode(entropy.randbytes(10)).decode()}"
    return {"x-inngest-event-id-seed": seed}


def send_events(
    connection: http.client.HTTPConnection, events: Sequence[Any], headers: dict[str, str]
) -> tuple[int, str]:
    """Status and body of the answer; 0 if none came."""
    try:
        connection.request(
            "POST", "/e/test", json.dumps(events), {"Content-Type": "application/json", **headers}
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0, ""


class Load:
    """Sends `total` events, at most `window` ahead of what has ended, from threads of its own.

    `again` counts how often something was sent another time because it had not been acknowledged.
    """

    def __init__(
        self,
        url: str,
        journal: Journal,
        total: int,
        window: int,
        entropy: random.Random,
        job_of: Callable[[int], str] = jobs.job_of,
    ) -> None:
        self.total = total
        self._ids: dict[int, str] = {}
        self.again = 0
        self.refused: list[tuple[int, str]] = []
        """Answers other than 200: status and body."""
        self._journal = journal
        self._window = window
        self._job_of = job_of
        parts = urlsplit(url)
        self._address = (parts.hostname or "", parts.port or 0)
        self._numbers = iter(range(total))
        self._seeds = [seed_header(entropy) for _ in range(total)]
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send_all, daemon=True) for _ in range(SENDERS)]
        self._threads.append(threading.Thread(target=self._wake_waiters, daemon=True))

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads, whether all is sent or not."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def all_accepted(self) -> bool:
        """Whether every event has been acknowledged."""
        return len(self._ids) == self.total

    @property
    def accepted(self) -> set[tuple[str, str]]:
        """The job and the id of each event that was acknowledged."""
        return {(self._job_of(number), event_id) for number, event_id in list(self._ids.items())}

    def _send_all(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=15)
        while not self._stopping.is_set():
            with self._lock:
                number = next(self._numbers, None)
            if number is None:
                return
            while number - len(self._journal.ended_keys) > self._window and not self._stopping.wait(0.01):
                pass
            event = {"name": f"{jobs.APP}/{self._job_of(number)}", "data": {"key": number}}
            self._send_until_accepted(connection, number, event, self._seeds[number])
            if number % TWICE_EVERY == 0:
                self._send(connection, [event], self._seeds[number])

    def _send_until_accepted(
        self, connection: http.client.HTTPConnection, number: int, event: Any, seed: dict[str, str]
    ) -> None:
        while not self._stopping.is_set():
            if ids := self._send(connection, [event], seed):
                self._ids[number] = ids[0]
                return
            with self._lock:
                self.again += 1
            self._stopping.wait(TRY_AGAIN_S)

    def _send(
        self, connection: http.client.HTTPConnection, events: Sequence[Any], headers: dict[str, str]
    ) -> list[str]:
        """The ids of the events, or nothing if they were not acknowledged."""
        status, body = send_events(connection, events, headers)
        if status == 200:
            return list(json.loads(body)["ids"])
        if status:
            self.refused.append((status, body))
        return []

    def _wake_waiters(self) -> None:
        """Send what the waiting runs wait for, again and again until they have ended: the first one counts."""
        connection = http.client.HTTPConnection(*self._address, timeout=15)
        while not self._stopping.wait(NUDGE_S):
            waiting = [
                number
                for number in list(self._ids)
                if self._job_of(number) == jobs.WAITER and number not in self._journal.ended_keys
            ]
            if waiting:
                self._send(connection, [{"name": jobs.GO, "data": {"key": number}} for number in waiting], {})
