"""JSON answers by msgspec, which splices stored bytes in as they are."""

from __future__ import annotations

import msgspec
from starlette.responses import Response


class JsonResponse(Response):
    """An answer whose body is JSON. Payloads inside travel as `msgspec.Raw`."""

    media_type = "application/json"

    def __init__(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(content), status, headers)
