"""Apps on the official Python SDK that connect to the server, two over one connection.

`py-connect` has async functions, `py-connect-sync` plain ones. `GET /log?key=` shows what happened; nothing is served
to the server. SIGTERM drains, as the SDK does it by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import functions_async
import functions_sync
from call_log import CallLog
from inngest._internal import comm_lib
from inngest.connect import connect
from serving import make_client


def record_calls(log: CallLog) -> None:
    """Put each call of the gateway, and its answer as HTTP would have it, into the log."""
    post = comm_lib.CommHandler.post

    async def watched(self: Any, request: Any) -> Any:
        generation = json.loads(request.body)["ctx"]["generation_id"]
        headers = {**request.headers, "x-inngest-generation-id": str(generation)}
        line = log.begin(request.query_params, headers, request.body)
        answer = await post(self, request)
        told = {name.lower(): value for name, value in answer.headers.items()}
        log.end(line, answer.status_code, told, answer.body_bytes())
        return answer

    comm_lib.CommHandler.post = watched  # type: ignore[method-assign]


def serve_log(log: CallLog, port: int) -> None:
    """Answer `/log`, in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key = parse_qs(urlsplit(self.path).query).get("key", [""])[0]
            body = json.dumps(log.of(key), default=str).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


async def main(server: str, port: int) -> None:
    """Both apps over one log and one connection."""
    log = CallLog()
    record_calls(log)
    serve_log(log, port)
    apps = []
    for app_id, scenarios in (
        ("py-connect", functions_async.Scenarios),
        ("py-connect-sync", functions_sync.Scenarios),
    ):
        client = make_client(app_id, server)
        apps.append((client, scenarios(client, log).functions))
    await connect(apps, instance_id="official").start()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    logging.getLogger("inngest").setLevel(logging.CRITICAL)
    asyncio.run(main(options.server, options.port))
