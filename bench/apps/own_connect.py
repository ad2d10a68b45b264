"""The workloads' functions on Perdure's own SDK, called over a WebSocket that the app opens: one process with uvloop.

Run as `python -m bench.apps.own_connect PORT SERVER_URL`. The port is for the control routes, and for calls without
a server.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop

import perdure
from bench.apps.control import with_control
from bench.apps.marks import Marks
from bench.apps.own_sdk import declare
from perdure.sdk.serve import asgi


async def work(port: int, server_url: str) -> None:
    """Serve and stay connected until killed."""
    marks = Marks()
    app = perdure.App("bench", url=server_url, dev=True)
    declare(app, marks)
    web = with_control(asgi(app), marks)
    config = uvicorn.Config(
        web, host="127.0.0.1", port=port, http="httptools", log_level="warning", access_log=False
    )
    worker = asyncio.create_task(app.connect(shutdown_signals=()))
    await uvicorn.Server(config).serve()
    worker.cancel()
    await asyncio.wait({worker})


if __name__ == "__main__":
    uvloop.run(work(int(sys.argv[1]), sys.argv[2]))
