"""Where the server is and how to prove who speaks: settings from arguments and the environment.

Each variable has two names: `PERDURE_…`, and the `INNGEST_…` that the official SDKs read; the first wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from perdure.errors import ConfigError
from perdure.protocol.signing import hash_signing_key

DEFAULT_URL = "http://localhost:8288"
NO_EVENT_KEY = "NO_EVENT_KEY_SET"
_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


class Settings(msgspec.Struct, frozen=True):
    """What an app knows of its server.

    `api_url` and `event_url` are origins without a slash at the end; `has_server` says that somebody gave an
    address. `database` is a `sqlite:///` URL in place of one: the engine is to run in the app. `dev` says that
    calls are taken unsigned; else each must carry a signature by one of `signing_keys`, the newest first.
    """

    api_url: str
    event_url: str
    event_key: str | None
    signing_keys: tuple[str, ...]
    env: str | None
    dev: bool
    serve_origin: str | None = None
    serve_path: str | None = None
    in_band_sync: bool = True
    database: str | None = None
    has_server: bool = False
    max_worker_concurrency: int | None = None
    gateway_url: str | None = None

    def bearers(self) -> tuple[str | None, ...]:
        """The bearer tokens to try one after the other; one None without a key."""
        return tuple(hash_signing_key(key) for key in self.signing_keys) or (None,)


def read_settings(
    *,
    url: str | None = None,
    event_key: str | None = None,
    signing_key: str | None = None,
    signing_key_fallback: str | None = None,
    env: str | None = None,
    dev: bool | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from arguments, else from the environment, else for a server at localhost:8288.

    Without a signing key the app is in dev mode; with one it is not, unless PERDURE_DEV=1. Raises
    ConfigError if a key has the wrong form, or is missing while PERDURE_DEV=0.
    """
    environ = os.environ if environ is None else environ

    def text(name: str) -> str | None:
        return environ.get(f"PERDURE_{name}") or environ.get(f"INNGEST_{name}") or None

    dev_text = text("DEV")
    dev_url = dev_text if dev_text and "://" in dev_text else None
    base = url or environ.get("PERDURE_URL") or environ.get("INNGEST_BASE_URL") or dev_url
    database = base if base and base.startswith("sqlite:") else None
    if database is not None:
        url = base = None
    keys = [signing_key or text("SIGNING_KEY"), signing_key_fallback or text("SIGNING_KEY_FALLBACK")]
    kept = tuple(key for key in keys if key)
    for key in kept:
        _check(key)
    in_dev = _dev(dev, dev_text, kept)
    return Settings(
        api_url=_origin(url or text("API_BASE_URL") or base or DEFAULT_URL),
        event_url=_origin(url or text("EVENT_API_BASE_URL") or base or DEFAULT_URL),
        event_key=event_key or text("EVENT_KEY"),
        signing_keys=kept,
        env=env or text("ENV"),
        dev=in_dev,
        serve_origin=text("SERVE_ORIGIN") or text("SERVE_HOST"),
        serve_path=text("SERVE_PATH"),
        database=database,
        has_server=base is not None,
        in_band_sync=(text("ALLOW_IN_BAND_SYNC") or "1").lower() not in _FALSE,
        max_worker_concurrency=_count(text("CONNECT_MAX_WORKER_CONCURRENCY")),
        gateway_url=text("CONNECT_GATEWAY_URL"),
    )


def _dev(given: bool | None, text: str | None, keys: tuple[str, ...]) -> bool:
    if given is None and text is not None:
        given = text.lower() not in _FALSE if text.lower() in _TRUE | _FALSE else "://" in text
    if given is False and not keys:
        raise ConfigError(
            "PERDURE_DEV is 0 but there is no signing key, so anybody could call the app's functions. "
            "Set PERDURE_SIGNING_KEY to the server's key."
        )
    return not keys if given is None else given


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            f"PERDURE_CONNECT_MAX_WORKER_CONCURRENCY is {text!r}; give the number of calls that this worker may have "
            "at once, or leave it out."
        )
    return int(text)


def _check(key: str) -> None:
    try:
        hash_signing_key(key)
    except ValueError as error:
        raise ConfigError(f"PERDURE_SIGNING_KEY or its fallback cannot be used. {error}") from None


def _origin(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"The server's address {url!r} must begin with http:// or https://; or with sqlite:/// if the engine is "
            "to run in the app (run_embedded)."
        )
    return url.rstrip("/")
