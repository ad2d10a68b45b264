"""Starts servers and apps as processes of their own, and speaks to both over HTTP as a person's code would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

HERE = Path(__file__).parent
PERDURE = Path(sys.executable).parent / "perdure"
ENDED = frozenset({"Completed", "Failed", "Cancelled", "Skipped"})
POLL_S = 0.02
PATIENCE_S = 20.0

T = TypeVar("T")


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: str, look: Callable[[], T | None], timeout: float = PATIENCE_S) -> T:
    """Call `look` until it gives something truthy, and return that.

    Raises AssertionError naming `what` and the last thing seen after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout:g} s; last seen: {seen!r}")
        time.sleep(POLL_S)


class Process:
    """A child process with its output in a file, ready when `url` answers."""

    def __init__(
        self, command: Sequence[str], url: str, output: Path, env: dict[str, str] | None = None
    ) -> None:
        self.url = url
        self.output = output
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INNGEST_")}
        with output.open("wb") as sink:
            self._child = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env={**clean, **(env or {})}, cwd=HERE
            )

    def wait_ready(self, path: str, timeout: float = PATIENCE_S) -> None:
        """Wait for an answer of any status on `path`."""

        def answers() -> bool:
            if self._child.poll() is not None:
                raise AssertionError(f"exited with {self._child.returncode}:\n{self.tail()}")
            try:
                httpx.get(self.url + path, timeout=2)
            except httpx.TransportError:
                return False
            return True

        until(f"an answer of {self.url}{path}", answers, timeout)

    def tail(self, lines: int = 40) -> str:
        """The end of what it printed."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def kill(self) -> None:
        """SIGKILL, which nothing can catch."""
        self._child.kill()
        self._child.wait()

    def terminate(self, timeout: float = 15) -> int:
        """SIGTERM; the code with which it ended. Raises subprocess.TimeoutExpired if it did not."""
        self._child.terminate()
        return self._child.wait(timeout)

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 10 seconds."""
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Server:
    """A running Perdure, and the calls of its HTTP API that the tests use."""

    def __init__(
        self, process: Process, token: str | None = None, event_key: str = "test", path: str = ""
    ) -> None:
        self.process = process
        self.url = process.url + path
        self.event_key = event_key
        self._ids: dict[str, str] = {}
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=30)

    @classmethod
    def start(
        cls,
        folder: Path,
        *flags: str,
        token: str | None = None,
        event_key: str = "test",
        port: int | None = None,
    ) -> Server:
        """`perdure dev` on a free port (or `port`) with its data below `folder`, retries after 1 second."""
        port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            str(PERDURE), "dev", "--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder / "data"),
            "--no-discovery", "--no-poll", "--no-open", "--retry-interval", "1", *flags,
        ]  # fmt: skip
        process = Process(command, f"http://127.0.0.1:{port}", folder / "server.log")
        process.wait_ready("/health")
        return cls(process, token, event_key)

    def stop(self) -> None:
        self.http.close()
        self.process.stop()

    def send(self, *events: dict[str, Any], headers: dict[str, str] | None = None) -> list[str]:
        """Send events in one request; their internal ids, in order."""
        answer = self.http.post(f"/e/{self.event_key}", json=list(events), headers=headers)
        assert answer.status_code == 200, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids

    def functions(self) -> dict[str, dict[str, Any]]:
        """Functions by slug, as the server knows them."""
        return {function["slug"]: function for function in self.http.get("/dev").json()["functions"]}

    def runs(self, event_id: str) -> list[dict[str, Any]]:
        """Runs that an event started."""
        answer = self.http.get(f"/v1/events/{event_id}/runs")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def run(self, run_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/runs/{run_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["data"])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Stored events of a name, newest first, at most 50."""
        answer = self.http.get("/v1/events", params={"name": name, "limit": 50})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"])

    def cancel(self, run_id: str) -> int:
        return self.http.delete(f"/v1/runs/{run_id}").status_code

    def run_of(self, event_id: str, slug: str, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """The run of function `slug` that the event started, as soon as there is one."""
        if slug not in self._ids:
            self._ids = {slug: function["id"] for slug, function in self.functions().items()}
        own = self._ids[slug]
        return until(
            f"a run of {slug}",
            lambda: next((run for run in self.runs(event_id) if run["function_id"] == own), None),
            timeout,
        )

    def ended(self, run_id: str, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """The run, once it has ended."""

        def look() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["status"] in ENDED else None

        return until(f"the end of run {run_id}", look, timeout)


@dataclass(frozen=True)
class Sent:
    """An event on its way: the test's key in its data, and the server's id of it."""

    key: str
    event_id: str


@dataclass(frozen=True)
class Log:
    """What an app noted for one key: calls it got, lines of user code, requests its SDK made."""

    calls: list[dict[str, Any]]
    notes: list[dict[str, Any]]
    posts: list[dict[str, Any]] = field(default_factory=list)

    def of_run(self, run_id: str) -> Log:
        """Only what belongs to one run; not what its end started."""
        return Log(
            *(
                [line for line in lines if line["run"] == run_id]
                for lines in (self.calls, self.notes, self.posts)
            )
        )

    def steps(self) -> list[str]:
        """Names of what ran, in order."""
        return [note["step"] for note in self.notes]

    def attempts(self, step: str) -> list[int]:
        return [note["attempt"] for note in self.notes if note["step"] == step]

    def at(self, step: str) -> list[float]:
        """When a step ran, in seconds since the epoch."""
        return [note["at"] for note in self.notes if note["step"] == step]

    def ops(self) -> list[str]:
        """Opcodes of all replies, in order."""
        return [op for call in self.calls for op in call.get("ops") or []]

    def checkpoints(self) -> list[dict[str, Any]]:
        return [post for post in self.posts if "/checkpoint/" in post["url"]]


@dataclass(frozen=True)
class Ended:
    """A finished run, and what its app noted of it."""

    key: str
    event_id: str
    run_id: str
    status: str
    output: Any
    log: Log


@dataclass
class App:
    """An app on an official SDK: the functions of `tests/sdk/apps` or `tests/sdk/js`."""

    app_id: str
    process: Process
    path: str
    server: Server
    js: bool
    checkpoints: bool = False
    streams: bool = False
    version: int = 2
    """Version of the execution protocol that its SDK answers with."""
    connects: bool = False
    """Whether it is called over a WebSocket that it has opened."""
    embeds: bool = False
    """Whether it has the engine in its own process."""
    peers: list[App] = field(default_factory=list)
    """The apps, itself among them, that the running test function runs on."""
    started: dict[str, Sent] = field(default_factory=dict)
    """Events that a peer has sent already on behalf of this app, by function."""

    @property
    def url(self) -> str:
        return self.process.url + self.path

    def slug(self, fn: str) -> str:
        return f"{self.app_id}-{fn}"

    def sync(self) -> httpx.Response:
        """PUT, as a person or the server does it."""
        return httpx.put(self.url, headers={"X-Inngest-Server-Kind": "dev"}, timeout=10)

    def trigger(
        self, fn: str, *, event: str | None = None, fields: dict[str, Any] | None = None, **data: Any
    ) -> Sent:
        """Send the event of function `fn` (or another `event` of this app) with a new key in its data.

        `fields` go beside `name` and `data`.
        """
        key = data.setdefault("key", uuid.uuid4().hex)
        ids = self.server.send({"name": f"{self.app_id}/{event or fn}", "data": data, **(fields or {})})
        return Sent(key, ids[0])

    def wait(self, sent: Sent, fn: str, patience: float = PATIENCE_S) -> Ended:
        """Wait until the run of `fn` that `sent` started has ended; `patience` in seconds for each half of the way."""
        try:
            run = self.server.run_of(sent.event_id, self.slug(fn), patience)
            run = self.server.ended(run["run_id"], patience)
        except AssertionError as err:
            raise AssertionError(
                f"{err}\nlog: {self.log(sent.key)}\nserver: {self.server.process.tail()}"
            ) from None
        log = self.log(sent.key).of_run(run["run_id"])
        return Ended(sent.key, sent.event_id, run["run_id"], run["status"], run.get("output"), log)

    def run(self, fn: str, patience: float = PATIENCE_S, **data: Any) -> Ended:
        """`trigger`, then `wait`."""
        return self.wait(self.trigger(fn, **data), fn, patience)

    def run_among_peers(self, fn: str, **data: Any) -> Ended:
        """`run` for a test that runs on several apps: the first to ask starts `fn` on all of them.

        So their waiting overlaps. The data must be the same for all.
        """
        if fn not in self.started:
            for peer in self.peers:
                peer.started[fn] = peer.trigger(fn, **data)
        return self.wait(self.started.pop(fn), fn)

    def log(self, key: str) -> Log:
        lines = httpx.get(f"{self.process.url}/log", params={"key": key}, timeout=10).json()
        return Log(**lines)

    def saw(self, key: str, what: str, look: Callable[[Log], Any], timeout: float = PATIENCE_S) -> Any:
        """Wait until the app's log shows something."""
        return until(what, lambda: look(self.log(key)), timeout)

    def paused(self, sent: Sent, op: str, timeout: float = PATIENCE_S) -> None:
        """Wait until the app has answered with `op` and the server has surely taken it."""
        self.saw(sent.key, f"an answer with {op}", lambda log: op in log.ops(), timeout)
        time.sleep(0.25)


def runs_by_function(runs: Iterable[dict[str, Any]]) -> dict[str, int]:
    """How many runs each function id has."""
    counts: dict[str, int] = {}
    for run in runs:
        counts[run["function_id"]] = counts.get(run["function_id"], 0) + 1
    return counts
