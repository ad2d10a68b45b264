"""Who may do what.

Without keys (`perdure dev` as it comes) everybody on the machine may do everything; what keeps a web page
in somebody's browser from doing it too is the check of Host and Origin. With signing keys, the routes that
SDKs and operators use need a bearer token made from one of them. Event ingestion goes by the event key in
its path.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from perdure.errors import RequestError
from perdure.protocol.signing import bearer_matches
from perdure.server.http import Scope, header

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Keys:
    """The keys of a server. Empty lists mean that nothing is checked."""

    def __init__(self, event_keys: Sequence[str], signing_keys: Sequence[str]) -> None:
        self.event_keys = frozenset(event_keys)
        self.signing_keys = tuple(signing_keys)

    def refuses_event_key(self, key: str) -> RequestError | None:
        """What is wrong with the key of an event request, if it is missing or unknown."""
        if not key:
            return RequestError(401, "Event key is required")
        if self.event_keys and key not in self.event_keys:
            return RequestError(401, "Event key not found")
        return None

    def has_bearer(self, scope: Scope) -> bool:
        """Whether the request brings a token of one of the signing keys, or none is needed."""
        if not self.signing_keys:
            return True
        scheme, _, token = (header(scope, b"authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and bearer_matches(token.strip(), self.signing_keys)


def from_foreign_page(scope: Scope, own_host: str) -> bool:
    """Whether a request that changes something was made by a web page of another host, or under a name that
    is not ours.

    A page can send requests to localhost, and somebody else's name can be made to point to it: then Origin
    and Host agree, but neither is ours. Programs send no Origin and may call the server by any name. Pages
    that this server gave out under its address in the network are told by their Origin: nobody can make
    an address point elsewhere. `own_host` is the name that the server was told to listen on.
    """
    if scope["method"] in _SAFE:
        return False
    origin = header(scope, b"origin")
    if origin is None:
        return False
    page, called = _host_of(origin), _host_of(f"//{header(scope, b'host') or ''}")
    if _is_local(page) and _is_local(called):
        return False
    return page != called or not (_is_address(page) or page == own_host)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_local(host: str) -> bool:
    return host in _LOCAL or host.endswith(".localhost")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
