"""Settings of the app, all from the environment. Where Perdure's server is, the SDK reads for itself (PERDURE_URL)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DEFAULT_DATABASE = "sqlite:///.perdure/example/tracker.db"
DEFAULT_MODEL = "gemini-3.8-flash"
DEFAULT_DEMO_URL = "http://127.0.0.1:8301"


class SettingsError(ValueError):
    """A variable has a value that cannot be used. The text names it."""


@dataclass(frozen=True)
class Mail:
    """How mail is sent. `outbox` is the folder of a server that only catches it (`make run`); None if it sends."""

    host: str = "127.0.0.1"
    port: int = 25
    user: str | None = None
    password: str | None = None
    starttls: bool = False
    sender: str = "tracker@example.com"
    outbox: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What the app needs to know. Times are in seconds.

    `model` says who parses: Gemini, or the demo model, which stands in for it where there is no key.
    A call whose event the server has not taken is sent again every `resend_every`, one that no job has begun with every
    `stuck_after`; and one that has been in work for that long is sent again when the app starts.
    """

    database_url: str = DEFAULT_DATABASE
    model: Literal["gemini", "demo"] = "gemini"
    gemini_api_key: str | None = None
    gemini_model: str = DEFAULT_MODEL
    gemini_url: str | None = None
    gemini_timeout: float = 60.0
    send_timeout: float = 2.0
    resend_every: float = 5.0
    stuck_after: float = 60.0
    mail: Mail = Mail()


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment; each variable that is not set has a default.

    Raises SettingsError, which names the variable and what it may be.
    """
    given = os.environ if environ is None else environ
    model = given.get("TRACKER_MODEL") or "gemini"
    if model not in ("gemini", "demo"):
        raise SettingsError(f"TRACKER_MODEL is {model!r}; it may be gemini, which is the default, or demo.")
    demo = model == "demo"
    return Settings(
        database_url=given.get("DATABASE_URL") or DEFAULT_DATABASE,
        model="demo" if demo else "gemini",
        # The demo model asks for no key, and the client for one.
        gemini_api_key="demo" if demo else (given.get("GEMINI_API_KEY", "").strip() or None),
        gemini_model="demo-model" if demo else (given.get("GEMINI_MODEL") or DEFAULT_MODEL),
        gemini_url=(given.get("TRACKER_DEMO_URL") or DEFAULT_DEMO_URL)
        if demo
        else given.get("GEMINI_BASE_URL"),
        gemini_timeout=_seconds(given, "GEMINI_TIMEOUT", 60.0),
        resend_every=_seconds(given, "TRACKER_RESEND_EVERY", 5.0),
        stuck_after=_seconds(given, "TRACKER_STUCK_AFTER", 60.0),
        mail=_mail(given),
    )


def _mail(given: Mapping[str, str]) -> Mail:
    outbox = given.get("TRACKER_OUTBOX")
    return Mail(
        host=given.get("SMTP_HOST") or "127.0.0.1",
        port=int(_seconds(given, "SMTP_PORT", 25)),
        user=given.get("SMTP_USER") or None,
        password=given.get("SMTP_PASSWORD") or None,
        starttls=given.get("SMTP_STARTTLS", "0").lower() in ("1", "true", "yes", "on"),
        sender=given.get("MAIL_FROM") or "tracker@example.com",
        outbox=Path(outbox) if outbox else None,
    )


def _seconds(given: Mapping[str, str], name: str, default: float) -> float:
    text = given.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise SettingsError(f"{name} is {text!r}; it must be a number above 0.")
    return value
