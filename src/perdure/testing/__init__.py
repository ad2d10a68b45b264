"""Tests of background functions, in process and on a virtual clock.

    async def test_a_paid_order(jobs: perdure.testing.Server) -> None:
        run = await jobs.start(fulfil, Order(id=1))
        await jobs.advance("30d")
        assert run.output == "receipt-1"

`jobs` is a fixture of the pytest plugin that comes with Perdure; `Server` and `SyncServer` do without pytest. Nothing
is loaded until it is asked for, since pytest loads the plugin of this package in all sessions.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.testing.differences import Difference, Replay
    from perdure.testing.failures import Differs, Failure, NotSettled, UnexpectedRequest, UnknownStep
    from perdure.testing.logs import LogLine, Progress
    from perdure.testing.mocks import FunctionMock, OutsideRequest, StepCall, StepMock
    from perdure.testing.replaying import replay_export
    from perdure.testing.run_steps import Attempt, RunError, RunStep
    from perdure.testing.runs import Run, Wait
    from perdure.testing.server import Server
    from perdure.testing.sync_server import SyncServer

_WHERE = {
    "differences": ("Difference", "Replay"),
    "failures": ("Differs", "Failure", "NotSettled", "UnexpectedRequest", "UnknownStep"),
    "logs": ("LogLine", "Progress"),
    "mocks": ("FunctionMock", "OutsideRequest", "StepCall", "StepMock"),
    "replaying": ("replay_export",),
    "run_steps": ("Attempt", "RunError", "RunStep"),
    "runs": ("Run", "Wait"),
    "server": ("Server",),
    "sync_server": ("SyncServer",),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "Attempt",
    "Difference",
    "Differs",
    "Failure",
    "FunctionMock",
    "LogLine",
    "NotSettled",
    "OutsideRequest",
    "Progress",
    "Replay",
    "Run",
    "RunError",
    "RunStep",
    "Server",
    "StepCall",
    "StepMock",
    "SyncServer",
    "UnexpectedRequest",
    "UnknownStep",
    "Wait",
    "replay_export",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'perdure.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"perdure.testing.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
