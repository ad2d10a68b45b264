"""A host that kills the worker right after each response, as serverless hosts freeze or end theirs.

    python -m examples.opportunity_tracker.serverless_host --port 8000
    python -m examples.opportunity_tracker.serverless_host --app examples.opportunity_tracker.old_way:create_app

Each request gets a worker of its own: a process that serves the app. When the last byte of its response is there, it
is killed (SIGKILL), and only then does the caller get the response. What a worker had planned for later is lost, which
is what such a host does to background tasks. The next worker is started ahead, so that a request need not wait for it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

DEFAULT_APP = "examples.opportunity_tracker.app:create_app"
READY_SECONDS = 30.0
REQUEST_SECONDS = 300.0
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Of one connection, not of the message (RFC 9110, section 7.6.1); and what is no longer true of the body as read.
LEFT_OUT = frozenset(
    ("connection", "keep-alive", "transfer-encoding", "upgrade", "content-length", "content-encoding")
)


class WorkerError(Exception):
    """A worker could not be started. The text says why."""


class Worker:
    """A process that serves the app on a socket of its own, for one request."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self.process = process
        self._socket = socket

    @classmethod
    async def start(cls, app: str, socket: Path) -> Worker:
        """Start one and wait until it can be asked. Raises WorkerError."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "uvicorn", "--factory", app, "--uds", str(socket), "--log-level", "warning"
        )
        worker = cls(process, socket)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await worker._listens():
                    if process.returncode is not None:
                        raise WorkerError(f"A worker ended with {process.returncode} before it was ready.")
                    await asyncio.sleep(0.02)
        except BaseException:
            await worker.kill()
            raise
        return worker

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        writer.close()
        return True

    async def ask(self, request: Request, body: bytes) -> Response:
        """Its response to a request, all of it."""
        transport = httpx2.AsyncHTTPTransport(uds=str(self._socket))
        async with httpx2.AsyncClient(transport=transport, timeout=REQUEST_SECONDS) as http:
            answer = await http.request(
                request.method, str(request.url), headers=request.headers.raw, content=body
            )
        response = Response(answer.content, answer.status_code)
        kept = [(k.lower(), v) for k, v in answer.headers.raw if k.decode().lower() not in LEFT_OUT]
        response.raw_headers = [*kept, (b"content-length", str(len(answer.content)).encode())]
        return response

    async def kill(self) -> None:
        """End it, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        self._socket.unlink(missing_ok=True)


class Host:
    """Gives each request a worker, with one started ahead."""

    def __init__(self, app: str, folder: Path) -> None:
        self._app = app
        self._folder = folder
        self._count = 0
        self._next: asyncio.Task[Worker] | None = None

    def start_ahead(self) -> asyncio.Task[Worker]:
        """Begin with another worker."""
        self._count += 1
        return asyncio.create_task(Worker.start(self._app, self._folder / f"{self._count}.sock"))

    async def handle(self, request: Request) -> Response:
        """Answer one request, and kill who did."""
        try:
            body = await request.body()
        except ClientDisconnect:
            return Response(status_code=400)
        mine, self._next = self._next or self.start_ahead(), self.start_ahead()
        try:
            worker = await mine
        except (WorkerError, TimeoutError) as error:
            return PlainTextResponse(f"{str(error) or 'A worker was not ready in time.'}\n", 502)
        try:
            return await worker.ask(request, body)
        except httpx2.HTTPError as error:
            return PlainTextResponse(f"The worker did not answer: {error!r}\n", 502)
        finally:
            await worker.kill()

    async def close(self) -> None:
        """Kill the worker that was started ahead."""
        if self._next is not None:
            self._next.cancel()
            for done in await asyncio.gather(self._next, return_exceptions=True):
                if isinstance(done, Worker):
                    await done.kill()


def create_host(app: str = DEFAULT_APP) -> Starlette:
    """The host as a web app."""
    state: dict[str, Host] = {}

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        with tempfile.TemporaryDirectory() as folder:
            state["host"] = Host(app, Path(folder))
            yield
            await state["host"].close()

    async def handle(request: Request) -> Response:
        return await state["host"].handle(request)

    return Starlette(lifespan=lifespan, routes=[Route("/{path:path}", handle, methods=METHODS)])


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="Serve an app as a serverless host does.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--app", default=DEFAULT_APP, help="what makes the app, as module:function")
    chosen = parser.parse_args()
    uvicorn.run(create_host(chosen.app), host="127.0.0.1", port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
