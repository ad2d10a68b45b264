"""Who may do what.

Without keys (`perdure dev` as it comes) everybody on the machine may do everything; what keeps a web page
in somebody's browser from doing it too is the check of Host and Origin. With signing keys, the routes that
SDKs and operators use need a bearer token made from one of them. Event ingestion goes by the event key in
its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from perdure.errors import RequestError
from perdure.protocol.signing import bearer_matches
from perdure.server.http import Scope, header

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1", "[::1]"))
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Keys:
    """The keys of a server. Empty lists mean that nothing is checked."""

    def __init__(self, event_keys: Sequence[str], signing_keys: Sequence[str]) -> None:
        self.event_keys = frozenset(event_keys)
        self.signing_keys = tuple(signing_keys)

    def check_event_key(self, key: str) -> None:
        """Raises `RequestError` 401 if the key of an event request is missing or unknown."""
        if not key:
            raise RequestError(401, "Event key is required")
        if self.event_keys and key not in self.event_keys:
            raise RequestError(401, "Event key not found")

    def has_bearer(self, scope: Scope) -> bool:
        """Whether the request brings a token of one of the signing keys, or none is needed."""
        if not self.signing_keys:
            return True
        scheme, _, token = (header(scope, b"authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and bearer_matches(token.strip(), self.signing_keys)


def from_foreign_page(scope: Scope) -> bool:
    """Whether a request that changes something was made by a web page of another host, or under a name that
    is not ours.

    A page can send requests to localhost, and a name that somebody else controls can point to it; both show
    in Origin and Host.
    """
    if scope["method"] in _SAFE:
        return False
    origin = header(scope, b"origin")
    if origin is None:
        return False
    host = (header(scope, b"host") or "").rsplit(":", 1)[0]
    origin_host = urlsplit(origin).hostname or ""
    return not (_is_local(origin_host) and _is_local(host)) and origin_host != host


def _is_local(host: str) -> bool:
    return host in _LOCAL or host.endswith(".localhost")
