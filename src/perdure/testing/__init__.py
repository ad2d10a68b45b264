"""Tests of background functions, in process and on a virtual clock.

    async def test_a_paid_order(jobs: perdure.testing.Server) -> None:
        run = await jobs.start(fulfil, Order(id=1))
        await jobs.advance("30d")
        assert run.output == "receipt-1"

`jobs` is a fixture of the pytest plugin that comes with Perdure; `Server` and `SyncServer` do without pytest.
"""

from __future__ import annotations

from perdure.testing.failures import Differs, Failure, NotSettled, UnexpectedRequest, UnknownStep
from perdure.testing.mocks import FunctionMock, OutsideRequest, StepCall, StepMock
from perdure.testing.runs import Attempt, Run, RunError, RunStep, Wait
from perdure.testing.server import Server
from perdure.testing.sync_server import SyncServer

__all__ = [
    "Attempt",
    "Differs",
    "Failure",
    "FunctionMock",
    "NotSettled",
    "OutsideRequest",
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
]
