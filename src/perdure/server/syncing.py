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
from collections.abc import Coroutine
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from perdure.errors import PerdureError
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.ids import app_uuid
from perdure.protocol.registration import RegistrationError
from perdure.protocol.signing import sign
from perdure.protocol.syncs import (
    IN_BAND,
    SDK_HEADER,
    SyncOutcome,
    interpret_sync_answer,
    registered_elsewhere,
)
from perdure.protocol.urls import normalize_app_url
from perdure.server.context import Server
from perdure.server.registering import take_in
from perdure.shard.commands import PutApp, RemoveApp
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
"""Apps that were named and cannot be reached yet are tried again so soon; others at the poll interval."""
MAX_ANSWER = 16 * 1024 * 1024
_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))


class Syncing:
    """The tasks that find and sync apps. `start` begins, `close` ends them."""

    def __init__(self, server: Server, transport: Transport) -> None:
        self._server = server
        self._transport = transport
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[str] = set()
        """URLs whose sync is under way: a slow app does not hold up the others, nor is it asked twice."""
        self._told: dict[str, str] = {}
        self._due: dict[str, float] = {normalize_app_url(url): 0.0 for url in server.config.urls}
        """When the named apps that have not been synced yet are tried next, by the loop's clock."""

    def start(self) -> None:
        """Begin to sync and, unless switched off, to look for apps."""
        self._begin(self._poll())
        if self._server.config.discovery:
            self._begin(self._discover())

    async def close(self) -> None:
        """End the tasks."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _poll(self) -> None:
        """Sync the named apps until each has been, and all known apps at each poll."""
        config, loop = self._server.config, asyncio.get_running_loop()
        poll_at = loop.time()
        while self._due or config.poll:
            now = loop.time()
            urls = [url for url, due in self._due.items() if due <= now]
            if config.poll and poll_at <= now:
                poll_at = now + config.poll_interval
                urls += [url for url in self._known_urls() if url not in self._due]
            for url in dict.fromkeys(urls):
                if url not in self._busy:
                    self._begin(self._sync_safely(url))
            await asyncio.sleep(min(RETRY_S, max(poll_at - now, 0.01)) if config.poll else RETRY_S)

    def _known_urls(self) -> list[str]:
        return [
            app.url
            for app in self._server.shard.state.apps.values()
            if app.archived_at is None and app.method == "SERVE" and app.url
        ]

    async def _sync_safely(self, url: str) -> None:
        self._busy.add(url)
        pause = RETRY_S
        try:
            outcome = await self.sync(url)
            if not outcome.error:
                self._due.pop(url, None)
            elif outcome.error != "unreachable":
                pause = max(float(self._server.config.poll_interval), RETRY_S)
        except PerdureError as error:
            log.warning("%s could not be synced: %s", url, error)
        finally:
            self._busy.discard(url)
            if url in self._due:
                self._due[url] = asyncio.get_running_loop().time() + pause

    async def sync(self, url: str) -> SyncOutcome:
        """Sync one app, and note on it what came of it."""
        before = self._server.registrations
        outcome = interpret_sync_answer(await self._put(url), url)
        if not outcome.error and outcome.kind == IN_BAND:
            try:
                await take_in(self._server, outcome.body, url)
            except RegistrationError as error:
                outcome = SyncOutcome("invalid_function", error.reason, sdk=outcome.sdk)
        elif outcome.refused:
            outcome = SyncOutcome("refused", outcome.refused, sdk=outcome.sdk, framework=outcome.framework)
        elif not outcome.error and self._server.registrations == before and not self._has_registered(url):
            outcome = registered_elsewhere(url, self._server.config.port, outcome)
        if outcome.error:
            await self._note(url, outcome)
        else:
            await self._forget_placeholder(url)
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
        known = self._app_at(url)
        if known is not None:
            if not _says_more(known.error, outcome):
                row = known._replace(error=outcome.message, synced_at=now)
                await self._server.submit(PutApp(app=row))
        elif url in self._due:
            row = AppRow(app_uuid(url), "", url, "", "", "", "SERVE", "", outcome.message, now, now, None)
            await self._server.submit(PutApp(app=row))

    async def _forget_placeholder(self, url: str) -> None:
        """The app has registered: under another URL than it was named with, if a row for that is left."""
        known = self._app_at(url)
        if known is not None and not known.name:
            await self._server.submit(RemoveApp(app_id=known.id))

    def _app_at(self, url: str) -> AppRow | None:
        apps = self._server.shard.state.apps.values()
        return next((app for app in apps if app.url == url and app.archived_at is None), None)

    def _has_registered(self, url: str) -> bool:
        known = self._app_at(url)
        return known is not None and bool(known.name)

    def _tell(self, url: str, outcome: SyncOutcome) -> None:
        """Say in the log what came of a sync, when it differs from the last time."""
        text = outcome.message if outcome.error else "ok"
        if self._told.get(url) == text:
            return
        self._told[url] = text
        if outcome.error:
            named = outcome.message.startswith(url)
            log.warning("%s", outcome.message if named else f"app at {url}: {outcome.message}")
        else:
            log.info("app at %s is synced", url)

    async def _discover(self) -> None:
        """Look for apps on the usual ports and paths of this machine."""
        interval = FIRST_LOOK_S
        while True:
            found = await asyncio.gather(*[self._look_at(port) for port in self._free_ports()])
            for url in found:
                if url:
                    if url not in self._told:
                        log.info("found an app at %s", url)
                    await self._sync_safely(url)
            interval = FIRST_LOOK_S if any(found) else min(interval * 1.5, LAST_LOOK_S)
            await asyncio.sleep(interval)

    def _free_ports(self) -> list[int]:
        """The usual ports without a known app, and without this server."""
        taken = {self._server.config.port}
        for url in (*self._known_urls(), *self._due):
            with suppress(ValueError):
                parts = urlsplit(url)
                if parts.hostname in _LOCAL:
                    taken.add(parts.port or (443 if parts.scheme == "https" else 80))
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


def _says_more(error: str, outcome: SyncOutcome) -> bool:
    """Whether the error on an app's row is the outcome's already, perhaps with each problem on a line."""
    if outcome.error != "refused":
        return error == outcome.message
    return error.startswith(outcome.message)
