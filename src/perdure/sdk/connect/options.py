"""The options of `App.connect`, for whoever passes them on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from typing import TypedDict

from perdure.sdk.durations import Duration


class ConnectOptions(TypedDict, total=False):
    """What `App.connect` takes; it says there what each means."""

    max_concurrency: int | None
    instance_id: str | None
    gateway_url: str | Callable[[str], str] | None
    shutdown_signals: Sequence[signal.Signals] | None
    drain_timeout: Duration
