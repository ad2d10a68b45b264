"""The command line: `perdure dev`, and commands that talk to a running server."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import click

from perdure import __version__
from perdure.config import ServerConfig
from perdure.errors import ConfigError, PerdureError

log = logging.getLogger("perdure")
_COMMAS = "May be given several times, or with commas."
_PORT = click.IntRange(0, 65535)


_TERMINAL = {
    "send": "commands",
    "invoke": "commands",
    "runs": "commands",
    "run": "commands",
    "why": "why",
    "export": "exporting",
    "cancel": "bulk",
    "rerun": "commands",
    "replay": "bulk",
    "jobs": "jobs",
    "functions": "commands",
    "clock": "clock",
    "pause": "operating",
    "resume": "operating",
    "limits": "operating",
}
"""Commands of `perdure.terminal` and where they are, loaded when one of them is asked for: the server needs none."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_TERMINAL]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _TERMINAL:
            return super().get_command(ctx, cmd_name)
        module = importlib.import_module(f"perdure.terminal.{_TERMINAL[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="perdure")
def main() -> None:
    """Perdure: durable background work for ordinary web apps."""


def _text_list(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Values separated by commas. An empty one is refused: a key that is not set must not open the server."""
    parts = tuple(part.strip() for value in values for part in value.split(",") if part.strip())
    if values and not parts:
        raise click.BadParameter("it is empty; leave the option out, or give it a value.")
    return parts


@main.command(
    hidden=True,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
def start() -> None:
    """The reference server's self-hosted mode, which is not here yet."""
    click.echo(
        "perdure: 'perdure start' is not part of this version. To run with keys, as in production, use:\n"
        "  perdure dev --signing-key KEY --event-key KEY",
        err=True,
    )
    sys.exit(2)


@main.command()
@click.option(
    "-u",
    "--sdk-url",
    "urls",
    multiple=True,
    metavar="URL",
    help="URL of an app to sync. May be given several times.",
)
@click.option(
    "-p",
    "--port",
    default=8288,
    type=_PORT,
    show_default=True,
    help="Port of the API and the event endpoint; 0 for any that is free.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".perdure"),
    show_default=True,
    help="Where the database is kept.",
)
@click.option("--no-discovery", is_flag=True, help="Do not look for apps on the usual local ports.")
@click.option("--no-poll", is_flag=True, help="Do not sync known apps again and again.")
@click.option("--poll-interval", default=5, show_default=True, metavar="SECONDS", help="Time between syncs.")
@click.option(
    "--retry-interval",
    type=int,
    metavar="SECONDS",
    help="Wait so long before each retry, instead of the backoff table.",
)
@click.option(
    "--retries",
    "default_retries",
    default=3,
    show_default=True,
    envvar="PERDURE_RETRIES",
    help="Retries of functions that name none.",
)
@click.option(
    "--lookback",
    default=0,
    show_default=True,
    metavar="SECONDS",
    envvar="PERDURE_LOOKBACK",
    help="Waits for events also see those of so many seconds before.",
)
@click.option(
    "--signing-key",
    "signing_keys",
    multiple=True,
    callback=_text_list,
    envvar="PERDURE_SIGNING_KEY",
    help=f"Sign calls, and ask for it as a bearer token. The first one signs. {_COMMAS}",
)
@click.option(
    "--event-key",
    "event_keys",
    multiple=True,
    callback=_text_list,
    envvar="PERDURE_EVENT_KEY",
    help=f"Take events under this key only. {_COMMAS}",
)
@click.option("--no-open", is_flag=True, help="Do not open a browser. (This version opens none in any case.)")
@click.option(
    "--log-level",
    default="info",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="How much to log.",
)
@click.option("--tick", default=150, hidden=True)
@click.option("--queue-workers", default=100, hidden=True)
@click.option("--persist", is_flag=True, hidden=True)
@click.option("--config", "config_file", type=str, hidden=True)
@click.option(
    "--connect-gateway-port",
    "connect_port",
    type=_PORT,
    metavar="PORT",
    help="Port for workers that connect, besides --port.  [default: the one above --port]",
)
@click.option(
    "--connect-lease",
    default=120,
    show_default=True,
    metavar="SECONDS",
    help="Give up a call of a worker that has shown no sign of life for so long.",
)
@click.option("--connect-gateway-grpc-port", default=50052, type=_PORT, hidden=True)
@click.option("--connect-executor-grpc-port", default=50053, type=_PORT, hidden=True)
def dev(
    urls: tuple[str, ...],
    port: int,
    host: str,
    data_dir: Path,
    no_discovery: bool,
    no_poll: bool,
    poll_interval: int,
    retry_interval: int | None,
    default_retries: int,
    lookback: int,
    signing_keys: tuple[str, ...],
    event_keys: tuple[str, ...],
    log_level: str,
    tick: int,
    queue_workers: int,
    connect_port: int | None,
    connect_lease: int,
    config_file: str | None,
    **_: object,
) -> None:
    """Run the server for development: it finds your apps, and keeps its history in --data-dir."""
    config = ServerConfig(
        "dev",
        host,
        port,
        urls,
        data_dir,
        not no_discovery,
        not no_poll,
        poll_interval,
        retry_interval,
        default_retries,
        event_keys,
        signing_keys,
        tick,
        queue_workers,
        lookback,
        connect_port,
        connect_lease,
    )
    logging.basicConfig(
        level=log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
    )
    if config_file is not None:
        log.warning(
            "--config %s is not read: this version takes its settings from the command line", config_file
        )
    try:
        _check(config)
        _warn(config)
        _serve(config)
    except PerdureError as error:
        click.echo(f"perdure: {error}", err=True)
        sys.exit(1)


def _check(config: ServerConfig) -> None:
    """Raises `ConfigError` for settings that cannot work."""
    from perdure.protocol.signing import valid_signing_key

    if config.poll_interval < 1:
        raise ConfigError(f"--poll-interval is {config.poll_interval}; it must be at least 1 second.")
    if config.retry_interval is not None and config.retry_interval < 1:
        raise ConfigError(f"--retry-interval is {config.retry_interval}; it must be at least 1 second.")
    if not 0 <= config.lookback <= 86_400:
        raise ConfigError(f"--lookback is {config.lookback}; it must be from 0 to 86400 seconds.")
    if not 1 <= config.connect_lease <= 86_400:
        raise ConfigError(f"--connect-lease is {config.connect_lease}; it must be from 1 to 86400 seconds.")
    if not 0 <= config.default_retries <= 20:
        raise ConfigError(f"--retries is {config.default_retries}; it must be from 0 to 20.")
    for key in config.signing_keys:
        if not valid_signing_key(key):
            raise ConfigError(
                "a --signing-key is not a key: it must be hexadecimal digits (an even number), with or without "
                "a prefix like signkey-test-. Make one with: openssl rand -hex 32"
            )
    if not config.host:
        raise ConfigError("--host is empty; it must be an address, such as 127.0.0.1, or 0.0.0.0 for all.")
    for url in config.urls:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"-u {url} is not a URL; it must start with http:// or https://.")


def _warn(config: ServerConfig) -> None:
    """Say so when the network can do what only the keys should allow."""
    if config.host in ("localhost", "::1") or config.host.startswith("127."):
        return
    missing = []
    if not config.signing_keys:
        missing.append("no --signing-key is set: whoever reaches this address can read and cancel runs")
    if not config.event_keys:
        missing.append("no --event-key is set: whoever reaches this address can send events")
    if missing:
        log.warning("listening on %s, and %s", config.host, "; ".join(missing))


def _serve(config: ServerConfig) -> None:
    from perdure.serving import serve

    code = serve(config)
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
