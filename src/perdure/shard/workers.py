"""What is told of a worker that is connected."""

from __future__ import annotations

import msgspec

STATUSES = ("CONNECTED", "READY", "DRAINING", "DISCONNECTING", "DISCONNECTED")
"""Where a connection stands, by its number in the protocol."""


class WorkerApp(msgspec.Struct, frozen=True):
    """An app of a worker. Workers with the same `group` are alike: the same functions, SDK and version."""

    name: str
    version: str
    group: str
    functions: tuple[str, ...]


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker that is connected. Times are ms since the epoch.

    `instance_id` is what it calls itself, `gateway` the id of the gateway that it is connected to. `capacity` is how
    many calls it takes at once, 0 without a limit, and `in_use` how many it has. `status` is a place in `STATUSES`.
    """

    id: str
    gateway: str
    instance_id: str
    address: str
    status: int
    apps: tuple[WorkerApp, ...]
    sdk_language: str
    sdk_version: str
    platform: str
    framework: str
    capacity: int
    in_use: int
    connected_at: int
    heard_at: int
    cpu_cores: int
    mem_bytes: int
    os: str
