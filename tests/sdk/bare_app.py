"""An app without an SDK: it answers each call with what the test says, down to the bytes on the wire.

A test registers functions by hand, gives each a script, and reads back the calls. Scripts are functions from a
`Call` to an `Answer`; `in_order` makes one from a list. A call that a script does not expect is answered with a
final error and kept in `unexpected`, which the fixture checks.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.sdk.driver import Server

SDK_HEADERS = {"x-inngest-sdk": "inngest-js:v4.24.0", "x-inngest-req-version": "2"}


@dataclass(frozen=True)
class Call:
    """One request of the server."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes
    at: float

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.raw)) if self.raw else {}

    @property
    def ctx(self) -> dict[str, Any]:
        return dict(self.body["ctx"])

    @property
    def slug(self) -> str:
        return self.query["fnId"]

    @property
    def target(self) -> str:
        return self.query["stepId"]

    @property
    def steps(self) -> dict[str, Any]:
        return dict(self.body["steps"])

    @property
    def key(self) -> str:
        """The test's key in the data of the run's event, or of the event that this one tells of."""
        data = self.body["event"]["data"]
        while "key" not in data and "event" in data:
            data = data["event"]["data"]
        return str(data.get("key", ""))


@dataclass(frozen=True)
class Answer:
    """What goes back. `body` is sent as JSON unless it is bytes. `headers` come on top of the SDK's own if `sdk`.

    `delay_s` passes before the status line, `dribble_s` after each header line. `cut` closes the connection in the
    middle of the body.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    sdk: bool = True
    delay_s: float = 0
    dribble_s: float = 0
    cut: bool = False

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Script = Callable[[Call], Answer | None]


def ops(*given: dict[str, Any], **more: Any) -> Answer:
    """A 206 with opcodes."""
    return Answer(206, list(given), **more)


def sha1(step: str) -> str:
    """The id on the wire of a step that the user calls `step`."""
    return hashlib.sha1(step.encode()).hexdigest()


def op(code: str, step: str = "step", **more: Any) -> dict[str, Any]:
    """One opcode object for a step of the user's id."""
    return {"op": code, "id": sha1(step), "name": step, "displayName": step, "opts": {}, **more}


def ran(step: str, data: Any = None) -> dict[str, Any]:
    return op("StepRun", step, data=data)


def planned(step: str, **more: Any) -> dict[str, Any]:
    return op("StepPlanned", step, **more)


def in_order(answers: Iterable[Answer]) -> Script:
    """The answers one after the other, whatever is called."""
    rest = iter(answers)
    lock = threading.Lock()

    def script(call: Call) -> Answer | None:
        with lock:
            return next(rest, None)

    return script


def by_target(answers: dict[str, list[Answer]]) -> Script:
    """The answers of each target in order. A target is `step`, or the user's id of a step."""
    scripts = {("step" if step == "step" else sha1(step)): in_order(given) for step, given in answers.items()}

    def script(call: Call) -> Answer | None:
        own = scripts.get(call.target)
        return own(call) if own else None

    return script


