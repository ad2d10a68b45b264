"""One worker: what it said of itself, what it works on, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from perdure.protocol.connect.messages import (
    CheckpointAck,
    ConnectMessage,
    Extensions,
    Kind,
    SystemAttributes,
    encode_checkpoint_acks,
)
from perdure.protocol.connect.wire import encode, join_delimited
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID
from perdure.shard.workers import WorkerApp, WorkerRecord
from perdure.transports.connect.requests import Request

if TYPE_CHECKING:
    from perdure.transports.connect.socket import WorkerSocket

UNLIMITED = 1 << 30
MAX_BUNDLE = 1024 * 1024
"""Messages are bundled until they are so large (bytes) together."""


class Status(IntEnum):
    """Where a connection stands (protocol, ConnectionStatus)."""

    CONNECTED = 0
    READY = 1
    DRAINING = 2
    DISCONNECTING = 3
    DISCONNECTED = 4


class Group(msgspec.Struct, frozen=True):
    """An app of a worker in one version. Workers with the same `hash` are alike. `functions` is JSON, as it came."""

    app: str
    version: str
    slugs: frozenset[str]
    functions: bytes
    hash: str


class Description(msgspec.Struct, frozen=True):
    """What a worker said of itself. `limit` is how many calls it takes at once, 0 without a limit."""

    id: str
    instance_id: str
    sdk_language: str
    sdk_version: str
    platform: str
    framework: str
    system: SystemAttributes
    capabilities: bytes
    extensions: Extensions
    limit: int
    manual: bool
    """Whether it takes calls only once it has said that it is ready."""
    groups: dict[str, Group]

    @property
    def sdk(self) -> str:
        """Language and version of its SDK in one word."""
        return f"{self.sdk_language}:v{self.sdk_version.removeprefix('v')}"


def group_hash(app: str, version: str, functions: bytes, sdk: str, platform: str) -> str:
    """The name of a worker group: the same for workers that are alike."""
    digest = hashlib.sha256()
    for part in (ACCOUNT_ID, ENVIRONMENT_ID, app, version, sdk, platform):
        digest.update(part.encode() + b"\0")
    digest.update(functions)
    return digest.hexdigest()


class WorkerConnection:
    """A worker that has been let in. Belongs to the event loop."""

    def __init__(self, said: Description, socket: WorkerSocket, extensions: Extensions, now: int) -> None:
        self.id = said.id
        self.said = said
        self.groups = said.groups
        self.socket = socket
        self.extensions = extensions
        """Those of Perdure's additions that both sides know."""
        self.connected_at = now
        """When it was let in, in ms since the epoch; `heard_at` is when its last message came."""
        self.heard_at = now
        self.status = Status.CONNECTED if said.manual else Status.READY
        self.writable = True
        self.requests: set[Request] = set()
        self._unsent: list[bytes] = []
        self._checked: list[CheckpointAck] = []
        self._flushing = False

    def record(self, gateway: str) -> WorkerRecord:
        """What is told of it; `gateway` is the gateway's id."""
        said = self.said
        apps = [
            WorkerApp(group.app, group.version, group.hash, tuple(sorted(group.slugs)))
            for group in said.groups.values()
        ]
        return WorkerRecord(
            id=self.id,
            gateway=gateway,
            instance_id=said.instance_id,
            address=self.socket.peer,
            status=int(self.status),
            apps=tuple(apps),
            sdk_language=said.sdk_language,
            sdk_version=said.sdk_version,
            platform=said.platform,
            framework=said.framework,
            capacity=said.limit,
            in_use=len(self.requests),
            connected_at=self.connected_at,
            heard_at=self.heard_at,
            cpu_cores=said.system.cpu_cores,
            mem_bytes=said.system.mem_bytes,
            os=said.system.os,
        )

    @property
    def ready(self) -> bool:
        """Whether it takes calls, if it has room."""
        return self.status is Status.READY and self.writable and self.socket.usable

    def room(self) -> int:
        """How many more calls it takes."""
        limit = self.said.limit
        return max(limit - len(self.requests), 0) if limit else UNLIMITED

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a message with all others that are sent in this turn of the loop."""
        self._unsent.append(encode(ConnectMessage(kind, payload)))
        self._flush_soon()

    def checked(self, ack: CheckpointAck) -> None:
        """Tell what came of a checkpoint, with all others that are told in this turn of the loop."""
        self._checked.append(ack)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Send what waits."""
        self._flushing = False
        if self._checked:
            payload = encode_checkpoint_acks(self._checked)
            self._unsent.append(encode(ConnectMessage(Kind.GATEWAY_CHECKPOINTS_ACK, payload)))
            self._checked = []
        messages, self._unsent = self._unsent, []
        if messages:
            bundled = self.extensions.bundles and len(messages) > 1
            self.socket.send(bundle(messages) if bundled else messages)


def bundle(messages: list[bytes]) -> list[bytes]:
    """Put small messages together into frames; a large one stays alone."""
    frames: list[bytes] = []
    held: list[bytes] = []
    size = 0
    for message in messages:
        if held and size + len(message) > MAX_BUNDLE:
            frames.append(_joined(held))
            held, size = [], 0
        held.append(message)
        size += len(message)
    frames.append(_joined(held))
    return frames


def _joined(messages: list[bytes]) -> bytes:
    if len(messages) == 1:
        return messages[0]
    return encode(ConnectMessage(Kind.BUNDLE, join_delimited(messages)))
