"""A Flask app on Perdure's own SDK: `/api/inngest` is app `own-flask` with plain functions. `GET /log?key=` shows
what happened.
"""

from __future__ import annotations

import argparse
import json
import logging

import flask
import own_sync
from call_log import CallLog
from own_fastapi import Posts
from werkzeug.serving import make_server

import perdure


def build(server: str, log: CallLog) -> flask.Flask:
    """The app over a log, for the server at the URL `server`."""
    web = flask.Flask(__name__)
    app = perdure.App("own-flask", url=server)
    own_sync.Scenarios(app, log)
    posts = Posts()
    posts.watch(app)
    app.mount(web)

    @web.before_request
    def begin() -> None:
        request = flask.request
        if request.method == "POST":
            headers = {name.lower(): value for name, value in request.headers.items()}
            body = request.get_data()
            flask.g.line = log.begin(request.args, headers, body)

    @web.after_request
    def end(response: flask.Response) -> flask.Response:
        if "line" in flask.g:
            headers = {name.lower(): value for name, value in response.headers.items()}
            log.end(flask.g.line, response.status_code, headers, response.get_data())
        return response

    @web.get("/log")
    def show() -> flask.Response:
        lines = dict(log.of(flask.request.args["key"]))
        lines["posts"] = posts.of(lines)
        return flask.Response(json.dumps(lines, default=str), mimetype="application/json")

    return web


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server", required=True)
    options = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    logging.getLogger("perdure").setLevel(logging.CRITICAL)
    make_server("127.0.0.1", options.port, build(options.server, CallLog()), threaded=True).serve_forever()
