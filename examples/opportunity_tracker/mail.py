"""Sending one email through SMTP."""

from __future__ import annotations

from email.message import EmailMessage

import aiosmtplib

import perdure
from examples.opportunity_tracker.settings import Mail

SMTP_SECONDS = 20


async def send_mail(mail: Mail, to: str, subject: str, body: str, message_id: str) -> str:
    """Send it; what the SMTP server said.

    A step may run twice if its answer was lost. Both mails then have the same `message_id`, by which mail programs
    show one of them. Raises NonRetriableError for what no other try can mend: an address that is refused, or a login.
    """
    message = EmailMessage()
    try:
        message["From"], message["To"], message["Subject"] = mail.sender, to, subject
    except ValueError as error:
        raise perdure.NonRetriableError(f"This email cannot be sent: {error}.") from error
    message["Message-ID"] = f"<{message_id}@{mail.sender.rpartition('@')[2]}>"
    message.set_content(body)
    try:
        _, answer = await aiosmtplib.send(
            message, hostname=mail.host, port=mail.port, username=mail.user, password=mail.password,
            start_tls=mail.starttls, timeout=SMTP_SECONDS,
        )  # fmt: skip
    except aiosmtplib.SMTPAuthenticationError as error:
        raise perdure.NonRetriableError(
            f"{mail.host} refused the login ({error.code} {error.message}). Correct SMTP_USER and SMTP_PASSWORD."
        ) from error
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = "; ".join(f"{one.recipient}: {one.code} {one.message}" for one in error.recipients)
        if any(one.code < 500 for one in error.recipients):
            raise
        raise perdure.NonRetriableError(f"{mail.host} refused the address ({refused}).") from error
    return answer
