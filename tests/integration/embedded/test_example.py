"""The example in docs/embedded.md, as it stands there, in a real process, and moved to a server by one setting."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.repo.tracked import ROOT
from tests.sdk.driver import Process, Server, free_port, until

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks() -> list[str]:
    return BLOCK.findall((ROOT / "docs" / "embedded.md").read_text())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(blocks()[0])
    return tmp_path


def start(folder: Path, env: dict[str, str] | None = None) -> Process:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "shop:web", "--port", str(port), "--app-dir", str(folder)]
    # The example names a file of the current folder.
    wrapped = ["sh", "-c", f'cd "{folder}" && exec "$@"', "sh", *command]
    process = Process(wrapped, f"http://127.0.0.1:{port}", folder / "app.log", env)
    process.wait_ready("/openapi.json")
    return process


@pytest.fixture
def shop(folder: Path) -> Iterator[Process]:
    process = start(folder)
    yield process
    process.stop()


def completed(api: httpx.Client, event_id: str) -> object:
    """The output of the run that an event started, once it has ended."""

    def look() -> object:
        runs = api.get(f"/v1/events/{event_id}/runs").json()["data"]
        return runs and runs[0]["status"] == "Completed" and runs[0]["output"]

    return until("the end of the run", look)


def test_the_example_runs_and_its_api_is_mounted(shop: Process, folder: Path) -> None:
    event_id = httpx.post(f"{shop.url}/orders/7").json()["event"]
    with httpx.Client(base_url=f"{shop.url}/jobs") as api:
        assert completed(api, event_id) == "order 7 is on its way"
        (function,) = api.get("/dev").json()["functions"]
        assert function["slug"] == "shop-fulfil"
    assert (folder / "jobs.db").exists()


def test_the_pages_are_open_only_to_this_machine(shop: Process) -> None:
    proxied = httpx.get(f"{shop.url}/jobs/dev", headers={"X-Forwarded-For": "192.0.2.1"})
    assert proxied.status_code == 403
    assert "allow=" in proxied.json()["error"]
    named = httpx.get(f"{shop.url}/jobs/dev", headers={"Host": "shop.example"})
    assert named.status_code == 403
    assert httpx.get(f"{shop.url}/jobs/dev").status_code == 200


def test_the_same_program_works_for_a_server_by_one_setting(folder: Path, tmp_path: Path) -> None:
    """As the page says: no address in the code, and `mount` besides."""
    code = blocks()[0].replace('run_embedded("sqlite:///jobs.db")', "run_embedded()") + "\n" + blocks()[1]
    (folder / "shop.py").write_text(code)
    server = Server.start(tmp_path / "server")
    process = start(folder, {"PERDURE_URL": server.url})
    try:
        assert httpx.put(f"{process.url}/api/inngest").status_code == 200
        event_id = httpx.post(f"{process.url}/orders/8").json()["event"]
        assert completed(server.http, event_id) == "order 8 is on its way"
        assert not list(folder.glob("*.db"))
        assert httpx.get(f"{process.url}/jobs/dev").status_code == 503
    finally:
        process.stop()
        server.stop()
    (folder / "shop.py").write_text(code)
    process = start(folder, {"PERDURE_URL": "sqlite:///other.db"})
    try:
        event_id = httpx.post(f"{process.url}/orders/9").json()["event"]
        with httpx.Client(base_url=f"{process.url}/jobs") as api:
            assert completed(api, event_id) == "order 9 is on its way"
        assert (folder / "other.db").exists()
    finally:
        process.stop()


def test_a_second_worker_reaches_the_engine_of_the_first(shop: Process, folder: Path) -> None:
    follower = start(folder)
    try:
        event_id = httpx.post(f"{follower.url}/orders/10").json()["event"]
        with httpx.Client(base_url=f"{follower.url}/jobs") as api:
            assert completed(api, event_id) == "order 10 is on its way"
            answer = api.post("/e/key", content=b'{"name":"nobody/listens","data":{"text":"\xc3\xa4"}}')
            assert answer.status_code == 200
            (event,) = api.get("/v1/events", params={"name": "nobody/listens"}).json()["data"]
            assert event["data"] == {"text": "\u00e4"}
            assert api.get("/nothing/here").status_code == 404
        with httpx.Client(base_url=f"{shop.url}/jobs") as api:
            assert completed(api, event_id)
        assert httpx.get(f"{follower.url}/jobs/dev", headers={"Host": "shop.example"}).status_code == 403
    finally:
        follower.stop()
    assert httpx.get(f"{shop.url}/jobs/dev").status_code == 200
