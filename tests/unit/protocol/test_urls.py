"""URLs of apps and of calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.urls import StepUrl, normalize_app_url


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://127.0.0.1:3000/api/inngest", "http://localhost:3000/api/inngest"),
        ("http://0.0.0.0/api", "http://localhost/api"),
        ("http://x:80/a", "http://x/a"),
        ("https://x:443/a", "https://x/a"),
        ("https://x:80/a", "https://x:80/a"),
        ("HTTP://Example.COM:8080/Path", "http://example.com:8080/Path"),
        ("http://x/a?fnId=f&stepId=s&deployId=d&probe=trust", "http://x/a"),
        ("http://x/a?token=a%2Fb+c&fnId=f&x-vercel=1#frag", "http://x/a?token=a%2Fb+c&x-vercel=1"),
        ("http://x/a?fn%49d=f&keep", "http://x/a?keep"),
        ("http://user:pw@127.0.0.1:80/a", "http://user:pw@localhost/a"),
        ("http://[::1]:3000/a", "http://[::1]:3000/a"),
        ("ws://connect?fnId=a&stepId=step", "ws://connect"),
        ("  http://x  ", "http://x"),
        ("", ""),
        ("not a url", "not a url"),
        ("http://x:port/a", "http://x:port/a"),
        ("http://[::1/a", "http://[::1/a"),
    ],
)
def test_urls_are_stored_and_compared_in_one_form(url, normal):
    assert normalize_app_url(url) == normal
    assert normalize_app_url(normal) == normal


@pytest.mark.parametrize(
    ("url", "called"),
    [
        (
            "http://app/api/inngest?fnId=js-zero&stepId=step",
            "http://app/api/inngest?fnId=js-zero&stepId=STEP",
        ),
        ("http://127.0.0.1:80/api", "http://localhost/api?fnId=js-zero&stepId=STEP"),
        (
            "https://x.dev/a?token=a%2Fb&fnId=other&stepId=step&z",
            "https://x.dev/a?token=a%2Fb&z&fnId=js-zero&stepId=STEP",
        ),
        ("ws://connect?fnId=a&stepId=step", "ws://connect?fnId=js-zero&stepId=STEP"),
        ("http://x/a?deployId=7", "http://x/a?deployId=7&fnId=js-zero&stepId=STEP"),
    ],
)
def test_the_url_of_a_call_keeps_the_rest_of_the_query(url, called):
    prepared = StepUrl.prepare(url, "js-zero")
    assert prepared.to("step") == called.replace("STEP", "step")
    digest = "0612bcf5b16a1ec368ef4ebb92d6be2f7040260b"
    assert prepared.to(digest) == called.replace("STEP", digest)


def test_odd_slugs_and_ids_are_escaped():
    assert StepUrl.prepare("http://x", "a b&c").to("s/1&") == "http://x?fnId=a%20b%26c&stepId=s%2F1%26"


def test_a_url_that_is_none_is_refused():
    with pytest.raises(ValueError, match="Invalid IPv6 URL"):
        StepUrl.prepare("http://[::1/a", "f")


@given(st.text(max_size=40))
def test_any_text_has_a_normal_form(text):
    assert isinstance(normalize_app_url(text), str)
    assert isinstance(normalize_app_url("http://" + text), str)
