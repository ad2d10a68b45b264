"""The second job: an email through a real SMTP server."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import pytest

import perdure
from examples.opportunity_tracker.mail import send_mail
from examples.opportunity_tracker.settings import Mail
from tests.example.conftest import Gemini, Mailbox, Running
from tests.sdk.driver import Server, free_port, until

Smtp = tuple[Mailbox, int]


@pytest.fixture
def mailbox(smtp: Smtp) -> Mailbox:
    smtp[0].envelopes.clear()
    smtp[0].refusal = None
    return smtp[0]


def read(envelope: Any) -> Any:
    return email.message_from_bytes(envelope.content, policy=email.policy.default)


async def test_what_arrives(mailbox: Mailbox, smtp: Smtp) -> None:
    mail = Mail(port=smtp[1], sender="tracker@example.com")
    assert await send_mail(mail, "to@example.com", "Grüße", "Zeile 1\nZeile 2\n", "run-1") == "taken"
    (envelope,) = mailbox.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("tracker@example.com", ["to@example.com"])
    message = read(envelope)
    assert (message["Subject"], message["To"], message["Message-ID"]) == (
        "Grüße", "to@example.com", "<run-1@example.com>",
    )  # fmt: skip
    assert message.get_content().splitlines() == ["Zeile 1", "Zeile 2"]


async def test_an_address_that_is_refused_is_not_tried_again(mailbox: Mailbox, smtp: Smtp) -> None:
    mailbox.refusal = "550 no such user"
    with pytest.raises(perdure.NonRetriableError, match=r"refused the address .*550 no such user"):
        await send_mail(Mail(port=smtp[1]), "nobody@example.com", "a", "b", "run-1")


async def test_an_address_that_is_refused_for_now_is_tried_again(mailbox: Mailbox, smtp: Smtp) -> None:
    mailbox.refusal = "450 greylisted"
    with pytest.raises(Exception, match="greylisted") as caught:
        await send_mail(Mail(port=smtp[1]), "somebody@example.com", "a", "b", "run-1")
    assert not isinstance(caught.value, perdure.NonRetriableError)


async def test_a_mail_server_that_is_down_is_tried_again() -> None:
    with pytest.raises(Exception, match="connect") as caught:
        await send_mail(Mail(port=free_port()), "somebody@example.com", "a", "b", "run-1")
    assert not isinstance(caught.value, perdure.NonRetriableError)


async def test_a_login_where_none_is_offered(mailbox: Mailbox, smtp: Smtp) -> None:
    with pytest.raises(Exception, match="AUTH"):
        await send_mail(Mail(port=smtp[1], user="me", password="secret"), "a@example.com", "a", "b", "run-1")
    assert mailbox.envelopes == []


@pytest.mark.parametrize("subject", ["two\nlines", "a\r\nBcc: everybody@example.com"])
async def test_no_header_can_be_smuggled_in(mailbox: Mailbox, smtp: Smtp, subject: str) -> None:
    with pytest.raises(perdure.NonRetriableError, match="cannot be sent"):
        await send_mail(Mail(port=smtp[1]), "somebody@example.com", subject, "b", "run-1")
    assert mailbox.envelopes == []


def test_an_event_sends_one(server: Server, app: Running, mailbox: Mailbox) -> None:
    data = {"to": "to@example.com", "subject": "Hello", "body": "Good morning."}
    (event_id,) = server.send({"name": "email/send", "data": data})
    run = server.ended(until("a run", lambda: server.runs(event_id))[0]["run_id"])
    assert (run["status"], run["output"]) == ("Completed", "taken")
    message = read(mailbox.envelopes[0])
    assert message["Subject"] == "Hello"
    assert message["Message-ID"] == f"<{run['run_id']}@example.com>"


def test_an_event_without_an_address_fails_and_says_so(
    server: Server, app: Running, mailbox: Mailbox
) -> None:
    (event_id,) = server.send({"name": "email/send", "data": {"subject": "Hello", "body": "x"}})
    run = server.ended(until("a run", lambda: server.runs(event_id))[0]["run_id"])
    assert run["status"] == "Failed"
    assert "to" in run["output"]["message"]


def test_the_summary_of_a_call_from_its_page(app: Running, mailbox: Mailbox, fresh_gemini: Gemini) -> None:
    call_id = app.upload(title="Discovery", opportunity="Mailed")
    app.settled(call_id, "completed")
    answer = app.http.post(
        f"/calls/{call_id}/email", data={"to": " boss@example.com "}, follow_redirects=True
    )
    assert "The email is on its way" in answer.text
    until("the mail", lambda: mailbox.envelopes)
    message = read(mailbox.envelopes[0])
    assert (message["To"], message["Subject"]) == ("boss@example.com", "Mailed: Discovery")
    text = message.get_content()
    for part in ("Sentiment: positive", "Budget: 12,000 dollars a year", "- Deliveries are logged by hand."):
        assert part in text


@pytest.mark.parametrize("to", ["", "nobody", "a@b, c@d", "a@b\nc@d"])
def test_a_bad_address_comes_back_with_the_field(app: Running, fresh_gemini: Gemini, to: str) -> None:
    call_id = app.upload()
    app.settled(call_id, "completed")
    answer = app.http.post(f"/calls/{call_id}/email", data={"to": to})
    assert answer.status_code == 422
    assert "Please give one email address" in answer.text
