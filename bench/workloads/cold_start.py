"""Cold start: from the start of the server's process, on an empty folder, to its first answer; and its memory then."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.connection import Pool
from bench.measure import rss_mb
from bench.server import ServerLauncher

STARTS = 5
IDLE_S = 2.0
DEADLINE_S = 30.0


async def measure(launcher: ServerLauncher) -> dict[str, float]:
    """`start_s` (median of five), `rss_idle_mb` after two idle seconds."""
    taken, resident = [], []
    for _ in range(STARTS):
        begun = time.monotonic()
        server = launcher.start()
        try:
            await _first_answer(server.url, begun + DEADLINE_S)
            taken.append(time.monotonic() - begun)
            await asyncio.sleep(IDLE_S)
            server.check()
            resident.append(rss_mb(server.pid))
        finally:
            server.stop()
    return {"start_s": statistics.median(taken), "rss_idle_mb": statistics.median(resident)}


async def _first_answer(url: str, deadline: float) -> None:
    async with Pool(url, 1) as pool:
        while time.monotonic() < deadline:
            try:
                if (await pool.get("/health")).status == 200:
                    return
            except OSError:
                await asyncio.sleep(0.002)
    raise TimeoutError(f"{url}/health gave no 200 within {DEADLINE_S} s")
