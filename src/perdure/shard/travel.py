"""What a move of the clock comes to, and what is due at which time."""

from __future__ import annotations

import msgspec


class Timer(msgspec.Struct, frozen=True):
    """Something that happens at a time, `due` (ms since the epoch).

    `kind` says what: `sleep`; `event timeout`, `invoke timeout` or `signal timeout` of a wait; `retry` of a call or a
    request; `start` of a run that its sender has put off; `start timeout` and `finish timeout` of a run; `cron`,
    `debounce`, `batch`; `throttle`, which lets the next run start; `lookback`. `run_id` is empty where there is no run
    yet, `name` is that of the step.
    """

    due: int
    kind: str
    function_id: str
    run_id: str = ""
    n: int = 0
    name: str = ""


class Travel(msgspec.Struct, frozen=True):
    """Where the clock stands: it was at `before` and is at `now`, by which it is `ahead` of the world's (all ms).

    `passed` came due in between, and `more` says that this was not all. `next` is due next; it may be None if much
    came due.
    """

    before: int
    now: int
    ahead: int
    passed: list[Timer]
    more: bool
    next: Timer | None
