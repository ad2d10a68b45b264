"""TLS, and other addresses that the library carries: the same contract."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports import HttpTransport
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import Handler, RawServer, Request, Wire, chunked, ok

AUTHORITY = trustme.CA()
"""Made anew for each run of the tests, and trusted by nobody else."""
CERTIFICATE = AUTHORITY.issue_cert("localhost", "127.0.0.1")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trust the authority of these tests."""
    pem = tmp_path / "authority.pem"
    AUTHORITY.cert_pem.write_to_path(str(pem))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))


@pytest_asyncio.fixture
async def serve_tls() -> AsyncIterator[Serve]:
    servers: list[RawServer] = []

    async def start(handler: Handler | bytes) -> RawServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        CERTIFICATE.configure_cert(context)
        server = RawServer(handler, context)
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest_asyncio.fixture
async def trusting() -> AsyncIterator[HttpTransport]:
    made = HttpTransport(tls_verify=False)
    yield made
    await made.close()


@pytest.mark.usefixtures("trusted")
async def test_a_call_over_tls(transport: HttpTransport, serve_tls: Serve) -> None:
    server = await serve_tls(ok(b"[]", "X-A: 1", "x-a: 2", status="206 Partial Content"))
    headers = (("Content-Type", "application/json"), ("Host", "evil"), ("Content-Length", "99"))
    call = Call(url=server.url("/api?fnId=a&stepId=b%20c%2F"), body=b"[1]", headers=headers)
    for _ in range(2):
        end = await transport.request(call)
        assert end == CallAnswer(206, {"content-length": "2", "x-a": "2"}, b"[]", call.url)
    request = server.requests[1]
    assert (request.method, request.target) == ("POST", "/api?fnId=a&stepId=b%20c%2F")
    assert request.body == b"[1]"
    assert request.headers == {
        "host": server.who,
        "content-type": "application/json",
        "user-agent": "Perdure/0.1.0",
        "accept-encoding": "gzip",
        "content-length": "3",
    }
    assert len(server.wires) == 1


async def test_a_certificate_that_nobody_vouches_for(transport: HttpTransport, serve_tls: Serve) -> None:
    server = await serve_tls(ok())
    end = await transport.request(Call(url=server.url("/?token=secret"), body=b"{}"))
    assert isinstance(end, CallFailure)
    assert end.code == "http_unreachable"
    assert end.message.startswith(
        f"The certificate of {server.who} was not accepted: unable to get local issuer"
    )
    assert "secret" not in end.message
    assert server.requests == []


async def test_a_server_that_does_not_speak_tls(trusting: HttpTransport) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    who = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    end = await trusting.request(Call(url=f"https://{who}/?t=secret", body=b"{}"))
    assert isinstance(end, CallFailure)
    assert end.code == "http_unreachable"
    assert end.message.startswith(f"No TLS connection to {who}: ")
    server.close()


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (b"", "http_unreachable", "closed the connection before it answered."),
        (b"SSH-2.0\r\n\r\n", "http_unreachable", "answered with something that is not HTTP."),
        (ok(b"short")[:-1], "http_unreachable", "closed the connection within an unfinished answer."),
        (chunked(b"short")[:-5], "http_unreachable", "within an unfinished answer."),
        (ok(b"not gzip", "Content-Encoding: gzip"), "http_unreachable", "could not be decoded."),
        (ok(b"x", "Content-Encoding: sdch"), "http_unreachable", "encoded as 'sdch'"),
        (ok(gzip.compress(b"x" * 1001, mtime=0), "Content-Encoding: gzip"), "output_too_large", "1000 bytes"),
        (chunked(b"x" * 999, b"xx"), "output_too_large", "1000 bytes"),
        (ok(b"x", "X: " + "y" * 70_000), "http_unreachable", "is not HTTP."),
    ],
)
async def test_broken_answers(
    trusting: HttpTransport, serve_tls: Serve, answer: bytes, code: str, said: str
) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(answer)
        wire.end()

    server = await serve_tls(handler)
    end = await trusting.request(Call(url=server.url("/?token=secret"), body=b"{}", max_answer=1000))
    assert isinstance(end, CallFailure)
    assert (end.code, said in end.message, server.who in end.message) == (code, True, True), end
    assert "secret" not in end.message


async def test_good_answers(trusting: HttpTransport, serve_tls: Serve) -> None:
    answers = [
        (ok(gzip.compress(b"zipped", mtime=0), "Content-Encoding: gzip"), 200, b"zipped"),
        (chunked(b"a", b"b"), 200, b"ab"),
        (b"HTTP/1.1 204 No\r\n\r\n", 204, b""),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" + ok(b"x"), 200, b"x"),
        (ok(b"x" * 1_000_000, status="500 Oh"), 500, b"x" * 1_000_000),
        (ok(b"x", "X: " + "y" * 40_000), 200, b"x"),
    ]
    for answer, status, body in answers:
        server = await serve_tls(answer)
        end = await trusting.request(Call(url=server.url(), body=b"{}"))
        assert isinstance(end, CallAnswer), end
        assert (end.status, end.body) == (status, body)


async def test_a_redirect_to_tls_and_back(trusting: HttpTransport, serve: Serve, serve_tls: Serve) -> None:
    last = await serve(ok(b"last"))
    middle = await serve_tls(ok(b"", f"Location: {last.url('/last')}", status="307 T"))
    first = await serve(ok(b"", f"Location: {middle.url('/middle?m=1')}", status="308 P"))
    end = await trusting.request(Call(url=first.url("/first?f=1"), body=b"[1]", method="PUT"))
    assert end == CallAnswer(200, {"content-length": "4"}, b"last", last.url("/last?f=1"))
    for server, target in ((middle, "/middle?f=1&m=1"), (last, "/last?f=1")):
        [request] = server.requests
        assert (request.method, request.target, request.body) == ("PUT", target, b"[1]")


async def test_nobody_listens(transport: HttpTransport, serve_tls: Serve) -> None:
    server = await serve_tls(ok())
    await server.stop()
    end = await transport.request(Call(url=server.url("/?token=secret"), body=b"{}"))
    assert isinstance(end, CallFailure)
    assert end.message.startswith(f"Nothing listens at {server.who} (connection refused): ")
    end = await transport.request(Call(url="https://no-such-app.invalid/", body=b"{}"))
    assert isinstance(end, CallFailure)
    assert "no-such-app.invalid:443 could not be resolved" in end.message


async def test_a_name_in_the_address_becomes_basic_authorization(
    transport: HttpTransport, serve: Serve
) -> None:
    server = await serve(ok())
    await transport.request(Call(url=f"http://name:pass@{server.who}/x", body=b"{}"))
    assert server.requests[0].headers["authorization"] == "Basic bmFtZTpwYXNz"


def test_the_library_is_not_loaded_before_it_is_needed() -> None:
    code = "import sys, perdure.transports; print('aiohttp' in sys.modules, 'ssl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "False"
