"""The pytest plugin, run as a user runs it: an app and its tests in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import dedent

import pytest

APP = """
    import dataclasses
    import perdure

    app = perdure.App("tiny")

    @dataclasses.dataclass
    class Order:
        id: int

    ordered = perdure.event("tiny/ordered", Order)

    def charge(order_id: int) -> str:
        return f"receipt-{order_id}"

    @app.function(ordered)
    async def fulfil(order: Order, step: perdure.Step) -> str:
        receipt = await step.run("charge", charge, order.id)
        await step.sleep("rest", "30d")
        return receipt
"""
SETTINGS = """
    [tool.pytest.ini_options]
    perdure_app = "tiny:app"
    asyncio_mode = "strict"
    asyncio_default_fixture_loop_scope = "function"
    pythonpath = ["."]
    filterwarnings = ["error"]
"""


OWN_APP = """
        import pytest, perdure
        from perdure.testing import SyncServer

        @pytest.fixture
        def perdure_app() -> perdure.App:
            app = perdure.App("mine")

            @app.function("go")
            async def go(data: dict[str, int], step: perdure.Step) -> int:
                return data["n"] + 1

            return app

        def test_plain(jobs: SyncServer) -> None:
            (run,) = jobs.send(perdure.Event("go", {"n": 1}))
            assert (run.function, run.output) == ("mine-go", 2)
"""
FIRST = """
        import sys

        LOADED = {"perdure.shard", "perdure.testing.engine", "apsw"} & set(sys.modules)

        def test_nothing_is_loaded_before_it_is_needed() -> None:
            assert LOADED == set()
"""


class Project:
    """A folder with an app, and pytest in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path) -> Project:
        """A tiny one."""
        project = cls(folder)
        project.write("pyproject.toml", SETTINGS)
        project.write("tiny.py", APP)
        return project

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(dedent(text))

    def run(self, tests: str) -> tuple[int, str]:
        """Exit code and output of these tests."""
        self.write("test_tiny.py", tests)
        return self.pytest()

    def pytest(self) -> tuple[int, str]:
        """Exit code and output of all tests."""
        installed = any(one.value == "perdure.testing.plugin" for one in entry_points(group="pytest11"))
        named = [] if installed else ["-p", "perdure.testing.plugin"]
        command = [sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider"]
        env = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.make(tmp_path)


def test_all_kinds_of_tests(project: Project) -> None:
    project.write("test_a_first.py", FIRST)
    project.write("test_own_app.py", OWN_APP)
    code, out = project.run(
        """
        import pytest
        from perdure.testing import Server, SyncServer
        from tiny import Order, app, fulfil

        def test_plain(jobs: SyncServer) -> None:
            run = jobs.start(fulfil, Order(1))
            jobs.advance("30d")
            assert run.output == "receipt-1"

        @pytest.mark.asyncio
        async def test_with_pytest_asyncio(jobs: Server) -> None:
            run = await jobs.start(fulfil, Order(2))
            await jobs.advance("30d")
            assert run.output == "receipt-2"

        @pytest.fixture
        def anyio_backend() -> str:
            return "asyncio"

        @pytest.mark.anyio
        async def test_with_anyio(jobs: Server) -> None:
            (run,) = await jobs.send(Order(3))
            assert (await jobs.finish(run)).output == "receipt-3"

        @pytest.mark.anyio
        async def test_that_sends_by_the_app_first(jobs: Server) -> None:
            await app.send(Order(4))
            await jobs.settle()
            assert len(jobs.runs(fulfil)) == 1

        class TestInAClass:
            @pytest.mark.jobs(now="2030-01-07T00:00:00Z", schedules=False)
            def test_with_options(self, jobs: SyncServer) -> None:
                assert jobs.now.year == 2030
                assert jobs.runs() == [], "nothing is left of other tests"

            @pytest.mark.asyncio
            async def test_unused(self, jobs: Server) -> None:
                assert jobs.runs() == []
        """
    )
    assert (code, "8 passed" in out) == (0, True), out


def test_a_failed_test_shows_the_runs(project: Project) -> None:
    code, out = project.run(
        """
        import pytest
        from perdure.testing import Server, SyncServer
        from tiny import Order, fulfil

        def test_plain(jobs: SyncServer) -> None:
            run = jobs.start(fulfil, Order(1))
            assert run.status == "completed"

        @pytest.mark.asyncio
        async def test_async(jobs: Server) -> None:
            run = await jobs.start(fulfil, Order(2))
            run.assert_completed()

        def test_with_a_misspelt_step(jobs: SyncServer) -> None:
            jobs.mock_step(fulfil, "chargee", returns="x")
        """
    )
    assert code == 1
    assert "3 failed" in out, out
    assert 'tiny-fulfil has no step "chargee" in its code. Did you mean "charge"?' in out
    assert "Runs of this test" in out
    assert '✓ charge  run      "receipt-1"' in out
    assert "The run of tiny-fulfil should have completed." in out
    assert "● rest    sleep    waiting" in out


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("", "Say which app `jobs` is to run"),
        ("nothing:app", "perdure_app = 'nothing:app' cannot be loaded: No module named 'nothing'"),
    ],
)
def test_a_wrong_setting(project: Project, setting: str, told: str) -> None:
    project.write("pyproject.toml", SETTINGS.replace("tiny:app", setting))
    code, out = project.run("def test_plain(jobs) -> None: ...")
    assert code == 1
    assert told in out, out
