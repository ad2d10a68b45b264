"""URLs of apps: how they are compared and stored, and how the URL of a call is made."""

from __future__ import annotations

from urllib.parse import SplitResult, quote, unquote_plus, urlsplit

import msgspec

OWN_PARAMETERS = frozenset(("fnId", "stepId", "deployId", "probe"))
"""Query parameters that SDKs and servers set for each other; they are no part of an app's address."""

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LOCAL = frozenset(("127.0.0.1", "0.0.0.0"))


def normalize_app_url(url: str) -> str:
    """An app's URL as it is stored and compared.

    Without the parameters of `OWN_PARAMETERS`, default port and fragment, and with `localhost` for 127.0.0.1
    and 0.0.0.0. Other parameters stay as they are: they may be tokens that let the call through. A text that
    is no URL comes back as it is.
    """
    try:
        parts = urlsplit(url.strip())
        host = _host(parts)
    except ValueError:
        return url.strip()
    if not parts.scheme or not host:
        return url.strip()
    return _joined(parts, host, _query_without(parts.query, OWN_PARAMETERS))


class StepUrl(msgspec.Struct, frozen=True, gc=False):
    """The URL at which a function is called, ready for the id of a step."""

    prefix: str

    @classmethod
    def prepare(cls, url: str, slug: str) -> StepUrl:
        """From the URL that the function was registered with; its other parameters are kept, its host is
        normalised.

        Raises ValueError if `url` is none.
        """
        parts = urlsplit(url.strip())
        kept = _query_without(parts.query, frozenset(("fnId", "stepId")))
        own = f"fnId={quote(slug, safe='')}&stepId="
        return cls(_joined(parts, _host(parts), f"{kept}&{own}" if kept else own))

    def to(self, step_id: str) -> str:
        """The URL for a step: its hash, or `step` for a discovery."""
        return self.prefix + (step_id if step_id.isalnum() else quote(step_id, safe=""))


def _host(parts: SplitResult) -> str:
    """Credentials, host and port as they are stored. Raises ValueError if the port is none."""
    host = parts.hostname or ""
    if host in _LOCAL:
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    port = parts.port
    if port is not None and port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{port}"
    credentials, at, _ = parts.netloc.rpartition("@")
    return f"{credentials}{at}{host}"


def _query_without(query: str, names: frozenset[str]) -> str:
    """The query without some parameters, the others byte for byte."""
    if not query:
        return ""
    return "&".join(
        part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in names
    )


def _joined(parts: SplitResult, host: str, query: str) -> str:
    return f"{parts.scheme}://{host}{parts.path}{'?' if query else ''}{query}"
