"""What a failed assertion shows."""

from __future__ import annotations

import re
from typing import Any

import perdure
from perdure.testing import SyncServer

app = perdure.App("shown")


def works() -> dict[str, str]:
    return {"text": "x" * 200}


def fails() -> None:
    raise ValueError("no\n  luck")


@app.function("shown/go", retries=1)
async def go(data: dict[str, Any], step: perdure.Step) -> None:
    await step.run("works", works)
    await step.sleep("rest", "2d3h")
    for _ in range(2):
        await step.run("again", lambda: None)
    await step.wait_for_event("wait", "shown/other", timeout="1h", when="async.data.n > 1")
    await step.run("fails", fails)


def test_all_of_it() -> None:
    with SyncServer(app, now="2030-01-07T00:00:00Z") as server:
        run = server.start(go, {"n": 1})
        assert run.timeline() == (
            "● shown-go running\n"
            '  event   shown/go {"n":1}\n'
            "  began   2030-01-07 00:00:00; it is 2030-01-07 00:00:00\n"
            f'  +0s ✓ works  run      {{"text":"{"x" * 90}…\n'
            "      ● rest   sleep    waiting\n"
            "  waits   sleep in rest, until 2030-01-09 03:00:00"
        )
        server.advance("51h")
        assert run.timeline().splitlines()[-1] == (
            "  waits   event shown/other in wait if async.data.n > 1, until 2030-01-09 04:00:00"
        )
        server.finish(run)
        lines = run.timeline().splitlines()
    assert lines[0] == "✗ shown-go failed"
    assert re.fullmatch(
        r"  began   2030-01-07 00:00:00; it is 2030-01-09 04:00:\d\d, 2d4h\d+s later", lines[2]
    )
    assert [line.split(maxsplit=1)[1] for line in lines[4:8]] == [
        "✓ rest      sleep",
        "✓ again     run      null",
        "✓ again #1  run      null",
        "✓ wait      wait_for_event nothing came in time",
    ]
    assert lines[8].split(maxsplit=1)[1] == "✗ fails     run      ValueError: no luck"
    assert lines[9].strip() == "attempt 1 at +2d4h: ValueError: no luck"
    assert lines[10] == "  error   ValueError: no luck"
    assert re.fullmatch(r'          File ".*test_timeline.py", line \d+, in fails', lines[11])
    assert lines[12].strip().startswith('raise ValueError("no')
    assert len(lines) == 13
