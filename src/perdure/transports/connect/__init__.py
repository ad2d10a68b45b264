"""Connect: workers open a WebSocket to the server, and are called through it.

    socket       WebSocket on a TCP connection, over the `websockets` library without its I/O
    connection   one worker: what it said of itself, what it works on, what waits to be sent to it
    handshake    whether a worker is let in
    workers      which worker gets a call
    requests     the calls under way, their leases, and whether they were acknowledged
    gateway      what happens when a message comes, a lease runs out, a worker goes

Nothing here is stored. The shard remembers which calls are under way, and the id of a request can be made again from
that (`shard.calls.request_id`), so that an answer finds its call also after a restart of the server.
"""

from __future__ import annotations

from perdure.transports.connect.gateway import Gateway
from perdure.transports.connect.settings import GatewaySettings

__all__ = ["Gateway", "GatewaySettings"]
