"""The types of `perdure.testing` say what is right, and refuse what is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

CODE = """
    from __future__ import annotations
    import dataclasses
    from decimal import Decimal
    from typing import assert_type
    import perdure
    import perdure.testing

    app = perdure.App("typed")

    @dataclasses.dataclass
    class Order:
        id: int

    @app.function(perdure.event("typed/ordered", Order))
    async def fulfil(order: Order, step: perdure.Step) -> Decimal:
        return Decimal(order.id)

    @app.function(perdure.cron("0 9 * * *"))
    def every_day(step: perdure.SyncStep) -> str:
        return ""

    async def test_async(jobs: perdure.testing.Server) -> None:
        run = await jobs.start(fulfil, Order(1))
        assert_type(run, perdure.testing.Run[Decimal])
        assert_type(run.output, Decimal)
        assert_type(await jobs.finish(run), perdure.testing.Run[Decimal])
        assert_type((await jobs.rerun(run)).output, Decimal)
        assert_type(jobs.runs(fulfil), list[perdure.testing.Run[Decimal]])
        assert_type((await jobs.start(every_day)).output, str)
        assert_type(run.assert_completed(), perdure.testing.Run[Decimal])
        await jobs.start(fulfil, {"id": 1})  # wrong
        await jobs.advance(None)  # wrong
        jobs.runs(status="done")  # wrong

    def test_plain(jobs: perdure.testing.SyncServer) -> None:
        run = jobs.start(fulfil, Order(1))
        assert_type(run.output, Decimal)
        jobs.start(fulfil, 3)  # wrong
        jobs.advance("1h").x  # wrong
        run.status == "complete"  # wrong
"""
ERROR = re.compile(r":(\d+):(?:\d+:)? error:|:(\d+):\d+ - error:")


def test_mypy_and_pyright(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(dedent(CODE).lstrip())
    wrong = {
        number for number, line in enumerate(path.read_text().splitlines(), 1) if line.endswith("# wrong")
    }
    mypy = ["mypy", "--strict", "--no-error-summary", "--no-pretty", "--strict-equality", str(path)]
    pyright = ["pyright", "--pythonpath", sys.executable, str(path)]
    (tmp_path / "pyrightconfig.json").write_text('{"reportUnnecessaryComparison": "error"}')
    for command in (mypy, [*pyright[:1], "--project", str(tmp_path), *pyright[1:3]]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        found = {int(one or other) for one, other in ERROR.findall(done.stdout)}
        assert found == wrong, done.stdout + done.stderr
