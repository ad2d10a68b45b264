"""Timeouts: a run that has not begun, or not ended, in time is cancelled at that moment.

`start` runs from when the run is due: a run that an event of the future has put off is not late before that.
`finish` runs from its first request to the app. Both act at the deadline, also while the run waits in line or
sleeps; an answer that was under way and comes later is ignored, except for one that ends the run before the
deadline is handled: whichever is decided first stands.
"""

from __future__ import annotations

from perdure.protocol.functions import Timeouts


def start_deadline(timeouts: Timeouts, start_at: int) -> int | None:
    """When (ms) a run that is due at `start_at` is cancelled if it has not begun by then; None for never."""
    return None if timeouts.start_ms is None else start_at + timeouts.start_ms


def finish_deadline(timeouts: Timeouts, started_at: int) -> int | None:
    """When (ms) a run whose first request was sent at `started_at` is cancelled; None for never."""
    return None if timeouts.finish_ms is None else started_at + timeouts.finish_ms
