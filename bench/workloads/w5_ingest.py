"""W5: events accepted, one and 100 a request; with events that no function listens to, and with events that start one.

The load comes from wrk where it is installed, for it takes less of the machine than the server does; otherwise from
`bench.load`, which takes about as much as the server: its figures are then lower bounds. Runs are not waited for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.connection import Pool
from bench.measure import cpu_seconds
from bench.processes import BENCH, ROOT, python_module

SECONDS = 5
CONNECTIONS = 32
EVENTS = (1, 100)
WRK_COUNTS = re.compile(r"(\d+) requests in ([\d.]+)(m?)s")
WRK_REFUSED = re.compile(r"Non-2xx or 3xx responses: (\d+)")
PATH = "/e/bench"


async def measure(server_url: str, server_pid: int | None, event: str, label: str) -> dict[str, float]:
    """`w5_<label>_<events a request>_s` in events/s, `..._cpu_us` of the server an event, `..._refused` requests."""
    figures: dict[str, float] = {}
    for events in EVENTS:
        body = _body(event, events)
        await _check(server_url, body, events)
        before = cpu_seconds(server_pid) if server_pid else 0.0
        accepted, refused, seconds = post_for_a_while(server_url + PATH, body)
        key = f"w5_{label}_{events}"
        figures[f"{key}_s"] = accepted * events / seconds
        figures[f"{key}_refused"] = refused
        if server_pid and accepted:
            spent = cpu_seconds(server_pid) - before
            figures[f"{key}_cpu_us"] = spent / (accepted * events) * 1e6
    return figures


def _body(event: str, events: int) -> bytes:
    one = {"name": event, "data": {"i": 0, "customer": "c-1042", "amount": 1999, "tags": ["a", "b"]}}
    return json.dumps(one if events == 1 else [one] * events).encode()


async def _check(server_url: str, body: bytes, events: int) -> None:
    """Prove once that the load is what we say it is: every event gets an id of its own."""
    async with Pool(server_url, 1) as pool:
        answer = await pool.post(PATH, body)
    ids = json.loads(answer.body).get("ids", [])
    if answer.status != 200 or len(set(ids)) != events:
        raise RuntimeError(f"{events} events gave {answer.status} {answer.body[:300].decode()}")


def post_for_a_while(url: str, body: bytes) -> tuple[int, int, float]:
    """(requests answered 2xx, requests answered otherwise, seconds)."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body.json"
        file.write_bytes(body)
        if shutil.which("wrk"):
            return _with_wrk(url, file)
        command = python_module("bench.load", url, str(SECONDS), str(CONNECTIONS), str(file))
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    counts = json.loads(done.stdout)
    return counts["ok"], counts["other"], counts["seconds"]


def _with_wrk(url: str, body: Path) -> tuple[int, int, float]:
    script = str(BENCH / "workloads" / "post.lua")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", script, url]
    environment = {**os.environ, "BENCH_BODY": str(body)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    counts, refused = WRK_COUNTS.search(done.stdout), WRK_REFUSED.search(done.stdout)
    if counts is None:
        raise RuntimeError(f"wrk said something unexpected:\n{done.stdout}{done.stderr}")
    bad = int(refused[1]) if refused else 0
    return int(counts[1]) - bad, bad, float(counts[2]) * (0.001 if counts[3] else 1)
