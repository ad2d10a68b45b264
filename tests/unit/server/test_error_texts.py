"""The error of an attempt or of a run in one line, in whatever form it was kept."""

from __future__ import annotations

import msgspec
import pytest

from perdure.server.explaining import error_text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b'{"name":"KeyError","message":"\'tenant\'"}', "KeyError: 'tenant'"),
        (b'{"name":"Error","message":"no luck"}', "no luck"),
        (b'{"message":"no luck"}', "no luck"),
        (b'{"name":"Boom"}', "Boom"),
        (b'{"name":"Error","message":""}', "Error"),
        (b'{"error":{"name":"Boom","message":"no"}}', "Boom: no"),
        (b'{"error":{"error":"Boom: no","name":"Boom","message":"no"}}', "Boom: no"),
        (b'{"error":"no luck","name":"Error"}', "no luck"),
        (b'{"error":"Boom: no","name":"Boom"}', "Boom: no"),
        (b'{"name":"Boom","message":{"a":1}}', "Boom: {'a': 1}"),
        (b'"no luck"', "no luck"),
        (b"[1,2]", "[1,2]"),
        (b"null", "null"),
        (b"{}", "Error"),
        (b"no JSON \xff", "no JSON \ufffd"),
    ],
)
def test_forms(raw: bytes, text: str):
    assert error_text(msgspec.Raw(raw)) == text
