"""Options that the commands share, and what people type into them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import click
import msgspec

from perdure.protocol.durations import parse_duration, parse_time
from perdure.protocol.signing import hash_signing_key
from perdure.terminal.client import Client
from perdure.terminal.connection import Connection

DEFAULT_URL = "http://localhost:8288"

F = TypeVar("F", bound=Callable[..., Any])


class _Kind(NamedTuple):
    """What JSON is asked for: its type, its name, and an example."""

    type: Any
    name: str
    example: str


_OBJECT = _Kind(dict[str, object], "object", '{"name": "Ann"}')
LIMITS = _Kind(dict[str, object], "object", '{"concurrency": 3}')
_LIST = _Kind(list[object], "list", '[42, "x"]')


def server_options(command: F) -> F:
    """Where the server is, its keys, and `--json`. The command gets `client` and `as_json`."""
    decorators = [
        click.option(
            "--url",
            default=DEFAULT_URL,
            envvar="PERDURE_URL",
            show_default=True,
            callback=_url,
            help="Where the server is.  [env: PERDURE_URL]",
        ),
        click.option(
            "--signing-key",
            envvar="PERDURE_SIGNING_KEY",
            callback=_token,
            metavar="KEY",
            help="For a server with keys.  [env: PERDURE_SIGNING_KEY]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs."),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


event_key_option = click.option(
    "--event-key",
    envvar="PERDURE_EVENT_KEY",
    metavar="KEY",
    callback=lambda _, __, text: _first(text),
    help="For a server with event keys.  [env: PERDURE_EVENT_KEY]",
)
data_option = click.option(
    "--data",
    metavar="JSON",
    callback=lambda _, parameter, text: read_json(parameter, text),
    help="A JSON object; @FILE reads it from a file, - from standard input.",
)
user_option = click.option(
    "--user",
    metavar="JSON",
    callback=lambda _, parameter, text: read_json(parameter, text),
    help="The event's user: a JSON object, read like --data.",
)

input_option = click.option(
    "--input",
    "arguments",
    metavar="JSON",
    callback=lambda _, parameter, text: read_json(parameter, text, _LIST),
    help="Other arguments for that step: a JSON list; @FILE reads it from a file, - from standard input.",
)


def make_client(url: str, token: str | None, event_key: str | None = None) -> Client:
    """The client for what was given on the command line."""
    return Client(Connection(url, token), event_key)


def _url(_: click.Context, __: click.Parameter, text: str) -> str:
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or any(char.isspace() for char in url):
        raise click.BadParameter(f"{text[:200]!r} is not a URL like {DEFAULT_URL}.")
    return url.rstrip("/")


def _first(text: str | None) -> str | None:
    """The first of several keys: the variables are those that the server itself reads."""
    first = (text or "").split(",")[0].strip()
    return first or None


def _token(_: click.Context, __: click.Parameter, text: str | None) -> str | None:
    """The bearer token of a signing key: its hash, so that the key itself stays here."""
    key = _first(text)
    if key is None:
        return None
    try:
        return hash_signing_key(key)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_json(parameter: click.Parameter, text: str | None, kind: _Kind = _OBJECT) -> msgspec.Raw | None:
    """JSON of a kind given as text, as `@file` or as `-`. Raises `click.BadParameter` for anything else."""
    if text is None:
        return None
    source = "it"
    try:
        if text == "-":
            source, raw = "standard input", sys.stdin.buffer.read()
        elif text.startswith("@"):
            source, raw = text[1:], Path(text[1:]).read_bytes()
        else:
            raw = text.encode("utf-8", "surrogateescape")
        msgspec.json.decode(raw, type=kind.type)
    except OSError as error:
        raise click.BadParameter(f"{source} cannot be read: {error.strerror or error}.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        hint = f" Write it like '{kind.example}'." if source == "it" else ""
        text = f"{source} is not a JSON {kind.name}: {error}.{hint}"
        raise click.BadParameter(text, param=parameter) from None
    return msgspec.Raw(raw)


def since(_: click.Context, __: click.Parameter, text: str | None) -> Callable[[int], int] | None:
    """A duration before now or a time, as a function from now to the time; both in ms since the epoch."""
    if text is None:
        return None
    for read in (_read_ago, _read_moment):
        try:
            return read(text)
        except ValueError:
            continue
    raise click.BadParameter(
        f"{text[:60]!r} is neither a duration, like 2h or 1d12h, nor a time, like 2027-01-31T09:00:00Z."
    )


def _read_ago(text: str) -> Callable[[int], int]:
    ago = parse_duration(text.removesuffix(" ago").strip())
    return lambda now: max(0, now - abs(ago))


def _read_moment(text: str) -> Callable[[int], int]:
    moment = parse_time(text)
    return lambda _: max(0, moment)
