"""The scripts as commands: running transcripts through, the old way, and a host that kills its workers."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from examples.opportunity_tracker import run_transcript
from examples.opportunity_tracker.serverless_host import create_host
from tests.example.conftest import SUMMARY, Gemini, Running, Said
from tests.repo.running import free_port, request, started, wait_for

ROOT = Path(__file__).resolve().parents[2]
Output = pytest.CaptureFixture[str]


def test_samples_and_files(app: Running, fresh_gemini: Gemini, tmp_path: Path, capsys: Output) -> None:
    own = tmp_path / "own.txt"
    own.write_text("Buyer: Hello.")
    assert run_transcript.main(["short", "messy.txt", str(own), "--app", app.url]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"^(\S+): call \w+, pending", printed, re.MULTILINE) == ["short", "messy.txt", str(own)]
    assert printed.count("2 participants, 1 pain points, 1 next steps, 1 objections") == 3
    assert [asked["contents"][0]["parts"][0]["text"] for asked in fresh_gemini.requests][2] == "Buyer: Hello."


def test_a_call_that_fails(app: Running, fresh_gemini: Gemini, capsys: Output) -> None:
    fresh_gemini.say(Said({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert run_transcript.main(["short", "--app", app.url]) == 1
    assert "short: parsing failed: Gemini refused" in capsys.readouterr().err


def test_a_call_that_takes_too_long(app: Running, fresh_gemini: Gemini, capsys: Output) -> None:
    fresh_gemini.say(Said({}, after=1.5))
    assert run_transcript.main(["short", "--app", app.url, "--timeout", "0.5"]) == 1
    printed = capsys.readouterr()
    assert "after 0.5 s" in printed.err
    (call_id,) = re.findall(r"call (\w+), pending", printed.out)
    app.settled(call_id, "completed")


def test_a_result_that_is_not_whole(app: Running, fresh_gemini: Gemini, capsys: Output) -> None:
    call_id = app.upload()
    call = app.settled(call_id, "completed")
    broken: dict[str, Any] = {**call, "summary": {**SUMMARY, "sentiment": "so-so"}}
    with pytest.raises(run_transcript.Wrong, match="not complete"):
        run_transcript.check(app.http, broken)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [["none-such"], ["short", "--app", f"http://127.0.0.1:{free_port()}"]])
def test_what_cannot_be_run(app: Running, capsys: Output, arguments: list[str]) -> None:
    assert run_transcript.main(["--app", app.url, *arguments]) == 1
    said = capsys.readouterr().err
    assert "there is no such file" in said or "cannot be reached" in said


Process = Callable[..., tuple[str, Path]]


@pytest.fixture
def serve(tmp_path: Path, gemini: Gemini, server: Any) -> Iterator[Process]:
    """Gives a function that starts a module with these arguments; its URL, and its output."""
    with ExitStack() as stack:

        def begin(*arguments: str) -> tuple[str, Path]:
            port, log = free_port(), tmp_path / "log"
            environment = {
                "PYTHONPATH": str(ROOT),
                "DATABASE_URL": f"sqlite:///{tmp_path / 'tracker.db'}",
                "TRACKER_MODEL": "gemini",
                "GEMINI_API_KEY": "test-key",
                "GEMINI_BASE_URL": gemini.url,
                "PERDURE_URL": server.url,
            }
            command = [sys.executable, "-m", *arguments, "--port", str(port)]
            stack.enter_context(started(command, tmp_path, log, environment))
            url = f"http://127.0.0.1:{port}"
            wait_for("an answer", lambda: request(f"{url}/health"), 20, log)
            return url, log

        yield begin


def upload(url: str) -> str:
    return str(request(f"{url}/api/calls", {"transcript": "Buyer: Hello."})["id"])


def test_the_old_way_works_while_nothing_happens(serve: Process, fresh_gemini: Gemini) -> None:
    url, log = serve("uvicorn", "--factory", "examples.opportunity_tracker.old_way:create_app")
    call_id = upload(url)
    ended = ("completed", "failed")
    wait_for("the end", lambda: request(f"{url}/api/calls/{call_id}")["status"] in ended, 20, log)
    assert request(f"{url}/api/calls/{call_id}")["summary"] == SUMMARY


def test_the_old_way_fails_at_the_first_passing_error(serve: Process, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(Said("{}", 503))
    url, log = serve("uvicorn", "--factory", "examples.opportunity_tracker.old_way:create_app")
    call_id = upload(url)
    wait_for("the end", lambda: request(f"{url}/api/calls/{call_id}")["status"] == "failed", 20, log)


def test_a_host_passes_requests_on_and_kills_who_answered(serve: Process, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import asyncio, os, pathlib\n"
        "from fastapi import BackgroundTasks, FastAPI, Request\n"
        "web = FastAPI()\n"
        "async def later():\n"
        "    await asyncio.sleep(0.5)\n"
        "    pathlib.Path('later').write_text('done')\n"
        "@web.get('/health')\n"
        "def health(): return {'pid': os.getpid()}\n"
        "@web.post('/work')\n"
        "async def work(request: Request, tasks: BackgroundTasks, n: int = 0):\n"
        "    tasks.add_task(later)\n"
        "    body = await request.json()\n"
        "    return {'n': n, 'body': body, 'pid': os.getpid(), 'who': request.headers['host']}\n"
        "def create(): return web\n"
    )
    url, log = serve("examples.opportunity_tracker.serverless_host", "--app", "mine:create")
    answer = request(f"{url}/work?n=3", {"a": ["b"]})
    assert (answer["n"], answer["body"], answer["who"]) == (3, {"a": ["b"]}, url.removeprefix("http://"))
    # It was killed before its answer came through, so that nothing is left to be done later.
    assert not Path(f"/proc/{answer['pid']}").exists()
    others = {request(f"{url}/health")["pid"] for _ in range(2)}
    assert len(others | {answer["pid"]}) == 3
    assert not (tmp_path / "later").exists()
    assert log.read_text() == ""


async def test_a_host_says_when_a_worker_does_not_start(capfd: Output) -> None:
    host = create_host("nothing:create")
    async with host.router.lifespan_context(host):
        transport = httpx2.ASGITransport(host)
        async with httpx2.AsyncClient(transport=transport, base_url="http://host") as http:
            answer = await http.get("/health")
    assert answer.status_code == 502
    assert "before it was ready" in answer.text
    assert 'Could not import module "nothing"' in capfd.readouterr().err