class BareApp:
    """The HTTP side. One for a whole session; functions are told apart by their slugs."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.unexpected: list[Call] = []
        self._scripts: dict[str, Script] = {}
        app = self

        class Handler(_Handler):
            owner = app

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._http.server_address[1]}"
        self.url = f"{self.origin}/api/inngest"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def on(self, slug: str, script: Script | Iterable[Answer]) -> None:
        """Set the script of a function; an iterable is answered in order."""
        self._scripts[slug] = script if callable(script) else in_order(script)

    def of(self, slug: str) -> list[Call]:
        """Calls of one function, in order of arrival."""
        return [call for call in self.calls if call.query.get("fnId") == slug]

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        script = self._scripts.get(call.query.get("fnId", ""))
        given = script(call) if script else None
        if given is None:
            self.unexpected.append(call)
            return Answer(
                400, {"name": "Error", "message": "not in the script"}, {"x-inngest-no-retry": "true"}
            )
        return given


class _Handler(BaseHTTPRequestHandler):
    """Writes the reply itself, since the tests need wrong ones too."""

    owner: BareApp
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(length)
        call = Call(self.command, url.path, dict(parse_qsl(url.query)), headers, body, time.time())
        self._write(self.owner.answer(call))

    do_GET = do_POST = do_PUT = _serve

    def _write(self, answer: Answer) -> None:
        time.sleep(answer.delay_s)
        body = answer.encoded()
        headers = {
            "content-type": "application/json",
            **(SDK_HEADERS if answer.sdk else {}),
            **answer.headers,
        }
        lines = [f"HTTP/1.1 {answer.status} Scripted", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            for line in [*lines, ""]:
                self.wfile.write(f"{line}\r\n".encode())
                if answer.dribble_s:
                    time.sleep(answer.dribble_s)
            self.wfile.write(body[: len(body) // 2] if answer.cut else body)
        except OSError:
            self.close_connection = True
        self.close_connection = self.close_connection or answer.cut

    def log_message(self, format: str, *args: object) -> None:
        pass


def function_config(app: BareApp, slug: str, **config: Any) -> dict[str, Any]:
    """The config of a function triggered by the event `bare/<slug>`.

    `retries` is the number of retries, `url` where it is called; `triggers` replace the default one, and other
    keys go in as they are.
    """
    url = config.pop("url", app.url)
    retries = config.pop("retries", 0)
    joint = "&" if "?" in url else "?"
    step = {
        "id": "step",
        "name": "step",
        "runtime": {"type": "http", "url": f"{url}{joint}fnId={slug}&stepId=step"},
    }
    return {
        "id": slug,
        "name": slug,
        "triggers": [{"event": f"bare/{slug}"}],
        "steps": {"step": {**step, "retries": {"attempts": retries}}},
        **config,
    }


@dataclass(frozen=True)
class Scripted:
    """One scripted function, alone in an app of its own."""

    server: Server
    app: BareApp
    slug: str

    @classmethod
    def make(
        cls,
        server: Server,
        app: BareApp,
        script: Script | Iterable[Answer],
        fields: dict[str, Any] | None = None,
        **config: Any,
    ) -> Scripted:
        """Register a function of a fresh name. `config` goes to `function_config`, `fields` beside the functions."""
        slug = f"bare-{uuid.uuid4().hex[:12]}"
        url = config.pop("url", f"{app.origin}/{slug}")
        app.on(slug, script)
        register(
            server,
            app,
            slug,
            [function_config(app, slug, url=url, **config)],
            **{"url": url, **(fields or {})},
        )
        return cls(server, app, slug)

    @property
    def calls(self) -> list[Call]:
        return self.app.of(self.slug)

    def trigger(self, **data: Any) -> str:
        """Send the function's event; its id."""
        return self.server.send({"name": f"bare/{self.slug}", "data": data})[0]

    def ended(self, event_id: str, timeout: float = 15) -> dict[str, Any]:
        """The run that the event started, once it has ended."""
        run = self.server.run_of(event_id, self.slug, timeout)
        return self.server.ended(run["run_id"], timeout)

    def run(self, timeout: float = 15, **data: Any) -> dict[str, Any]:
        """`trigger`, then `ended`."""
        return self.ended(self.trigger(**data), timeout)


def register(
    server: Server, app: BareApp, name: str, functions: list[dict[str, Any]], **fields: Any
) -> dict[str, Any]:
    """POST the app's config as an SDK would; the server's answer, which must be 200."""
    body = {
        "url": app.url, "v": "0.1", "deployType": "ping", "sdk": "js:v4.24.0", "framework": "nodejs",
        "appName": name, "functions": functions, "capabilities": {"trust_probe": "v1"}, **fields,
    }  # fmt: skip
    answer = server.http.post("/fn/register", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
