"""Who is let in, and with which code and reason the others are turned away."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from perdure.protocol.connect.messages import (
    SUBPROTOCOL,
    AppConfiguration,
    AuthData,
    ConnectMessage,
    Kind,
    StartResponse,
    SystemError,
)
from perdure.protocol.connect.wire import decode, encode
from perdure.protocol.ids import ENVIRONMENT_ID, app_uuid, is_ulid
from tests.integration.connect.bare_worker import BareWorker, app, ready_data, start
from tests.sdk.driver import Server, free_port, until

INVALID_PAYLOAD = (1008, "connect_worker_hello_invalid_payload")
AUTHENTICATION = (1008, "connect_authentication_failed")


class TestStart:
    async def test_it_gives_an_address_and_tokens(self, server: Server) -> None:
        started = await start(server, authorization="Bearer something")
        assert is_ulid(started.connection_id)
        parts = urlsplit(started.gateway_endpoint)
        assert (parts.scheme, parts.hostname, parts.path) == ("ws", "127.0.0.1", "/v0/connect")
        assert started.gateway_group
        assert started.session_token.count(".") == 2
        assert started.sync_token == "something"

    async def test_behind_a_proxy_with_tls_the_gateway_is_where_the_server_is(self, server: Server) -> None:
        started = await start(server, **{"host": "jobs.example.com", "x-forwarded-proto": "https"})
        assert started.gateway_endpoint == "wss://jobs.example.com/v0/connect"

    async def test_through_another_port_the_gateway_is_where_the_server_is(self, server: Server) -> None:
        started = await start(server, host="perdure:80")
        assert started.gateway_endpoint == "ws://perdure:80/v0/connect"

    def test_what_is_no_message_is_refused(self, server: Server) -> None:
        assert server.http.post("/v0/connect/start", content=b"\x0a\xff").status_code == 400
        assert server.http.get("/v0/connect/start").status_code == 405

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(path=st.sampled_from(["start", "flush"]), body=st.binary(max_size=60))
    def test_whatever_comes_is_taken_or_refused(self, server: Server, path: str, body: bytes) -> None:
        assert server.http.post(f"/v0/connect/{path}", content=body).status_code in (200, 400)


class TestSocket:
    async def test_both_ports_serve_it(self, server: Server, name: str) -> None:
        for endpoint in (
            (await start(server)).gateway_endpoint,
            server.url.replace("http", "ws") + "/v0/connect",
        ):
            worker = await BareWorker.dial(server, endpoint)
            assert worker.socket.subprotocol == SUBPROTOCOL
            await worker.introduce(app(name))
            await worker.get(Kind.GATEWAY_CONNECTION_READY)
            await worker.close()

    @pytest.mark.parametrize(
        ("path", "protocols"), [("/v0/connect", None), ("/v0/connect", ["v9"]), ("/other", [SUBPROTOCOL])]
    )
    async def test_another_path_or_protocol_is_refused(
        self, server: Server, path: str, protocols: list[str] | None
    ) -> None:
        with pytest.raises(InvalidHandshake):
            await connect(server.url.replace("http", "ws") + path, subprotocols=protocols)  # type: ignore[arg-type]

    async def test_a_frame_over_8_mib_ends_the_connection(self, server: Server, name: str) -> None:
        worker = await BareWorker.ready(server, app(name))
        await worker.say(Kind.WORKER_STATUS, bytes(8 * 1024 * 1024 - 100))
        await worker.say(Kind.WORKER_HEARTBEAT)
        await worker.get(Kind.GATEWAY_HEARTBEAT)
        with suppress(ConnectionClosed):
            await worker.say(Kind.WORKER_STATUS, bytes(8 * 1024 * 1024 + 1))
        assert (await worker.closed())[0] == 1009

    async def test_a_message_may_come_in_pieces(self, server: Server, name: str) -> None:
        worker = await BareWorker.ready(server, app(name))
        message = encode(ConnectMessage(Kind.WORKER_HEARTBEAT))
        await worker.socket.send([message[:1], message[1:]])
        await worker.get(Kind.GATEWAY_HEARTBEAT)
        await worker.close()


class TestRefusals:
    async def test_it_must_introduce_itself_within_5_seconds(self, server: Server) -> None:
        worker = await BareWorker.dial(server)
        begun = asyncio.get_running_loop().time()
        assert await worker.closed() == (1008, "connect_worker_hello_timeout")
        assert 4 < asyncio.get_running_loop().time() - begun < 9

    async def test_it_must_not_begin_with_another_message(self, server: Server) -> None:
        worker = await BareWorker.dial(server)
        await worker.say(Kind.WORKER_HEARTBEAT)
        assert await worker.closed() == (1008, "connect_worker_hello_invalid_msg")

    @pytest.mark.parametrize("frame", [b"\xff", encode(ConnectMessage(Kind.WORKER_CONNECT, b"\x0a\xff"))])
    async def test_what_is_no_protobuf(self, server: Server, frame: bytes) -> None:
        worker = await BareWorker.dial(server)
        await worker.socket.send(frame)
        assert await worker.closed() == INVALID_PAYLOAD

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"connection_id": "x"}, INVALID_PAYLOAD),
            ({"instance_id": ""}, INVALID_PAYLOAD),
            ({"auth_data": None}, AUTHENTICATION),
            ({"auth_data": AuthData("a.b.c")}, AUTHENTICATION),
            ({"auth_data": AuthData("")}, AUTHENTICATION),
            ({"apps": []}, INVALID_PAYLOAD),
            ({"apps": [app("")]}, INVALID_PAYLOAD),
            ({"apps": [app(f"many{n}") for n in range(11)]}, (1008, "connect_too_many_apps_per_connection")),
            ({"apps": [AppConfiguration("bad", None, b"{")]}, (1008, "connect_invalid_function_config")),
            (
                {"apps": [AppConfiguration("bad", None, b'[{"id":"f"}]')]},
                (1008, "connect_invalid_function_config"),
            ),
            # The order of the checks: the token comes before the apps, the instance before the token.
            ({"auth_data": None, "apps": []}, AUTHENTICATION),
            ({"instance_id": "", "auth_data": None}, INVALID_PAYLOAD),
        ],
    )
    async def test_an_introduction(
        self, server: Server, fields: dict[str, object], expected: tuple[int, str]
    ) -> None:
        worker = await BareWorker.dial(server)
        await worker.introduce(app("fine"), **fields)
        assert await worker.closed() == expected
        assert all(one["instance_id"] != "bare" for one in server.http.get("/v1/workers").json()["data"])

    async def test_a_worker_of_the_own_sdk_is_told_what_is_wrong(self, server: Server) -> None:
        worker = await BareWorker.dial(server)
        bad = AppConfiguration("bad", None, b'[{"id":"bad-f","triggers":[]}]')
        await worker.introduce(bad, capabilities=b'{"perdure":{"bundles":1}}')
        error = decode(await worker.get(Kind.SYNC_FAILED), SystemError)
        assert error.code == "connect_invalid_function_config"
        assert "bad" in error.message
        assert (await worker.closed())[1] == "connect_invalid_function_config"

    async def test_an_app_that_was_refused_is_not_looked_for_at_a_url(
        self, server: Server, name: str
    ) -> None:
        worker = await BareWorker.dial(server)
        await worker.introduce(AppConfiguration(name, None, b'[{"id":"f"}]'))
        assert await worker.closed() == (1008, "connect_invalid_function_config")
        query = "{apps{name method error connected}}"
        known = server.http.post("/v0/gql", json={"query": query}).json()["data"]["apps"]
        [noted] = [one for one in known if one["name"] == name]
        assert (noted["method"], noted["connected"]) == ("CONNECT", False)
        assert "f" in noted["error"]
        worker = await BareWorker.ready(server, app(name))
        known = server.http.post("/v0/gql", json={"query": query}).json()["data"]["apps"]
        [noted] = [one for one in known if one["name"] == name]
        assert (noted["error"], noted["connected"]) == (None, True)
        await worker.close()

        def gone() -> bool:
            known = server.http.post("/v0/gql", json={"query": query}).json()["data"]["apps"]
            return [one["connected"] for one in known if one["name"] == name] == [False]

        await asyncio.to_thread(until, "no worker", gone)

    async def test_a_token_of_another_server_is_refused(
        self, server: Server, tmp_path_factory: pytest.TempPathFactory, name: str
    ) -> None:
        other = Server.start(tmp_path_factory.mktemp("other"))
        try:
            foreign = await start(other)
        finally:
            other.stop()
        worker = await BareWorker.dial(server)
        await worker.introduce(app(name), auth_data=AuthData(foreign.session_token))
        assert await worker.closed() == AUTHENTICATION


class TestReady:
    async def test_intervals_are_texts_that_all_sdks_read(self, server: Server, name: str) -> None:
        worker = await BareWorker.dial(server)
        await worker.introduce(app(name))
        ready = ready_data(await worker.get(Kind.GATEWAY_CONNECTION_READY))
        assert (ready.heartbeat_interval, ready.extend_lease_interval) == ("10s", "1s")  # of a lease of 2 s
        assert ready.status_interval == "0s"
        assert ready.perdure == b""
        await worker.close()

    async def test_extensions_are_agreed_upon(self, server: Server, name: str) -> None:
        worker = await BareWorker.dial(server)
        await worker.introduce(app(name), capabilities=b'{"perdure":{"checkpoints":7,"bundles":1}}')
        ready = ready_data(await worker.get(Kind.GATEWAY_CONNECTION_READY))
        assert json.loads(ready.perdure) == {"checkpoints": 1, "bundles": 1}
        assert ready.extend_lease_interval == "1s"
        await worker.close()

    async def test_its_functions_are_registered_once_for_workers_that_are_alike(
        self, server: Server, name: str
    ) -> None:
        first = await BareWorker.ready(server, app(name, "one", "two"), instance_id="first")
        second = await BareWorker.ready(server, app(name, "one", "two"), instance_id="second")
        assert {f"{name}-one", f"{name}-two"} <= set(server.functions())
        found = [
            one for one in server.http.get("/v1/workers").json()["data"] if one["apps"][0]["name"] == name
        ]
        assert [one["instance_id"] for one in found] == ["first", "second"]
        group = found[0]["apps"][0]["group"]
        assert found[1]["apps"][0]["group"] == group
        told = server.http.get(f"/v0/connect/envs/{ENVIRONMENT_ID}/groups/{group}").json()["data"]
        assert told["fns"] == [f"{name}-one", f"{name}-two"]
        assert told["conns"] == [first.started.connection_id, second.started.connection_id]
        assert told["synced"] is True
        await first.close()
        await second.close()

    async def test_a_worker_of_an_older_version_that_comes_back_undoes_nothing(
        self, server: Server, name: str
    ) -> None:
        old = await BareWorker.ready(server, app(name, "one", version="1"))
        new = await BareWorker.ready(server, app(name, "one", "two", version="2"))
        await old.close()
        again = await BareWorker.ready(server, app(name, "one", version="1"))
        known = server.http.get("/dev").json()["functions"]
        assert {f["slug"] for f in known if f["slug"].startswith(f"{name}-")} == {
            f"{name}-one",
            f"{name}-two",
        }
        await new.close()
        await again.close()

    async def test_who_is_connected_is_told_until_it_is_gone(self, server: Server, name: str) -> None:
        worker = await BareWorker.ready(server, app(name), worker_manual_readiness_ack=True)
        path = f"/v0/connect/envs/{ENVIRONMENT_ID}/conns"
        [told] = server.http.get(path, params={"app_id": app_uuid(name)}).json()["data"]
        assert told["id"] == worker.started.connection_id
        assert told["status"] == 0
        assert told["attributes"] == {"cpu_cores": 4, "mem_bytes": 1 << 33, "os": "linux"}
        assert list(told["all_worker_groups"]) == [app_uuid(name)]
        await worker.say(Kind.WORKER_READY)
        await asyncio.to_thread(self._has_status, server, name, 1)
        await worker.say(Kind.WORKER_PAUSE)
        await asyncio.to_thread(self._has_status, server, name, 2)
        await worker.close()
        await asyncio.to_thread(self._has_status, server, name, None)

    async def test_the_same_in_graphql_and_metrics(self, server: Server, name: str) -> None:
        first = await BareWorker.ready(server, app(name, "a", version="7"), max_worker_concurrency=3)
        second = await BareWorker.ready(server, app(name), app(f"{name}-other"))
        fields = (
            "id gatewayId instanceId maxWorkerConcurrency appName app{name} status functionCount appVersion"
        )
        query = (
            "query($a:[UUID!],$s:[ConnectV1ConnectionStatus!],$n:Int!,$c:String){workerConnections("
            f"first:$n,after:$c,filter:{{appIDs:$a,status:$s}}){{totalCount pageInfo{{hasNextPage endCursor}} "
            f"edges{{cursor node{{{fields} connectedAt lastHeartbeatAt disconnectedAt groupHash os memBytes}}}}}}}}"
        )

        def ask(**variables: object) -> dict[str, Any]:
            given = {"a": [app_uuid(name), app_uuid(f"{name}-other")], "n": 40, **variables}
            answer = server.http.post("/v0/gql", json={"query": query, "variables": given}).json()
            assert "errors" not in answer, answer
            return dict(answer["data"]["workerConnections"])

        told = ask()
        nodes = [edge["node"] for edge in told["edges"]]
        assert told["totalCount"] == 3
        assert [node["appName"] for node in nodes] == [f"{name}-other", name, name]
        assert [node["id"] for node in nodes] == [second.started.connection_id] * 2 + [
            first.started.connection_id
        ]
        assert is_ulid(nodes[0]["gatewayId"])
        assert (nodes[2]["maxWorkerConcurrency"], nodes[2]["status"]) == (3, "READY")
        assert (nodes[2]["appVersion"], nodes[2]["functionCount"], nodes[2]["os"]) == ("7", 1, "linux")
        assert nodes[2]["app"] == {"name": name}
        page = ask(n=2)
        assert page["pageInfo"]["hasNextPage"]
        rest = ask(n=2, c=page["pageInfo"]["endCursor"])
        assert [edge["node"]["appName"] for edge in (*page["edges"], *rest["edges"])] == [
            f"{name}-other",
            name,
            name,
        ]
        assert not rest["pageInfo"]["hasNextPage"]
        assert ask(s=["DRAINING"])["totalCount"] == 0
        one = f'{{workerConnection(connectionId:"{first.started.connection_id}"){{instanceId}}}}'
        answer = server.http.post("/v0/gql", json={"query": one}).json()
        assert answer["data"]["workerConnection"] == {"instanceId": "bare"}
        assert 'perdure_workers{status="ready"} 2' in server.http.get("/metrics").text
        await first.close()
        await second.close()

    def _has_status(self, server: Server, name: str, status: int | None) -> None:
        def look() -> bool:
            path = f"/v0/connect/envs/{ENVIRONMENT_ID}/conns"
            found = server.http.get(path, params={"app_id": app_uuid(name)}).json()["data"]
            return [one["status"] for one in found] == ([] if status is None else [status])

        until(f"status {status}", look)


class TestPortTaken:
    def test_the_server_starts_without_the_gateways_port(
        self, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        import socket

        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            flags = ("--connect-gateway-port", str(port))
            server = Server.start(tmp_path_factory.mktemp("taken"), *flags)
            try:
                answer = server.http.post("/v0/connect/start", content=b"")
                endpoint = decode(answer.content, StartResponse).gateway_endpoint
                assert endpoint == server.url.replace("http", "ws") + "/v0/connect"
                log = server.process.tail()
                assert f"port {port} cannot be used for workers that connect" in log
                assert "--connect-gateway-port" in log
            finally:
                server.stop()

    async def test_a_port_of_its_own_choice(
        self, tmp_path_factory: pytest.TempPathFactory, name: str
    ) -> None:
        port = free_port()
        folder = tmp_path_factory.mktemp("chosen")
        server = await asyncio.to_thread(Server.start, folder, "--connect-gateway-port", str(port))
        try:
            worker = await BareWorker.ready(server, app(name))
            assert worker.started.gateway_endpoint == f"ws://127.0.0.1:{port}/v0/connect"
            await worker.close()
        finally:
            await asyncio.to_thread(server.stop)


class TestKeys:
    async def test_with_keys_only_who_has_one_gets_in(
        self, tmp_path_factory: pytest.TempPathFactory, name: str
    ) -> None:
        from perdure.protocol.signing import hash_signing_key

        key = "signkey-test-" + "ab" * 32
        folder = tmp_path_factory.mktemp("keys")
        flags = ("--signing-key", key)
        server = await asyncio.to_thread(lambda: Server.start(folder, *flags, token=hash_signing_key(key)))
        try:
            for path in ("start", "flush"):
                assert httpx.post(f"{server.url}/v0/connect/{path}", content=b"").status_code == 401
            assert httpx.get(f"{server.url}/v1/workers").status_code == 401
            worker = await BareWorker.ready(server, app(name))
            assert worker.started.sync_token == hash_signing_key(key)
            await worker.close()
        finally:
            await asyncio.to_thread(server.stop)
