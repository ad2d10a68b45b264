"""What functions log and how far their steps are, kept for the test at once."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime
from typing import NamedTuple

from perdure.sdk.api import Api
from perdure.sdk.key import Key
from perdure.sdk.step_logs import StepLogs, Telling
from perdure.testing.clock import moment


class LogLine(NamedTuple):
    """A line that a function has logged, in a step or (`step` is empty) between its steps."""

    step: str
    attempt: int
    level: str
    message: str
    at: datetime


class Progress(NamedTuple):
    """How far a step has said to be, from 0 to 1."""

    done: float
    message: str


class KeptLogs(StepLogs):
    """Sends nothing. `lines` are by run, `progress` by run and step hash."""

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.lines: defaultdict[str, list[LogLine]] = defaultdict(list)
        self.progress: dict[tuple[str, str], Progress] = {}

    def line(self, call: Telling, key: Key | None, record: logging.LogRecord) -> None:
        step = "" if key is None else key.step_id
        at = moment(call.now_ns() // 1_000_000)
        self.lines[call.job.run_id].append(
            LogLine(step, call.job.attempt, record.levelname, record.getMessage(), at)
        )

    def sign(self, call: Telling, key: Key | None, progress: float | None = None, message: str = "") -> None:
        if progress is not None and key is not None:
            self.progress[call.job.run_id, key.hash] = Progress(progress, message)
