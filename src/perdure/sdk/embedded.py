"""What an app knows of the engine in its own process, which `perdure.embedded` brings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol

Allow = Callable[[Mapping[str, Any]], bool | Awaitable[bool]]
"""Gets the ASGI scope of a request and says whether it may pass."""


class Embedded(Protocol):
    """An engine in the app's process. `await` starts it and gives it back; `async with` also stops it at the end."""

    @property
    def role(self) -> Literal["stopped", "leader", "follower", "elsewhere"]:
        """`leader` if the engine runs in this process, `follower` if in a sibling, `elsewhere` with a server."""

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        """The engine's HTTP API, as an ASGI application; everybody who reaches it may do everything."""

    async def stop(self) -> None:
        """Start no more calls, wait for those under way, and end. What is left goes on at the next start."""

    def __await__(self) -> Generator[Any, None, Embedded]:
        """Start it. Raises ConfigError if the database cannot be used or a function is declared wrongly."""

    async def __aenter__(self) -> Embedded:
        """Start it, as `await` does."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
