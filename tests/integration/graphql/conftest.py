"""One server and one bare app for the whole folder, and GraphQL as a client speaks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.sdk.driver import Server


@dataclass(frozen=True)
class Graphql:
    """The endpoint of a server."""

    server: Server

    def post(self, query: str, **variables: Any) -> httpx.Response:
        """The answer, whatever it is."""
        return self.server.http.post("/v0/gql", json={"query": query, "variables": variables})

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer without errors."""
        answer = self.post(query, **variables)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert "errors" not in body, body["errors"]
        return dict(body["data"])

    def error(self, query: str, **variables: Any) -> str:
        """The message of an answer's only error; it was run all the same."""
        answer = self.post(query, **variables)
        assert answer.status_code == 200, answer.text
        (error,) = answer.json()["errors"]
        assert "path" in error
        return str(error["message"])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def graphql(server: Server) -> Graphql:
    return Graphql(server)
