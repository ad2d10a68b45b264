"""Serving as an AWS Lambda function behind a function URL, an HTTP API or a REST API.

handler = perdure_lambda(app)
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from perdure.sdk.app import App
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request
from perdure.sdk.portal import portal


def perdure_lambda(app: App) -> Callable[[Mapping[str, Any], Any], dict[str, Any]]:
    """A handler for both payload formats (1.0 and 2.0)."""
    endpoint = Endpoint(app, "aws_lambda")

    def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001
        response = portal().serve(endpoint.handle(request_of(event)))
        return {"statusCode": response.status, "headers": response.headers, "body": response.body.decode()}

    return handler


def request_of(event: Mapping[str, Any]) -> Request:
    """The request in an event of API Gateway or of a function URL."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    context = event.get("requestContext") or {}
    if "http" in context:
        method, path = context["http"]["method"], event.get("rawPath") or "/"
        query = event.get("rawQueryString") or ""
    else:
        method, path = event["httpMethod"], context.get("path") or event.get("path") or "/"
        query = urlencode(event.get("queryStringParameters") or {})
    host = headers.get("host") or context.get("domainName") or "localhost"
    scheme = headers.get("x-forwarded-proto", "https")
    text = event.get("body") or ""
    body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()
    return Request(method, f"{scheme}://{host}{path}{'?' + query if query else ''}", headers, body)
