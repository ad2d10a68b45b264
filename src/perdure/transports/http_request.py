"""What is sent: addresses, the head of a request, and where a redirect leads."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from perdure.protocol.calls import Call

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses that are followed when they name a Location."""

_BASE = re.compile(r"http://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "DELETE", "TRACE"})

_OWN_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
    | {"connection", "keep-alive", "proxy-connection"}
)
"""Headers that describe the connection, not the call: what a caller says about them is not sent."""
_PLAIN, _DROPPED, _USER_AGENT, _ACCEPT_ENCODING = range(4)
_KINDS = {"user-agent": _USER_AGENT, "accept-encoding": _ACCEPT_ENCODING}
_MAX_KNOWN_NAMES = 1000
_known_names: dict[str, tuple[str, int]] = {}


class Origin(msgspec.Struct, frozen=True):
    """Where a plain `http://` request goes. `who` is how messages name it: host and port."""

    host: str
    port: int
    who: str
    host_line: str


def find_origin(base: str) -> Origin | None:
    """The origin of `http://host[:port]`, or None if it takes the library to understand it."""
    match = _BASE.fullmatch(base)
    if match is None:
        return None
    host = match["host"]
    port = int(match["port"] or 80)
    if not 0 < port < 65536:
        return None
    authority = host if port == 80 else f"{host}:{port}"
    return Origin(host.strip("[]"), port, f"{host}:{port}", f"Host: {authority}\r\n")


def split_plain(url: str) -> tuple[str, str] | None:
    """Cut a plain URL into its base and its request target; None if it is unusual in any way.

    Only printable ASCII without spaces goes on the wire untouched; everything else is left to the library.
    """
    if (
        not url.startswith("http://")
        or not url.isascii()
        or not url.isprintable()
        or " " in url
        or "#" in url
    ):
        return None
    slash = url.find("/", 7)
    return (url, "/") if slash < 0 else (url[:slash], url[slash:])


def name_host(url: str) -> str:
    """Host and port of a URL, for messages: no user, no path, no query, which may carry secrets."""
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return "the app"
    host = parts.hostname or "the app"
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def write_head(call: Call, target: str, host_line: str, user_agent: str) -> bytes:
    """The request line and headers of a call.

    Raises ValueError, with a sentence for people, if a part cannot be sent: a line break within a header value would
    let whoever chose the value write headers and requests of their own.
    """
    if not _TOKEN.fullmatch(call.method):
        raise ValueError(f"The method {call.method[:20]!r} cannot be sent in HTTP.")
    lines = [f"{call.method} {target} HTTP/1.1\r\n{host_line}"]
    agent = encoding = False
    for name, value in call.headers:
        prefix, kind = _known_names.get(name) or _learn_name(name)
        if kind:
            if kind == _DROPPED:
                continue
            agent = agent or kind == _USER_AGENT
            encoding = encoding or kind == _ACCEPT_ENCODING
        lines.append(f"{prefix}{value}\r\n")
    if not agent:
        lines.append(f"User-Agent: {user_agent}\r\n")
    if not encoding:
        lines.append("Accept-Encoding: gzip\r\n")
    if call.body or call.method not in _BODILESS_METHODS:
        lines.append(f"Content-Length: {len(call.body)}\r\n")
    lines.append("\r\n")
    head = "".join(lines)
    ends = len(lines) + 1
    if head.count("\n") != ends or head.count("\r") != ends or "\0" in head:
        raise ValueError("A header value of the call holds a line break or a NUL byte and cannot be sent.")
    try:
        return head.encode()
    except UnicodeEncodeError:
        raise ValueError("A header value of the call is not valid Unicode and cannot be sent.") from None


def sendable_headers(call: Call, user_agent: str) -> list[tuple[str, str]]:
    """The headers of a call for a library that frames requests itself. Raises ValueError as `write_head` does."""
    write_head(call, "/", "Host: checked\r\n", user_agent)
    kept = [(name, value) for name, value in call.headers if name.lower() not in _OWN_HEADERS]
    names = {name.lower() for name, _ in kept}
    if "user-agent" not in names:
        kept.append(("User-Agent", user_agent))
    if "accept-encoding" not in names:
        kept.append(("Accept-Encoding", "gzip"))
    return kept


def _learn_name(name: str) -> tuple[str, int]:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"The header name {name[:40]!r} cannot be sent in HTTP.")
    lower = name.lower()
    known = (f"{name}: ", _DROPPED if lower in _OWN_HEADERS else _KINDS.get(lower, _PLAIN))
    if len(_known_names) < _MAX_KNOWN_NAMES:
        _known_names[name] = known
    return known


def follow(first: str, current: str, location: str) -> str:
    """Where a redirect from `current` leads, for a call that began at `first`.

    The query of the first URL is kept (it names the function to run): its parameters stand, and those of the
    Location that have other names are added. Raises ValueError with a sentence if the place cannot be gone to.
    """
    who = name_host(current)
    try:
        parts = urlsplit(urljoin(current, location.strip()))
        parts.port  # noqa: B018 - reading it validates it
    except ValueError:
        raise ValueError(f"{who} redirects to an address that cannot be understood.") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{who} redirects to {parts.scheme[:20]}:, and only http and https are followed.")
    if not parts.hostname:
        raise ValueError(f"{who} redirects to an address without a host.")
    query = _merge_queries(urlsplit(first).query, parts.query)
    return SplitResult(parts.scheme, parts.netloc, parts.path or "/", query, "").geturl()


def _merge_queries(kept: str, added: str) -> str:
    if not kept or not added:
        return kept or added
    names = {piece.partition("=")[0] for piece in kept.split("&")}
    extra = [piece for piece in added.split("&") if piece and piece.partition("=")[0] not in names]
    return "&".join([kept, *extra])
