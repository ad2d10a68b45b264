"""`POST /v1/runs/{run}/metadata`: values that user code attaches to a run or a step. Traces show them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.errors import RequestError
from perdure.protocol.ids import is_ulid
from perdure.protocol.metadata import MAX_RUN_BYTES, read_metadata
from perdure.server.context import Server
from perdure.server.http import read_body
from perdure.shard.commands import AddMetadata

MAX_BODY_BYTES = 2 * MAX_RUN_BYTES


def metadata_route(server: Server) -> Route:
    """The route of this module."""

    async def handle(request: Request) -> Response:
        return await add_metadata(server, request)

    return Route("/v1/runs/{run_id}/metadata", handle, methods=["POST"])


async def add_metadata(server: Server, request: Request) -> Response:
    """Attach values: 200 with an empty body; 404 for an unknown run, 413 when a run would hold too much."""
    run_id: str = request.path_params["run_id"]
    if not is_ulid(run_id):
        raise RequestError(400, f"Invalid run ID: {run_id[:100]}")
    asked = read_metadata(await read_body(request.receive, MAX_BODY_BYTES, server.intake), run_id)
    size = sum(update.size() for update in asked.updates)
    if size and size + await server.reader.metadata_size(run_id) > MAX_RUN_BYTES:
        raise RequestError(413, f"The metadata of this run would be larger than {MAX_RUN_BYTES} bytes")
    if not await server.submit(AddMetadata(run=run_id, request=asked)):
        raise RequestError(404, f"Unable to load function run: {run_id}")
    return Response(status_code=200)
