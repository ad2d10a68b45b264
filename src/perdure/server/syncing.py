"""Finding apps and keeping them in sync.

An app is synced by a PUT to its URL: it answers by registering (`POST /fn/register`), or in the answer
itself (in band; asked for when calls are signed, since only then can the app trust the question). Apps
named on the command line are tried until they answer. Known apps are synced again at each poll. And the
usual ports and paths of this machine are looked through for apps that nobody named: every few seconds at
first, then more rarely, for as long as the server runs, since an app may well start later.
"""

from __future__ import annotations

import asyncio
import logging
import os

import msgspec

from perdure.errors import PerdureError, RequestError
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.ids import app_uuid
from perdure.protocol.registration import RegistrationError
from perdure.protocol.signing import sign
from perdure.protocol.syncs import IN_BAND, SDK_HEADER, SyncOutcome, interpret_sync_answer
from perdure.protocol.urls import normalize_app_url
from perdure.server.context import Server
from perdure.server.registering import take_in
from perdure.shard.commands import PutApp
from perdure.shard.ports import Transport
from perdure.shard.rows import AppRow

log = logging.getLogger("perdure.sync")

PORTS = (80, 443, *range(3000, 3011), 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888, *range(8910, 8916))
PATHS = ("/api/inngest", "/x/inngest", "/.netlify/functions/inngest", "/.redwood/functions/inngest")
PUT_TIMEOUT_S = 10.0
LOOK_TIMEOUT_S = 2.0
FIRST_LOOK_S = 5.0
LAST_LOOK_S = 30.0
"""Discovery slows down to this interval, in seconds."""
RETRY_S = 1.0
"""Apps that were named and have not answered yet are tried again so soon."""
MAX_ANSWER = 16 * 1024 * 1024


