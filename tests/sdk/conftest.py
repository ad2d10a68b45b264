"""One server and one process of each app for the whole folder; every test keeps to itself by the key in its events."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.bare_app import BareApp, Scripted
from tests.sdk.driver import HERE, App, Process, Server, free_port, until


@dataclass(frozen=True)
class Kind:
    """Where an app lives: the program that serves it, and its path there."""

    program: str
    path: str
    checkpoints: bool = False
    streams: bool = False
    version: int = 2
    known: str = "no-steps"
    """A function that it has, by which a sync is known to have worked."""
    engine: str = ""
    """Where it has an engine of its own, below its address: it is its own server then."""
    connects: bool = False
    """Whether it takes its calls over a WebSocket; the server need not sync it."""


KINDS = {
    "fastapi": Kind("python_fastapi.py", "/api/inngest"),
    "fastapi-sync": Kind("python_fastapi.py", "/sync/api/inngest"),
    "fastapi-stream": Kind("python_fastapi.py", "/stream/api/inngest", streams=True),
    "flask": Kind("python_flask.py", "/api/inngest"),
    "flask-async": Kind("python_flask.py", "/async/api/inngest"),
    "py-connect": Kind("python_connect.py", "/log", connects=True),
    "py-connect-sync": Kind("python_connect.py", "/log", connects=True),
    "own": Kind("own_fastapi.py", "/api/inngest", checkpoints=True),
    "own-sync": Kind("own_fastapi.py", "/sync/api/inngest", checkpoints=True),
    "own-connect": Kind("own_connect.py", "/log", checkpoints=True, connects=True),
    "own-connect-sync": Kind("own_connect.py", "/log", checkpoints=True, connects=True),
    "own-embedded": Kind("own_embedded.py", "/engine/dev", checkpoints=True, engine="/engine"),
    "own-embedded-sync": Kind("own_embedded.py", "/engine/dev", checkpoints=True, engine="/engine"),
    "js": Kind("app_v4.mjs", "/api/inngest", checkpoints=True),
    "js-plain": Kind("app_v4.mjs", "/plain/api/inngest"),
    "js-stream": Kind("app_v4.mjs", "/stream/api/inngest", streams=True),
    "js3": Kind("app_v3.mjs", "/api/inngest", version=1),
    "js3-wait": Kind("app_v3.mjs", "/wait/api/inngest"),
    "js-connect": Kind("connect_v4.mjs", "/log", checkpoints=True, connects=True),
    "js-connect-plain": Kind("connect_v4.mjs", "/log", connects=True),
    "js3-connect": Kind("connect_v3.mjs", "/log", version=1, connects=True),
}

# Apps of their own tests, with rules on their functions.
RULED = {
    "flow-py": Kind("python_flow.py", "/api/inngest", known="one"),
    "flow-py-cron": Kind("python_flow.py", "/cron/api/inngest", known="every-second"),
    "refused-py": Kind("refused.py", "/refused/cron/api/inngest"),
    "refused-js": Kind("refused.mjs", "/refused/cron/api/inngest"),
    "flow-js": Kind("app_flow.mjs", "/api/inngest", checkpoints=True, known="one"),
    "flow-js-cron": Kind("app_flow.mjs", "/cron/api/inngest", checkpoints=True, known="every-second"),
}
# Perdure's own SDK in other forms: for tests that ask for them.
EXTRA = {
    "own-stream": Kind("own_fastapi.py", "/stream/api/inngest", checkpoints=True, streams=True),
    "own-flask": Kind("own_flask.py", "/api/inngest", checkpoints=True),
    "own-plain": Kind("own_connect.py --plain", "/log", checkpoints=True, connects=True),
}
ALL = {**KINDS, **RULED, **EXTRA}

PYTHON = ("fastapi", "fastapi-sync", "fastapi-stream", "flask", "flask-async")
JS = tuple(app_id for app_id, kind in ALL.items() if kind.program.endswith(".mjs"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "apps(*ids): the apps a test runs on, instead of all")
    config.addinivalue_line(
        "markers", "synced: only apps that a server syncs, not those that connect or have an engine"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `app` runs once on each app, or on those of its `apps` mark."""
    if "app" not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker("apps")
    ids = mark.args if mark else tuple(KINDS)
    if metafunc.definition.get_closest_marker("synced"):
        ids = tuple(i for i in ids if not ALL[i].engine and not ALL[i].connects)
    params = [pytest.param(i, marks=[pytest.mark.node] if i in JS else [], id=i) for i in ids]
    metafunc.parametrize("app", params, indirect=True)


