"""What the mail server of `make run` has caught: it delivers nothing, and keeps each mail in a folder (a Maildir)."""

from __future__ import annotations

import email
import email.policy
from dataclasses import dataclass
from pathlib import Path

NEWEST = 50


@dataclass(frozen=True)
class CaughtMail:
    """One mail, as a page shows it."""

    to: str
    subject: str
    text: str
    caught_at: float


def mails(folder: Path) -> list[CaughtMail]:
    """The newest ones first, at most 50."""
    files = sorted(folder.glob("new/*"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [_read(file) for file in files[:NEWEST]]


def _read(file: Path) -> CaughtMail:
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    body = message.get_body(("plain",))
    text = body.get_content() if body is not None else ""
    return CaughtMail(str(message["To"]), str(message["Subject"]), str(text), file.stat().st_mtime)
