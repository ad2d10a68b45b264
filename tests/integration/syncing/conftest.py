"""Apps that appear, change, break and come back; a server that looks for them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sdk.driver import PERDURE, Process, Server, free_port, until

PATH = "/api/inngest"


class SyncingApp:
    """An app as an SDK makes it, as far as a sync goes: PUT lets it register, GET shows who it is.

    `functions` are the ids of its functions; `put_status` and `put_body` replace its own answer to a PUT, `sdk`
    says whether it shows itself as an SDK, `in_band` whether it registers in its answer.
    """

    def __init__(self, name: str, port: int = 0, path: str = PATH) -> None:
        self.name = name
        self.path = path
        self.functions = ["one"]
        self.extra: dict[str, Any] = {}
        self.put_status = 0
        self.put_body = b""
        self.sdk = True
        self.in_band = False
        self.server_url = ""
        self.puts: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.gets: list[str] = []
        app = self

        class Handler(_Handler):
            owner = app

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port: int = self._http.server_address[1]
        self.url = f"http://localhost:{self.port}{path}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()

    def registration(self) -> dict[str, Any]:
        """What it says of itself."""
        functions = [
            {
                "id": f"{self.name}-{function}",
                "name": function,
                "triggers": [{"event": f"{self.name}/{function}"}],
                "steps": {
                    "step": {
                        "id": "step",
                        "name": "step",
                        "runtime": {
                            "type": "http",
                            "url": f"{self.url}?fnId={self.name}-{function}&stepId=step",
                        },
                    }
                },
                **self.extra,
            }
            for function in self.functions
        ]
        return {
            "url": self.url, "v": "0.1", "deployType": "ping", "sdk": "js:v4.24.0", "framework": "express",
            "appName": self.name, "functions": functions,
        }  # fmt: skip

    def register(self) -> httpx.Response:
        """Tell the server, as after a PUT."""
        kind = self.puts[-1].get("x-inngest-server-kind", "dev") if self.puts else "dev"
        headers = {"X-Inngest-Expected-Server-Kind": kind}
        return httpx.post(
            f"{self.server_url}/fn/register", json=self.registration(), headers=headers, timeout=10
        )


class _Handler(BaseHTTPRequestHandler):
    owner: SyncingApp
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.owner.gets.append(self.path)
        if self.path.split("?")[0] != self.owner.path:
            self._answer(404, b"nothing here", sdk=False)
        else:
            self._answer(200, b'{"schema_version":"2024-05-24","mode":"dev"}', sdk=self.owner.sdk)

    def do_PUT(self) -> None:
        app = self.owner
        app.bodies.append(self.rfile.read(int(self.headers.get("content-length") or 0)))
        app.puts.append({name.lower(): value for name, value in self.headers.items()})
        if app.put_status:
            self._answer(app.put_status, app.put_body, sdk=app.sdk)
        elif app.in_band:
            payload = {
                **app.registration(),
                "app_id": app.name,
                "sdk_language": "js",
                "sdk_version": "4.24.0",
            }
            body = json.dumps({k: v for k, v in payload.items() if k not in ("appName", "sdk")}).encode()
            self._answer(200, body, sdk=True, sync_kind="in_band")
        else:
            told = app.register()
            # As JavaScript does it: 200 in any case, and the server's text inside.
            text = told.json().get("error", "Successfully registered")
            said = json.dumps({"message": text, "modified": told.is_success})
            self._answer(200, said.encode(), sdk=True)

    def _answer(self, status: int, body: bytes, *, sdk: bool, sync_kind: str = "") -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        if sdk:
            self.send_header("x-inngest-sdk", "inngest-js:v4.24.0")
            self.send_header("x-inngest-framework", "express")
        if sync_kind:
            self.send_header("x-inngest-sync-kind", sync_kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def app_at() -> Iterator[Callable[..., SyncingApp]]:
    """Gives a function that starts an app; all are stopped in the end."""
    started: list[SyncingApp] = []

    def start(name: str, port: int = 0, path: str = PATH) -> SyncingApp:
        started.append(SyncingApp(name, port, path))
        return started[-1]

    yield start
    for app in started:
        app.close()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Gives a function that starts `perdure dev` with the flags that it is given and no others.

    `apps` are told where to register before it starts.
    """
    started: list[Server] = []

    def start(
        *flags: str,
        apps: Sequence[SyncingApp] = (),
        token: str | None = None,
        env: dict[str, str] | None = None,
    ) -> Server:
        port = free_port()
        for app in apps:
            app.server_url = f"http://127.0.0.1:{port}"
        folder = tmp_path / f"server-{len(started)}"
        folder.mkdir()
        command = [str(PERDURE), "dev", "--port", str(port), "--data-dir", str(folder / "data"), *flags]
        process = Process(command, f"http://127.0.0.1:{port}", folder / "server.log", env)
        process.wait_ready("/health")
        started.append(Server(process, token))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def apps_of(server: Server) -> dict[str, dict[str, Any]]:
    """Apps by their URLs, as `/dev` shows them."""
    return {app["url"]: app for app in server.http.get("/dev").json()["apps"]}


def error_of(server: Server, url: str) -> str:
    """What is wrong with the app at this URL; empty if nothing is, or there is none."""
    return str(apps_of(server).get(url, {}).get("error") or "")


def until_known(server: Server, *slugs: str, timeout: float = 15) -> None:
    """Wait until the server knows exactly these functions."""
    until(f"functions {slugs}", lambda: set(server.functions()) == set(slugs), timeout)


def log_of(server: Server) -> str:
    """The server's own log."""
    return server.process.output.read_text()