def command_of(program: str, port: int, server: str) -> list[str]:
    """The command line that serves one of the programs."""
    if program.endswith(".mjs"):
        node = shutil.which("node")
        if node is None:
            raise RuntimeError(
                "The tests of the JavaScript SDK need Node.js 20 or later; leave them out by -m 'not node'"
            )
        # Node.js before 22 has WebSockets only if it is told to.
        flags = ["--experimental-websocket"] if program.startswith("connect") else []
        start = [node, *flags, str(HERE / "js" / program)]
    else:
        name, *flags = program.split()
        start = [sys.executable, str(HERE / "apps" / name), *flags]
    return [*start, "--port", str(port), "--server", server]


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """The folder of the JavaScript SDKs, installed from the lock file if it is not there yet."""
    folder = HERE / "js" / "node_modules"
    if not (folder / "inngest").is_dir():
        npm = shutil.which("npm")
        if npm is None:
            raise RuntimeError("The tests of the JavaScript SDK need npm; leave them out by -m 'not node'")
        subprocess.run([npm, "ci"], cwd=folder.parent, check=True, timeout=300)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


Starter = Callable[..., App]


@pytest.fixture(scope="session")
def start_app(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Starter]:
    """Gives a function that starts one more process of a program and returns an app of it, not synced."""
    started: list[Process] = []

    def start(app_id: str, on: Server | None = None, env: dict[str, str] | None = None) -> App:
        kind = ALL[app_id]
        if app_id in JS:
            request.getfixturevalue("node_packages")
        port = free_port()
        target = on or server
        output = tmp_path_factory.mktemp("app") / "app.log"
        process = Process(command_of(kind.program, port, target.url), f"http://127.0.0.1:{port}", output, env)
        started.append(process)
        process.wait_ready(kind.path)
        return app_of(app_id, process, target)

    yield start
    for process in started:
        process.stop()


def app_of(app_id: str, process: Process, server: Server) -> App:
    """An app of a running process."""
    kind = ALL[app_id]
    if kind.engine:
        server = Server(process, path=kind.engine)
    return App(
        app_id, process, kind.path, server, js=app_id in JS,
        checkpoints=kind.checkpoints, streams=kind.streams, version=kind.version, connects=kind.connects,
        embeds=bool(kind.engine),
    )  # fmt: skip


@pytest.fixture(scope="session")
def apps(server: Server, start_app: Starter) -> Callable[[str], App]:
    """Gives an app by its id: started if nobody asked before, and synced."""
    processes: dict[str, Process] = {}
    synced: dict[str, App] = {}

    def get(app_id: str) -> App:
        if app_id not in synced:
            program = ALL[app_id].program
            if program not in processes:
                processes[program] = start_app(app_id).process
            app = app_of(app_id, processes[program], server)
            known = app.slug(ALL[app_id].known)
            if ALL[app_id].connects:
                until(f"{app_id} is connected", lambda: known in app.server.functions())
            elif not ALL[app_id].engine:
                answer = app.sync()
                assert answer.status_code == 200, answer.text
            assert known in app.server.functions()
            synced[app_id] = app
        return synced[app_id]

    return get


SELECTED = pytest.StashKey[dict[str, list[str]]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which apps each test function was selected for."""
    selected: dict[str, list[str]] = {}
    for item in session.items:
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "app" in item.callspec.params:
            selected.setdefault(function_name(item), []).append(str(item.callspec.params["app"]))
    session.config.stash[SELECTED] = selected


def function_name(item: pytest.Item) -> str:
    return item.nodeid.split("[")[0]


@pytest.fixture
def app(request: pytest.FixtureRequest, apps: Callable[[str], App]) -> App:
    """The app of the test, with its peers: the apps that the same test function runs on."""
    selected = request.config.stash[SELECTED][function_name(request.node)]
    own = apps(request.param)
    own.peers = [apps(app_id) for app_id in dict.fromkeys(selected)]
    return own


@pytest.fixture(scope="session")
def bare() -> Iterator[BareApp]:
    """The app without an SDK, for all tests."""
    app = BareApp()
    yield app
    app.close()


@pytest.fixture
def scripted(server: Server, bare: BareApp) -> Iterator[Callable[..., Scripted]]:
    """Gives a function that makes a scripted function; afterwards no call may have been beyond a script."""
    made: list[Scripted] = []

    def make(script: Any, **config: Any) -> Scripted:
        made.append(Scripted.make(server, bare, script, **config))
        return made[-1]

    yield make
    slugs = {one.slug for one in made}
    assert [call for call in bare.unexpected if call.query.get("fnId") in slugs] == []
