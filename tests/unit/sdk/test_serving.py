"""The same app in every web framework: introspection, a sync function, an async one."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

import perdure
from perdure.sdk.errors import UsageError
from perdure.sdk.serve import asgi, wsgi
from tests.unit.sdk.calls import body_of, h, make_app

Fetch = Callable[[str, str, bytes], tuple[int, dict[str, str], Any]]
"""Takes method, query and body; gives status, headers and the JSON of the answer."""
PATH = "/api/inngest"


def make() -> perdure.App:
    app = make_app()

    @app.function("unit/go")
    async def coroutine(event: dict[str, Any], step: perdure.Step) -> str:
        return await step.run("a", lambda: "ran")

    @app.function("unit/go")
    def plain(event: dict[str, Any], step: perdure.SyncStep) -> str:
        return step.run("a", lambda: "ran")

    return app


def by_asgi(application: Any) -> Fetch:
    def fetch(method: str, query: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": method,
            "path": PATH,
            "raw_path": PATH.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"app.test"), (b"content-type", b"application/json")],
            "scheme": "http",
            "server": ("app.test", 80),
            "client": ("c", 1),
            "http_version": "1.1",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        halves = [body[: len(body) // 2], body[len(body) // 2 :]]

        async def receive() -> dict[str, Any]:
            if not halves:
                await asyncio.sleep(60)
            return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(application(scope, receive, send))
        headers = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, json.loads(b"".join(part.get("body", b"") for part in sent[1:]))

    return fetch


def by_wsgi(application: Any) -> Fetch:
    def fetch(method: str, query: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        told: list[Any] = []
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": PATH,
            "QUERY_STRING": query,
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "SERVER_NAME": "app.test",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "app.test",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
            "wsgi.version": (1, 0),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        parts = application(environ, lambda *args: told.extend(args[:2]))
        headers = {name.lower(): value for name, value in told[1]}
        return int(told[0].split(" ")[0]), headers, json.loads(b"".join(parts))

    return fetch


def starlette() -> Fetch:
    from starlette.applications import Starlette

    web = Starlette()
    make().mount(web)
    return by_asgi(web)


def fastapi() -> Fetch:
    from fastapi import FastAPI

    web = FastAPI()
    make().mount(web)
    assert PATH not in web.openapi()["paths"]
    return by_asgi(web)


def flask() -> Fetch:
    from flask import Flask

    web = Flask("unit")
    make().mount(web)
    return by_wsgi(web)


def django(asynchronous: bool = False) -> Fetch:
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.core.wsgi import get_wsgi_application
    from django.urls import clear_url_caches, path

    from perdure.sdk.serve.django import perdure_async_view, perdure_view

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", MIDDLEWARE=MIDDLEWARE)
    view = perdure_async_view if asynchronous else perdure_view
    URLS[:] = [path(PATH[1:], view(make()))]
    clear_url_caches()
    return by_asgi(get_asgi_application()) if asynchronous else by_wsgi(get_wsgi_application())


URLS: list[Any] = []
urlpatterns = URLS
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]


def litestar() -> Fetch:
    from litestar import Litestar

    from perdure.sdk.serve.litestar import perdure_handler

    return by_asgi(Litestar(route_handlers=[perdure_handler(make())]))


def aws_lambda(version: str) -> Fetch:
    from perdure.sdk.serve.aws_lambda import perdure_lambda

    handler = perdure_lambda(make())

    def fetch(method: str, query: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        event: dict[str, Any] = {
            "headers": {"Host": "app.test", "X-Forwarded-Proto": "http"},
            "body": body.decode(),
            "isBase64Encoded": False,
        }
        if version == "2":
            event |= {
                "rawPath": PATH,
                "rawQueryString": query,
                "requestContext": {"http": {"method": method}},
            }
        else:
            pairs = dict(part.split("=") for part in query.split("&") if part)
            event |= {
                "httpMethod": method,
                "path": PATH,
                "queryStringParameters": pairs,
                "requestContext": {"path": PATH},
            }
        answer = handler(event, None)
        return answer["statusCode"], answer["headers"], json.loads(answer["body"])

    return fetch


FRAMEWORKS: dict[str, tuple[Callable[[], Fetch], str]] = {
    "asgi": (lambda: by_asgi(asgi(make())), "asgi"),
    "wsgi": (lambda: by_wsgi(wsgi(make())), "wsgi"),
    "starlette": (starlette, "starlette"),
    "fastapi": (fastapi, "fast_api"),
    "flask": (flask, "flask"),
    "django": (django, "django"),
    "django-asgi": (lambda: django(asynchronous=True), "django"),
    "litestar": (litestar, "litestar"),
    "lambda-1": (lambda: aws_lambda("1"), "aws_lambda"),
    "lambda-2": (lambda: aws_lambda("2"), "aws_lambda"),
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_app_is_served(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_fetch, framework = FRAMEWORKS[name]
    fetch = make_fetch()
    status, headers, told = fetch("GET", "", b"")
    assert (status, told["function_count"]) == (200, 2)
    assert headers["x-inngest-framework"] == framework
    registered: list[Any] = []

    async def register(app: Any, framework: str, url: str, *more: Any) -> tuple[int, bytes]:
        registered.append((framework, url))
        return 200, b'{"ok":true}'

    monkeypatch.setattr("perdure.sdk.introspection.register", register)
    assert fetch("PUT", "token=t", b"")[::2] == (200, {"ok": True})
    assert registered == [(framework, f"http://app.test{PATH}?token=t")]
    for fn in ("coroutine", "plain"):
        query = f"fnId=unit-{fn}&stepId=step"
        status, headers, told = fetch("POST", query, body_of({"data": {"text": "é" * 1000}}))
        assert (status, [op["op"] for op in told]) == (206, ["StepRun"])
        status, headers, told = fetch("POST", query, body_of(None, {h("a"): {"data": "saved"}}))
        assert (status, told) == (200, "saved")
        assert headers["content-type"].startswith("application/json")
    assert fetch("POST", "fnId=unit-none&stepId=step", b"{}")[0] == 404


def test_wsgi_runs_a_sync_function_in_the_requests_own_thread() -> None:
    app = make_app()
    seen: list[int] = []

    @app.function("unit/go")
    def plain(step: perdure.SyncStep) -> None:
        seen.append(threading.get_ident())
        step.run("a", lambda: seen.append(threading.get_ident()))
        step.sleep("b", 60)

    fetch = by_wsgi(wsgi(app))
    fetch("POST", "fnId=unit-plain&stepId=step", body_of())
    fetch("POST", "fnId=unit-plain&stepId=step", body_of(None, {h("a"): {"data": None}}))
    assert set(seen) == {threading.get_ident()}
    assert len(seen) == 3


def test_send_sync_works_from_sync_code() -> None:
    app = make_app()

    async def send(events: Any) -> list[str]:
        return [f"{len(events)} sent"]

    app.sender.send = send  # type: ignore[method-assign]
    assert app.send_sync(perdure.Event("a", {}), perdure.Event("b", {})) == ["2 sent"]


def test_mount_names_what_it_does_not_know() -> None:
    with pytest.raises(UsageError, match=r"app\.mount knows FastAPI, Starlette and Flask"):
        make_app().mount(object())
