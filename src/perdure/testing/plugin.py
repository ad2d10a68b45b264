"""The pytest plugin: the fixture `jobs`, and the timelines of runs under a test that has failed.

It is loaded in each pytest session of an environment that has Perdure, so it loads nothing before it is asked for.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from perdure.sdk.app import App
    from perdure.testing.looking import Looking
    from perdure.testing.server import Server
    from perdure.testing.sync_server import SyncServer

INI = "perdure_app"
_SERVERS: pytest.StashKey[list[Looking]] = pytest.StashKey()
MOST_SHOWN = 20
"""Runs whose timelines are shown under a failed test."""

_HOW = (
    f'Say which app `jobs` is to run: `{INI} = "shop:app"` in the [tool.pytest.ini_options] of pyproject.toml, or a '
    "fixture of that name that returns the app (or a list of apps)."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The setting in pyproject.toml or pytest.ini."""
    parser.addini(
        INI, "The perdure.App that the fixture `jobs` runs, as module:name. Several separated by spaces."
    )


@pytest.fixture
def perdure_app(request: pytest.FixtureRequest) -> App | list[App]:
    """The app that `jobs` runs, as the setting names it. Override this fixture to make one for each test."""
    names = str(request.config.getini(INI) or "").split()
    if not names:
        pytest.fail(_HOW, pytrace=False)
    return [_load(name) for name in names]


@pytest.fixture
def jobs(request: pytest.FixtureRequest, perdure_app: App | list[App]) -> Iterator[Server | SyncServer]:
    """A server in this process, on a clock that stands still: `Server` in async tests, `SyncServer` in others.

    `@pytest.mark.jobs(now="2030-01-07T09:00:00Z", schedules=False)` gives it options.
    """
    from perdure.testing.server import Server
    from perdure.testing.sync_server import SyncServer

    apps = perdure_app if isinstance(perdure_app, list | tuple) else [perdure_app]
    marker = request.node.get_closest_marker("jobs")
    options = {} if marker is None else marker.kwargs
    stash = request.node.stash.setdefault(_SERVERS, [])
    if not inspect.iscoroutinefunction(inspect.unwrap(request.function)):
        with SyncServer(*apps, **options) as plain:
            stash.append(plain)
            yield plain
        return
    server = Server(*apps, **options)
    stash.append(server)
    server._engine.open()
    try:
        yield server
    finally:
        server._engine.close_without_loop()
    server._check_stand_ins()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "jobs(now=..., patience=..., schedules=...): options of the fixture `jobs` of Perdure."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the timelines under a test that has failed."""
    report = yield
    if call.when == "call" and report.failed:
        for server in item.stash.get(_SERVERS, []):
            text = _timelines(server)
            if text:
                report.sections.append(("Runs of this test", text))
    return report


def _timelines(server: Looking) -> str:
    try:
        runs = server.runs()
        shown = [run.timeline() for run in runs[-MOST_SHOWN:]]
    except Exception as error:
        return f"The runs cannot be shown: {type(error).__name__}: {error}"
    left = f"({len(runs) - MOST_SHOWN} earlier runs are not shown)\n\n" if len(runs) > MOST_SHOWN else ""
    return left + "\n\n".join(shown)


def _load(name: str) -> Any:
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in (path or "app").split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{INI} = {name!r} cannot be loaded: {error}. {_HOW}", pytrace=False)
    return found
