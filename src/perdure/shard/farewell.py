"""The end of a shard, for others who keep something in memory that is to be stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from perdure.errors import PerdureError

log = logging.getLogger("perdure.shard")


async def bid_farewell(works: Sequence[Callable[[], Awaitable[None]]], latest: float) -> None:
    """Let others store what they have gathered, until `latest` by the loop's clock."""
    for work in works:
        try:
            async with asyncio.timeout_at(latest):
                await work()
        except (TimeoutError, PerdureError) as error:
            log.warning(
                "something that was gathered in memory is not stored: %s", error or "it took too long"
            )
