"""What the engine of a test is told of functions."""

from __future__ import annotations

import msgspec

from perdure.embedded.transport import ORIGIN, registration_body, registration_of, void
from perdure.protocol.registration import Registration, read_registration
from perdure.sdk.app import App


def registration(app: App, *, schedules: bool) -> Registration:
    """The registration of an app; without `schedules` as if its functions had none."""
    if schedules:
        return registration_of(app)
    body = msgspec.json.decode(registration_body(app))
    for function in body["functions"]:
        function["triggers"] = [one for one in function["triggers"] if "cron" not in one]
    return _read(body)


def foreign_registration(slug: str) -> Registration:
    """The registration of an app with one function, for which something stands in."""
    url = f"{ORIGIN}{slug}"
    runtime = {"type": "http", "url": f"{url}?fnId={slug}&stepId=step"}
    function = {
        "id": slug,
        "name": slug,
        "triggers": [],
        "steps": {"step": {"id": "step", "name": "step", "runtime": runtime}},
    }
    return _read(
        {
            "url": url,
            "v": "0.1",
            "deployType": "ping",
            "sdk": "stand-in",
            "framework": "",
            "appName": f"stand-in-{slug}",
            "functions": [function],
        }
    )


def _read(body: object) -> Registration:
    return read_registration(msgspec.json.encode(body), check_expression=void, check_cron=void)
