"""A body over its limit is refused while it arrives, and what the server holds of bodies stays bounded."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.fuzz.conftest import MIB, Watched
from tests.integration.fuzz.raw_http import Answer, chunked, request

TOTAL = 100 * MIB
GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
ROUTES = {
    "/e/key": (16 * MIB, b'[{"name":"big/x","data":{"x":"'),
    "/invoke/ghost": (3 * MIB + 64 * 1024, b'{"data":{"x":"'),
    "/fn/register": (16 * MIB, b'{"appName":"x","url":"'),
    "/v1/signals": (4 * MIB, b'{"signal":"x","data":"'),
    f"/v1/checkpoint/{GHOST}/async": (8 * MIB, b'{"steps":[{"id":"'),
    "/v1/checkpoints": (16 * MIB, b'[{"steps":[{"id":"'),
    "/v0/connect/start": (64 * 1024, b"\x0a"),
    "/v0/connect/flush": (16 * MIB, b"\x32"),
}


def endless(start: bytes, piece: int = 256 * 1024) -> Iterator[bytes]:
    """A body of 100 MiB that never becomes valid."""
    yield start
    sent = len(start)
    filler = b"x" * piece
    while sent < TOTAL:
        yield filler
        sent += piece


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: localhost", *lines]).encode()


@pytest.mark.parametrize("way", ["chunked", "length"])
@pytest.mark.parametrize("path", ROUTES)
def test_refusal_comes_early(watched: Watched, path: str, way: str) -> None:
    limit, start = ROUTES[path]
    before = watched.rss()
    if way == "chunked":
        answer = request(
            watched.server.url, head(path, "Transfer-Encoding: chunked"), chunked(endless(start))
        )
    else:
        answer = request(watched.server.url, head(path, f"Content-Length: {TOTAL}"), endless(start))
    assert answer.status == 413, answer.body[:300]
    assert json.loads(answer.body)["status"] == answer.status
    # What is on its way in the buffers of both sockets, some 10 MiB, comes on top.
    assert answer.sent < limit + 20 * MIB, "it did not wait for the rest"
    assert watched.rss() - before < 64 * MIB


def test_too_many_good_events_are_cut(watched: Watched) -> None:
    event = json.dumps({"name": "big/good", "data": {"x": "y" * 100_000}}).encode()

    def body() -> Iterator[bytes]:
        yield b"["
        for _ in range(1000):
            yield event + b","

    answer = request(watched.server.url, head("/e/key", "Transfer-Encoding: chunked"), chunked(body()))
    assert answer.status == 413
    told = json.loads(answer.body)
    assert len(told["ids"]) == 16 * MIB // (len(event) + 1)
    assert answer.sent < 36 * MIB


def test_a_slow_drip_of_good_events_is_taken(watched: Watched) -> None:
    def drip() -> Iterator[bytes]:
        for byte in b'[{"name":"drip/x","data":{"a":"\xc3\xa9"}},{"name":"drip/y"}]':
            time.sleep(0.002)
            yield bytes([byte])

    answer = request(watched.server.url, head("/e/key", "Transfer-Encoding: chunked"), chunked(drip()))
    assert (answer.status, len(json.loads(answer.body)["ids"])) == (200, 2)


def test_many_uploads_at_once_share_a_budget(watched: Watched) -> None:
    """Forty bodies of 15 MiB would be 600 MiB: some are told to come back, and memory is bounded all the while."""
    answers: list[Answer] = []
    peak = [0]
    ended = threading.Event()

    def upload() -> None:
        part = b'{"name":"many/x","data":{"x":"%b"}},' % (b"y" * (2 * MIB))
        pieces = [b"[", *[part] * 7, b"7]"]
        size = sum(map(len, pieces))
        answers.append(
            request(watched.server.url, head("/e/key", f"Content-Length: {size}"), pieces, patience=60)
        )

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], watched.rss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    threads = [threading.Thread(target=upload) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    watcher.join()
    assert len(answers) == 40
    assert {answer.status for answer in answers} <= {400, 503}
    for answer in answers:
        assert (answer.status == 503) == ("retry-after" in answer.headers)
    assert peak[0] < 700 * MIB, f"{peak[0] // MIB} MiB"


@pytest.mark.parametrize("path", ROUTES)
def test_truncated_uploads_leave_nothing(watched: Watched, path: str) -> None:
    start = ROUTES[path][1]
    for size in (0, 1, len(start), len(start) + 200_000):
        piece = (start + b"x" * 200_000)[:size]
        answer = request(watched.server.url, head(path, "Content-Length: 1000000"), [piece], then_close=True)
        assert answer.status in {0, 400, 408, 413}
        broken = [b"%x\r\n" % (len(piece) + 10) + piece]
        answer = request(
            watched.server.url, head(path, "Transfer-Encoding: chunked"), broken, then_close=True
        )
        assert answer.status in {0, 400, 408, 413}
    assert "perdure_body_bytes_held 0" in watched.server.http.get("/metrics").text
