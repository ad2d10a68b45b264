"""What can keep a worker from its connection, in words that say what to do."""

from __future__ import annotations

AUTHENTICATION_FAILED = "connect_authentication_failed"
FINAL_CODES = frozenset(
    (
        AUTHENTICATION_FAILED,
        "connect_worker_hello_invalid_payload",
        "connect_too_many_apps_per_connection",
        "connect_invalid_function_config",
    )
)
"""Reasons for which a gateway closes a connection and that no second try can mend."""


class Setback(Exception):
    """A connection could not be made. If it is `final`, trying again will not help.

    `group` is the group of gateways that failed, if the server had named one.
    """

    def __init__(self, message: str, *, final: bool = False, group: str = "") -> None:
        super().__init__(message)
        self.final = final
        self.group = group


def unreachable(url: str, error: BaseException) -> Setback:
    """The server does not answer."""
    return Setback(
        f"The server at {url} cannot be reached ({error or type(error).__name__}). Is it running there? PERDURE_URL "
        "says where it is; in development `perdure dev` starts one."
    )


def refused_start(url: str, status: int, text: str, has_key: bool) -> Setback:
    """The server has answered the question for a gateway with something else than a gateway."""
    if status in {401, 403}:
        mend = "Compare" if has_key else "Set"
        return Setback(
            f"The server at {url} refused the worker's signing key. {mend} PERDURE_SIGNING_KEY.", final=True
        )
    if status == 404:
        return Setback(
            f"The server at {url} has no Connect gateway (HTTP 404 for /v0/connect/start). Is PERDURE_URL the address "
            "of the server, and not of an app? An older server may have none: serve the app over HTTP instead, "
            "`app.mount(...)`.",
            final=True,
        )
    if status == 429:
        return Setback(f"The server at {url} has as many connections as it takes: {text}")
    return Setback(f"The server at {url} gave no gateway (HTTP {status}): {text}")


def refused_worker(endpoint: str, code: str, message: str, group: str) -> Setback:
    """The gateway does not take the worker. `code` is the protocol's word for the reason."""
    if code == AUTHENTICATION_FAILED:
        text = "it does not know the worker's signing key. Compare PERDURE_SIGNING_KEY with the server's"
    else:
        text = (
            ": ".join(part for part in (code, message) if part) or "it closed the connection without a reason"
        )
    return Setback(
        f"The gateway {endpoint} refused the worker: {text}.", final=code in FINAL_CODES, group=group
    )
