"""Apps on the official Python SDK whose functions are under rules of flow control, in one process.

`/api/inngest` is app `flow-py`, `/cron/api/inngest` app `flow-py-cron`. `GET /log?key=` shows what happened.
"""

from __future__ import annotations

import argparse
import json

import fastapi
import inngest.fast_api
import uvicorn
from call_log import CallLog
from functions_flow import FlowFunctions, every_second
from python_fastapi import Recording
from serving import make_client


def build(server: str, log: CallLog) -> fastapi.FastAPI:
    """All apps over one log, for the server at the URL `server`."""
    app = fastapi.FastAPI()
    flow, cron = make_client("flow-py", server), make_client("flow-py-cron", server)
    inngest.fast_api.serve(app, flow, FlowFunctions(flow, log).functions, serve_path="/api/inngest")
    inngest.fast_api.serve(app, cron, every_second(cron, log), serve_path="/cron/api/inngest")

    @app.get("/log")
    def show(key: str) -> fastapi.Response:
        return fastapi.Response(json.dumps(log.of(key), default=str), media_type="application/json")

    app.add_middleware(Recording, log=log)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    uvicorn.run(build(options.server, CallLog()), host="127.0.0.1", port=options.port, log_level="warning")
