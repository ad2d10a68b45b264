"""Redirects are followed with everything the call had."""

from __future__ import annotations

import pytest

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports import HttpTransport
from perdure.transports.http_request import follow
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import Request, Wire, ok


def to(location: str, status: int = 307) -> bytes:
    return ok(b"elsewhere", f"Location: {location}", status=f"{status} Redirect")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_method_body_headers_and_query_are_kept(
    transport: HttpTransport, serve: Serve, status: int
) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(to("/new/?x=1", status) if request.target.startswith("/old") else ok(b"there"))

    server = await serve(handler)
    headers = (("X-Inngest-Signature", "t=1&s=2"), ("Authorization", "Bearer b"))
    url = server.url("/old?fnId=a&stepId=step")
    end = await transport.request(Call(url=url, body=b"[1]", method="PUT", headers=headers))
    assert isinstance(end, CallAnswer)
    assert (end.status, end.body) == (200, b"there")
    assert end.url == server.url("/new/?fnId=a&stepId=step&x=1")
    old, new = server.requests
    assert new.target == "/new/?fnId=a&stepId=step&x=1"
    assert (new.method, new.body, new.headers) == (old.method, old.body, old.headers)
    assert len(server.wires) == 1


async def test_to_another_host(transport: HttpTransport, serve: Serve) -> None:
    other = await serve(ok(b"other"))
    server = await serve(to(other.url("/there")))
    end = await transport.request(Call(url=server.url("/here?a=b"), body=b"{}"))
    assert isinstance(end, CallAnswer)
    assert (end.body, end.url) == (b"other", other.url("/there?a=b"))
    assert other.requests[0].headers["host"] == other.who


@pytest.mark.parametrize("count", [60, 61])
async def test_sixty_are_followed(transport: HttpTransport, serve: Serve, count: int) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(to(f"/{len(server.requests)}") if len(server.requests) <= count else ok())

    server = await serve(handler)
    end = await transport.request(Call(url=server.url(), body=b"{}"))
    if count == 60:
        assert isinstance(end, CallAnswer)
        assert end.url == server.url("/60")
    else:
        message = f"{server.who} redirected for the 61st time; 60 redirects are followed."
        assert end == CallFailure("too_many_redirects", message)
    assert len(server.requests) == 61
    assert len(server.wires) == 1


async def test_the_time_counts_for_all_of_them(transport: HttpTransport, serve: Serve) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(b"", to("/again"), gap=0.01)

    server = await serve(handler)
    end = await transport.request(Call(url=server.url(), body=b"{}", timeout=0.3))
    assert isinstance(end, CallFailure)
    assert (end.code, 1 < len(server.requests) < 32) == ("timeout", True)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("ftp://files/secret", "redirects to ftp:, and only http and https are followed."),
        ("file:///etc/passwd", "redirects to file:, and only http and https are followed."),
        ("javascript:alert(1)", "redirects to javascript:, and only http"),
        ("http://[::1/", "redirects to an address that cannot be understood."),
        ("http://host:secret/", "redirects to an address that cannot be understood."),
        ("https:///x", "redirects to an address without a host."),
    ],
)
async def test_places_that_are_not_gone_to(
    transport: HttpTransport, serve: Serve, location: str, said: str
) -> None:
    server = await serve(to(location))
    end = await transport.request(Call(url=server.url(), body=b"{}"))
    assert isinstance(end, CallFailure)
    assert (end.code, said in end.message) == ("http_unreachable", True), end
    assert server.who in end.message
    assert "secret" not in end.message


@pytest.mark.parametrize(
    ("first", "current", "location", "result"),
    [
        ("http://a/x?q=1", "http://a/x?q=1", "/y", "http://a/y?q=1"),
        ("http://a/x?q=1", "http://a/x?q=1", "y", "http://a/y?q=1"),
        ("http://a/x/z?q=1", "http://a/x/z?q=1", "../y", "http://a/y?q=1"),
        ("http://a/x?q=1", "http://a/x?q=1", "?r=2", "http://a/x?q=1&r=2"),
        ("http://a/x?q=1", "http://a/x?q=1", "/y?q=9&r=2", "http://a/y?q=1&r=2"),
        ("http://a/x?q=1&q=2", "http://a/x", "/y?q=9", "http://a/y?q=1&q=2"),
        ("http://a/x?q=a%2Fb", "http://a/x", "/y?r=%20", "http://a/y?q=a%2Fb&r=%20"),
        ("http://a/x", "http://a/x", "/y?r=2#frag", "http://a/y?r=2"),
        ("http://a/x", "http://a/x", "//b:8/y", "http://b:8/y"),
        ("http://a/x", "https://b/x", "//c", "https://c/"),
        ("http://a/x", "http://a/x", "HTTPS://B/y", "https://B/y"),
        ("http://a/x", "http://a/x?", " /y ", "http://a/y"),
    ],
)
def test_where_a_redirect_leads(first: str, current: str, location: str, result: str) -> None:
    assert follow(first, current, location) == result
