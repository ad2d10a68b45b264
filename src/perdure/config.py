"""The settings of a server, as the command line and the environment give them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from perdure.core.settings import Settings


class ServerConfig(msgspec.Struct, frozen=True):
    """Everything that a server is told at its start.

    `urls` are apps to sync at once. `poll_interval` is in seconds. `event_keys` and `signing_keys` are
    checked if there are any; the first signing key signs calls. `data_dir` holds the database. `tick` and
    `queue_workers` are only shown, for compatibility with the reference server; this server has no tick.
    `lookback` is in seconds. `connect_port` is the gateway's own port, None for the one above `port`;
    `connect_lease` is how long (seconds) a call through a worker lives without a sign of life.
    """

    mode: str = "dev"
    host: str = "127.0.0.1"
    port: int = 8288
    urls: tuple[str, ...] = ()
    data_dir: Path = Path(".perdure")
    discovery: bool = True
    poll: bool = True
    poll_interval: int = 5
    retry_interval: int | None = None
    default_retries: int = 3
    event_keys: tuple[str, ...] = ()
    signing_keys: tuple[str, ...] = ()
    tick: int = 150
    queue_workers: int = 100
    lookback: int = 0
    connect_port: int | None = None
    connect_lease: int = 120

    @property
    def kind(self) -> str:
        """What the server calls itself towards SDKs: `cloud` when it has keys, else `dev`."""
        return "cloud" if self.signing_keys or self.event_keys else "dev"

    def engine_settings(self) -> Settings:
        """The rules of the engine."""
        interval = None if self.retry_interval is None else self.retry_interval * 1000
        return Settings(
            default_retries=self.default_retries,
            retry_interval_ms=interval,
            lookback_ms=self.lookback * 1_000,
        )
