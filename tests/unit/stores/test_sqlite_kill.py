"""Killed in the middle of commits, again and again: what was acknowledged is there, and only whole batches are."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from perdure.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[3]

COMMITTER = """
import asyncio, sys
from perdure.stores.sqlite import SqliteSettings, SqliteStore
from tests.contract.rows import changes, commit, history, item, run, step

async def main():
    store = SqliteStore.open(sys.argv[1], SqliteSettings(log_bytes=200_000))
    epoch = await store.claim(0)
    number = int(sys.argv[2])
    while True:
        number += 1
        size = (1, 5, 300)[number % 3]
        ids = [f"b-{number}-{n}" for n in range(size)]
        rows = [row for id in ids for row in (run(id), item(id), step(id), history(id, 2))]
        await commit(store, epoch, changes(*rows))
        print(number, flush=True)

asyncio.run(main())
"""


async def check(path: Path, acknowledged: int) -> int:
    """Look at every batch; give back the number of the last that is there."""
    store = SqliteStore.open(path)
    present = acknowledged
    try:
        for number in range(1, acknowledged + 3):
            ids = [f"b-{number}-{n}" for n in range((1, 5, 300)[number % 3])]
            stored = await store.load_runs(0, ids)
            assert len(stored) in (0, len(ids)), f"batch {number} is there in part"
            assert all(run.items and run.steps and run.last_n == 2 for run in stored.values())
            if number <= acknowledged:
                assert stored, f"batch {number} was acknowledged and is gone"
            elif stored:
                present = number
        assert present <= acknowledged + 1
    finally:
        await store.close()
    return present


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path):
    path = tmp_path / "perdure.db"
    dice = random.Random(4)
    number = 0
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMITTER, path, str(number)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(number + 1)
        time.sleep(dice.uniform(0.05, 0.3))
        process.kill()
        lines = process.stdout.read().splitlines()
        process.wait()
        acknowledged = int(lines[-1]) if lines else number + 1
        number = await check(path, acknowledged)
    assert number > 20
