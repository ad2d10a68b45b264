"""What an app answers to a sync, and what a person is told of it."""

from __future__ import annotations

import errno
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.calls import CallAnswer, CallFailure
from perdure.protocol.problems import Problem
from perdure.protocol.registration import RegistrationError
from perdure.protocol.syncs import SyncOutcome, interpret_sync_answer
from perdure.transports.http_connect import describe_connect_error

URL = "http://localhost:3000/api/inngest"
SDK = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-framework": "express"}


def outcome(status, body, headers=SDK, url=URL):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return interpret_sync_answer(CallAnswer(status, headers, raw, URL), url)


def test_an_app_that_registered_by_a_request_of_its_own():
    got = outcome(200, {"message": "Successfully registered", "modified": True})
    assert got == SyncOutcome(sdk="inngest-js:v4.24.0", framework="express")
    python = {"ok": True, "modified": False, "sync_id": "s", "app_id": "a"}
    assert outcome(200, python, {**SDK, "x-inngest-sync-kind": "out_of_band"}).error == ""
    assert outcome(200, b"").kind == "out_of_band"


def test_an_app_that_registers_in_its_answer():
    got = outcome(200, b'{"app_id":"x"}', {**SDK, "x-inngest-sync-kind": "in_band"})
    assert (got.kind, got.body, got.error) == ("in_band", b'{"app_id":"x"}', "")


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("connection refused", "cannot be reached: connection refused. Start the app"),
        ("connection refused.", "cannot be reached: connection refused. Start the app"),
        ("is the app running?", "cannot be reached: is the app running? Start the app"),
        ("is the app running?.", "cannot be reached: is the app running? Start the app"),
    ],
)
def test_an_app_that_cannot_be_reached_is_told_of_in_whole_sentences(why, told):
    got = interpret_sync_answer(CallFailure("unreachable", why), URL)
    assert got.error == "unreachable"
    assert told in got.message


def test_a_javascript_app_hides_that_it_was_refused():
    got = outcome(200, {"message": "Expected server kind dev, got cloud", "modified": False})
    assert (got.error, got.refused) == ("", "Expected server kind dev, got cloud")
    assert outcome(200, {"message": "Successfully registered", "modified": False}).refused == ""


@pytest.mark.parametrize(
    ("status", "body", "error", "told"),
    [
        (400, {"code": "invalid_signing_key"}, "invalid_signing_key", "another signing key"),
        (400, {"message": "no_functions"}, "no_functions", "serves no functions"),
        (400, {"code": "missing_signing_key", "message": "why"}, "missing_signing_key", "It said: why"),
        (400, {"code": "server_kind_mismatch", "message": "x"}, "server_kind_mismatch", "INNGEST_DEV"),
        (400, {"message": "something else"}, "something else", "It said: something else"),
        (400, {"error": "At least one function is invalid"}, "At least one function is invalid", "HTTP 400"),
        (400, b"raw text", "raw text", "It said: raw text"),
        (400, b"", "bad_request", "HTTP 400"),
        (401, {"message": "Unauthorized"}, "unauthorized", "signing keys"),
        (403, b"", "forbidden", "let the server through"),
        (404, b"<html>", "url_not_found", "/api/inngest"),
        (500, {"message": "boom"}, "internal_server_error", "the app's own log. It said: boom"),
        (502, b"bad gateway", "http_502", "It said: bad gateway"),
    ],
)
def test_an_app_that_refuses(status, body, error, told):
    got = outcome(status, body)
    assert got.error == error
    assert told in got.message
    assert got.message.startswith(URL)


def test_something_that_is_no_app():
    got = outcome(200, b"<html>", {})
    assert got.error == "not_sdk"
    assert "serve handler" in got.message


def test_each_problem_of_a_refusal_is_told_once():
    """A server that lists them in its text, as this one does, and one that does not."""
    problems = tuple(Problem(slug, "x", "1", "no such limit", "config_invalid") for slug in ("f", "g"))
    invalid = RegistrationError("At least one function is invalid", None, problems)
    data = msgspec.to_builtins(problems)
    lines = "\n- f: no such limit\n- g: no such limit"
    assert outcome(200, {"error": str(invalid), "data": data}).refused == f"{invalid}"
    assert str(invalid) == f"At least one function is invalid:{lines}"
    assert outcome(200, {"error": "It is invalid", "data": data}).refused == f"It is invalid{lines}"


def test_what_to_do_is_said_once():
    why = describe_connect_error(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "localhost:8077")
    got = interpret_sync_answer(CallFailure("http_unreachable", why), URL)
    assert got.message == (
        f"{URL} cannot be reached: Nothing listens at localhost:8077 (connection refused)."
        " Start the app, or correct its URL."
    )


@pytest.mark.parametrize("code", ["http_unreachable", "timeout", "too_many_redirects"])
def test_an_app_that_does_not_answer(code):
    got = interpret_sync_answer(CallFailure(code, "connection refused."), URL)
    assert got.error == "unreachable"
    assert got.message == (f"{URL} cannot be reached: connection refused. Start the app, or correct its URL.")


def test_an_answer_that_is_too_large():
    got = interpret_sync_answer(CallFailure("output_too_large", "more than 8 MiB"), URL)
    assert got.error == "output_too_large"


@pytest.mark.parametrize("url", ["ftp://x/a", "localhost:3000", "x", "http//x", "http://[::1"])
def test_a_url_that_cannot_be_called(url):
    got = interpret_sync_answer(CallFailure("http_unreachable", "no"), url)
    assert got.error == "unsupported_protocol"
    assert url in got.message


@given(
    status=st.integers(0, 999),
    body=st.binary(max_size=100),
    headers=st.dictionaries(st.sampled_from([*SDK, "x-inngest-sync-kind"]), st.text(max_size=10)),
    url=st.text(max_size=20),
)
def test_nothing_raises_and_every_error_has_a_sentence(status, body, headers, url):
    got = interpret_sync_answer(CallAnswer(status, headers, body), url)
    assert bool(got.error) == bool(got.message)
