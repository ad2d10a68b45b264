"""The demo model: a local server that speaks as much of the Gemini API as Google's client needs for this app.

    python -m examples.opportunity_tracker.demo_model --port 8301

It stands in for Gemini where there is no key, so that a first job succeeds without an account. Its answers come from
extraction.py. A line of a transcript can ask it to misbehave, to see what becomes of a job:

    [demo: slow 20]      answer after 20 seconds
    [demo: fail 2]       answer twice with HTTP 503 before the real answer
    [demo: quota 1]      answer once with HTTP 429, which says to come back in a second
    [demo: malformed 1]  answer once with broken JSON
    [demo: refuse 1]     refuse once, as Gemini refuses what it takes for unsafe

Without a number `slow` takes 10 seconds, and the others go on for ever. Counts begin anew after a real answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from examples.opportunity_tracker.extraction import summarise

DEFAULT_PORT = 8301
DIRECTIVE = re.compile(r"^\s*\[demo: (slow|fail|quota|malformed|refuse)(?: (\d+))?\]\s*$", re.MULTILINE)
PATH = re.compile(r"/v1(?:alpha|beta)?/models/([\w.-]+):generateContent(?:\?.*)?")
DEFAULT_SLOW_SECONDS = 10


class Answer(NamedTuple):
    """A status and a JSON body."""

    status: int
    body: dict[str, Any]


class DemoModel:
    """Answers to requests. It remembers how often each transcript was asked about since its last real answer."""

    def __init__(self) -> None:
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> Answer:
        """What `generateContent` answers to a body."""
        try:
            transcript = "\n".join(part["text"] for content in body["contents"] for part in content["parts"])
        except (KeyError, TypeError):
            return error(400, "INVALID_ARGUMENT", "contents must be a list of contents with parts of text")
        wanted = dict(DIRECTIVE.findall(transcript))
        if "slow" in wanted:
            time.sleep(int(wanted["slow"] or DEFAULT_SLOW_SECONDS))
        for kind in ("fail", "quota", "malformed", "refuse"):
            if kind in wanted and self._misbehaves(kind, wanted[kind], transcript):
                return MISBEHAVING[kind]
        with self._lock:
            for kind in wanted:
                del self._asked[kind, transcript]
        return content(summarise(DIRECTIVE.sub("", transcript)).model_dump_json())

    def _misbehaves(self, kind: str, times: str, transcript: str) -> bool:
        with self._lock:
            self._asked[kind, transcript] += 1
            return not times or self._asked[kind, transcript] <= int(times)


def content(text: str) -> Answer:
    """An answer with one candidate of this text."""
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}
    return Answer(200, {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "demo-model"})


def error(code: int, status: str, message: str, *details: dict[str, Any]) -> Answer:
    """An error as Google's APIs tell it."""
    return Answer(
        code, {"error": {"code": code, "status": status, "message": message, "details": list(details)}}
    )


MISBEHAVING = {
    "fail": error(503, "UNAVAILABLE", "The demo model was asked to fail by a line of the transcript"),
    "quota": error(
        429,
        "RESOURCE_EXHAUSTED",
        "The demo model was asked to be out of quota by a line of the transcript",
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"},
    ),
    "malformed": content('{"participants": [{"name": "Buyer", "ro'),
    "refuse": Answer(200, {"promptFeedback": {"blockReason": "SAFETY"}, "modelVersion": "demo-model"}),
}


class Handler(BaseHTTPRequestHandler):
    """Reads a request and writes the answer."""

    protocol_version = "HTTP/1.1"
    model: DemoModel

    def do_POST(self) -> None:
        """Any POST."""
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if PATH.fullmatch(self.path) is None:
            self._write(error(404, "NOT_FOUND", f"{self.path} is not served by the demo model"))
            return
        try:
            body = json.loads(raw)
        except ValueError:
            self._write(error(400, "INVALID_ARGUMENT", "the body is no JSON"))
            return
        self._write(self.model.answer(body))

    def do_GET(self) -> None:
        """To see whether it is there."""
        self._write(Answer(200, {"model": "demo-model"}))

    def _write(self, answer: Answer) -> None:
        data = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what matters is shown by the app and the server."""


class Server(ThreadingHTTPServer):
    """Listens on the loopback address; `port` says where."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), type("DemoHandler", (Handler,), {"model": DemoModel()}))
        self.port: int = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a caller that does not wait for a slow answer is no error."""


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description="The demo model, which stands in for Gemini.")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    with Server(parser.parse_args().port) as server:
        print(f"demo model at http://127.0.0.1:{server.port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    main()