class Syncing:
    """The tasks that find and sync apps. `start` begins, `close` ends them."""

    def __init__(self, server: Server, transport: Transport) -> None:
        self._server = server
        self._transport = transport
        self._tasks: list[asyncio.Task[None]] = []
        self._told: dict[str, str] = {}
        self._last: dict[str, str] = {}

    def start(self) -> None:
        """Begin to sync and, unless switched off, to look for apps."""
        config = self._server.config
        loop = asyncio.get_running_loop()
        self._tasks.append(loop.create_task(self._poll([normalize_app_url(url) for url in config.urls])))
        if config.discovery:
            self._tasks.append(loop.create_task(self._discover()))

    async def close(self) -> None:
        """End the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _poll(self, urls: list[str]) -> None:
        """Sync the named apps now, and all known apps at each poll.

        Named ones that have not answered yet always.
        """
        config = self._server.config
        waiting = list(dict.fromkeys(urls))
        while True:
            known = self._known_urls() if config.poll else []
            await asyncio.gather(*[self._sync_safely(url) for url in dict.fromkeys([*waiting, *known])])
            waiting = [url for url in waiting if self._last.get(url)]
            if not waiting and not config.poll:
                return
            await asyncio.sleep(RETRY_S if waiting else config.poll_interval)

    def _known_urls(self) -> list[str]:
        return [
            app.url
            for app in self._server.shard.state.apps.values()
            if app.archived_at is None and app.method == "SERVE" and app.url
        ]

    async def _sync_safely(self, url: str) -> None:
        try:
            await self.sync(url)
        except RequestError as error:
            log.warning("%s could not be synced: %s", url, error.message)
        except PerdureError as error:
            log.warning("%s could not be synced: %s", url, error)

    async def sync(self, url: str) -> SyncOutcome:
        """Sync one app, and note on it what came of it."""
        outcome = interpret_sync_answer(await self._put(url), url)
        if not outcome.error and outcome.kind == IN_BAND:
            try:
                await take_in(self._server, outcome.body, url)
            except RegistrationError as error:
                outcome = SyncOutcome("invalid_function", error.reason, sdk=outcome.sdk)
        elif outcome.refused:
            outcome = SyncOutcome("refused", outcome.refused, sdk=outcome.sdk, framework=outcome.framework)
        self._last[url] = outcome.error
        if outcome.error:
            await self._note(url, outcome)
        self._tell(url, outcome)
        return outcome

    async def _put(self, url: str) -> CallAnswer | CallFailure:
        body = msgspec.json.encode({"url": url})
        headers = [("Content-Type", "application/json"), ("X-Inngest-Server-Kind", self._server.config.kind)]
        keys = self._server.keys.signing_keys
        if keys:
            headers.append(("x-inngest-sync-kind", IN_BAND))
            headers.append(("X-Inngest-Signature", sign(body, keys[0], self._server.clock.now() // 1000)))
        return await self._request(Call(url, body, tuple(headers), "PUT", PUT_TIMEOUT_S, MAX_ANSWER))

    async def _request(self, call: Call) -> CallAnswer | CallFailure:
        done: asyncio.Future[CallAnswer | CallFailure] = asyncio.get_running_loop().create_future()

        def ended(result: CallAnswer | CallFailure) -> None:
            if not done.done():
                done.set_result(result)

        handle = self._transport.start(call, ended)
        try:
            return await done
        except asyncio.CancelledError:
            handle.cancel()
            raise

    async def _note(self, url: str, outcome: SyncOutcome) -> None:
        """Show on the app, or on a row of its own if it has never registered, what is wrong."""
        now = self._server.clock.now()
        for app in self._server.shard.state.apps.values():
            if app.url == url and app.archived_at is None:
                if outcome.error != "refused" and app.error != outcome.message:
                    await self._server.submit(PutApp(app=app._replace(error=outcome.message)))
                return
        if url in map(normalize_app_url, self._server.config.urls):
            row = AppRow(app_uuid(url), "", url, "", "", "", "SERVE", "", outcome.message, now, now, None)
            await self._server.submit(PutApp(app=row))

    def _tell(self, url: str, outcome: SyncOutcome) -> None:
        """Say in the log what came of a sync, when it differs from the last time."""
        text = outcome.message if outcome.error else "ok"
        if self._told.get(url) == text:
            return
        self._told[url] = text
        if outcome.error:
            log.warning("app at %s: %s", url, outcome.message)
        else:
            log.info("app at %s is synced", url)

    async def _discover(self) -> None:
        """Look for apps on the usual ports and paths of this machine."""
        interval = FIRST_LOOK_S
        while True:
            found = await asyncio.gather(*[self._look_at(port) for port in self._free_ports()])
            for url in found:
                if url:
                    log.info("found an app at %s", url)
                    await self._sync_safely(url)
            interval = FIRST_LOOK_S if any(found) else min(interval * 1.5, LAST_LOOK_S)
            await asyncio.sleep(interval)

    def _free_ports(self) -> list[int]:
        """The usual ports without a known app, and without this server."""
        taken = {self._server.config.port}
        for url in self._known_urls():
            port = url.split("://", 1)[-1].split("/", 1)[0].rpartition(":")[2]
            taken.add(int(port) if port.isdecimal() else 443 if url.startswith("https") else 80)
        ports = list(PORTS)
        extra = os.environ.get("PORT", "")
        if extra.isdecimal() and 0 < int(extra) < 65536:
            ports.append(int(extra))
        return [port for port in dict.fromkeys(ports) if port not in taken]

    async def _look_at(self, port: int) -> str | None:
        """The URL of an app on this port, if an SDK answers there."""
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), LOOK_TIMEOUT_S)
        except (OSError, TimeoutError):
            return None
        writer.close()
        for path in PATHS:
            url = f"http://localhost:{port}{path}"
            answer = await self._request(Call(url, b"", (), "GET", LOOK_TIMEOUT_S, MAX_ANSWER))
            if isinstance(answer, CallAnswer) and answer.headers.get(SDK_HEADER):
                return normalize_app_url(url)
        return None
