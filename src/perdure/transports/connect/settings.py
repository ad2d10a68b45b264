"""The times and bounds of the gateway (protocol, Connect), and of what Perdure adds."""

from __future__ import annotations

import msgspec


class GatewaySettings(msgspec.Struct, frozen=True):
    """Times are in ms.

    `hello`: a worker must introduce itself so soon. `heartbeat`: workers send one so often, and are dropped after
    `missed_heartbeats` of silence. `lease`: a call is given up when its worker has not extended its lease for so long,
    and `grace` more; workers extend every `extend`, those on Perdure's own SDK every `own_extend`, so that a
    cancellation reaches them soon; if their socket is lost they have `comeback` to be there again, or their calls go
    to others. `acknowledge`: a call that is not acknowledged so soon is taken to another worker.
    `closing`: so long sockets stay open after workers were told that the gateway closes.
    """

    hello: int = 5_000
    heartbeat: int = 10_000
    missed_heartbeats: int = 5
    lease: int = 120_000
    grace: int = 5_000
    extend: int = 30_000
    own_extend: int = 2_000
    comeback: int = 20_000
    acknowledge: int = 10_000
    closing: int = 2_000
    max_apps: int = 10

    @classmethod
    def of_lease(cls, lease: int) -> GatewaySettings:
        """The settings for leases of another length (at least a second).

        Workers extend them often enough, in whole seconds as their SDKs have it, and a call is not given up before it
        has been taken elsewhere.
        """
        usual = cls()
        often = max(lease // 4000 * 1000, 1_000)
        return cls(
            lease=lease,
            extend=min(usual.extend, often),
            own_extend=min(usual.own_extend, often),
            comeback=min(usual.comeback, lease),
            acknowledge=min(usual.acknowledge, lease),
        )
