"""What a server can do beyond the protocol of the official SDKs, as it tells an app in the headers of each call.

SDKs that know nothing of it pass it over; an SDK that does uses nothing that a call has not named.
"""

from __future__ import annotations

from functools import lru_cache

HEADER = "X-Perdure-Capabilities"
"""Words in this header, between commas."""

CHECKPOINTS = "checkpoints"
"""`POST /v1/checkpoints` takes the finished steps of many runs in one body."""

CHECKPOINTS_PATH = "/v1/checkpoints"

LOGS = "logs"
"""`POST /v1/step-logs` takes log lines of runs, the progress of steps and their signs of life."""

LOGS_PATH = "/v1/step-logs"

OFFERED = f"{CHECKPOINTS}, {LOGS}"
"""The header of this server."""


@lru_cache(maxsize=64)
def offers(header: str, capability: str) -> bool:
    """Whether a header names a capability."""
    return header == capability or capability in {word.strip() for word in header.split(",")}
