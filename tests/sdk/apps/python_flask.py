"""Flask apps on the official Python SDK, two in one process.

`/api/inngest` is app `flask` with plain functions, `/async/api/inngest` app `flask-async` with async functions.
`GET /log?key=` shows what happened.
"""

from __future__ import annotations

import argparse
import json
import logging

import flask
import functions_async
import functions_sync
import inngest.flask
from call_log import CallLog
from serving import make_client
from werkzeug.serving import make_server


def build(server: str, log: CallLog) -> flask.Flask:
    """Both apps over one log, for the server at the URL `server`."""
    app = flask.Flask(__name__)
    for app_id, path, scenarios in (
        ("flask", "/api/inngest", functions_sync.Scenarios),
        ("flask-async", "/async/api/inngest", functions_async.Scenarios),
    ):
        client = make_client(app_id, server)
        # Each `serve` makes an endpoint of one fixed name, so the apps live on blueprints of their own.
        part = flask.Blueprint(app_id, __name__)
        inngest.flask.serve(part, client, scenarios(client, log).functions, serve_path=path)  # type: ignore[arg-type]
        app.register_blueprint(part)

    @app.before_request
    def begin() -> None:
        request = flask.request
        if request.method == "POST":
            headers = {name.lower(): value for name, value in request.headers.items()}
            flask.g.line = log.begin(request.args, headers, request.get_data())

    @app.after_request
    def end(response: flask.Response) -> flask.Response:
        if "line" in flask.g:
            headers = {name.lower(): value for name, value in response.headers.items()}
            log.end(flask.g.line, response.status_code, headers, response.get_data())
        return response

    @app.get("/log")
    def show() -> flask.Response:
        text = json.dumps(log.of(flask.request.args["key"]), default=str)
        return flask.Response(text, mimetype="application/json")

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    make_server("127.0.0.1", options.port, build(options.server, CallLog()), threaded=True).serve_forever()
