"""`make run`: the server and the example app in one terminal, until Ctrl-C.

What the app needs of the world and this machine lacks has a stand-in beside them: the demo model, if there is no
GEMINI_API_KEY, and a mail server that catches mail, if there is no SMTP_HOST.

All are child processes in sessions of their own, so that Ctrl-C reaches only this one: it stops the server first,
while the app can still answer the calls under way, and then the others. One that ends by itself, or is killed to see
what happens, is started again; one that ends three times as soon as it has started is reported, and all stops.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
JOB = "Parse a call transcript"
# Ports that the server looks at by itself, so that an app there is found without being named.
USUAL_APP_PORTS: tuple[int, ...] = (
    8000,
    8080,
    8081,
    8787,
    8888,
    *range(8910, 8916),
    *range(3000, 3011),
    5000,
)
STAND_IN_PORTS = range(8301, 8400)
EXAMPLE = "examples.opportunity_tracker"
DEFAULT_PORT = 8288
"""Where the server and its commands look for each other if nobody says otherwise."""
READY_SECONDS = 30.0
APP_SECONDS = 10.0
# The server gives calls under way 10 s to end when it is told to stop.
STOP_SECONDS = {"perdure": 15.0, "app": 5.0, "model": 2.0, "mail": 2.0}
QUICK_SECONDS = 5.0
QUICK_ENDS = 3
COLOURS = {"perdure": "\033[36m", "app": "\033[35m", "model": "\033[33m", "mail": "\033[33m"}


def main() -> None:
    """Check the ports, then run all until told to stop."""
    parser = argparse.ArgumentParser(
        description="Start the server and the example app. Other options go to `perdure dev`."
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="where the server listens")
    parser.add_argument("--app-port", type=int, help="where the app listens (the first free usual one)")
    parser.add_argument("--data-dir", default=".perdure", help="where the server and the app keep their data")
    chosen, server_args = parser.parse_known_args()
    check_server_port(chosen.port)
    app_port = pick_app_port(chosen.app_port, chosen.port)
    example = Example(chosen.port, app_port, chosen.data_dir, server_args)
    sys.exit(asyncio.run(example.run()))


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of this machine, and nobody does, on either kind of address."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                return False
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def check_server_port(port: int) -> None:
    """Exit with what to do if the server's port is taken."""
    if is_free(port):
        return
    try:
        info = fetch(f"http://127.0.0.1:{port}/dev")
        who = (
            f"a server of this protocol (version {info['version']})"
            if info.get("version")
            else "another program"
        )
    except (OSError, ValueError, KeyError, AttributeError):
        who = "another program"
    sys.exit(
        f"Port {port} is taken by {who}. Nothing was started. Either stop it (if it is a `make run` in another\n"
        f"terminal: Ctrl-C there; to see what it is: lsof -i :{port}), or use another port:\n"
        f"  make run PORT={port + 10}"
    )


def pick_app_port(wanted: int | None, server_port: int) -> int:
    """The port for the app. Exits with what to do if the wanted one, or every usual one, is taken."""
    if wanted is not None:
        if wanted in (server_port, server_port + 1) or not is_free(wanted):
            sys.exit(
                f"Port {wanted} for the example app is taken. Nothing was started. Use another: make run APP_PORT=8001"
            )
        return wanted
    # The port above the server's is that of its gateway for workers.
    for port in USUAL_APP_PORTS:
        if port not in (server_port, server_port + 1) and is_free(port):
            return port
    sys.exit(
        "Every usual port for an app is taken. Nothing was started. Name a free one: make run APP_PORT=9000"
    )


def fetch(url: str) -> dict[str, object]:
    """GET a JSON object. Raises OSError or ValueError."""
    with urllib.request.urlopen(url, timeout=2) as answer:
        body = json.loads(answer.read())
    if not isinstance(body, dict):
        raise ValueError(f"{url} did not answer with an object")
    return body


def free_stand_in_ports(*taken: int) -> Iterator[int]:
    """Ports on which nobody listens."""
    return (port for port in STAND_IN_PORTS if port not in taken and is_free(port))


class Example:
    """The processes, kept running."""

    def __init__(self, port: int, app_port: int, data_dir: str, server_args: Sequence[str] = ()) -> None:
        self.port = port
        self.app_port = app_port
        self.data_dir = data_dir
        self.server_args = server_args
        ports = free_stand_in_ports(port, app_port)
        model = os.environ.get("TRACKER_MODEL") or ("gemini" if os.environ.get("GEMINI_API_KEY") else "demo")
        self.model = model
        self.model_port = next(ports) if model == "demo" else None
        self.mail_port = None if os.environ.get("SMTP_HOST") else next(ports)
        self.children: dict[str, asyncio.subprocess.Process] = {}
        self.stopping = asyncio.Event()
        self.signals = 0
        self.width = max(map(len, COLOURS))
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def say(self, name: str, text: str) -> None:
        """Print one line, with the name of who says it in front."""
        label = f"{name:<{self.width}} |"
        if self.coloured and name in COLOURS:
            label = f"{COLOURS[name]}{label}\033[0m"
        print(f"{label} {text}", flush=True)

    def commands(self) -> dict[str, Sequence[str]]:
        """The command line of each process."""
        app_url = f"http://127.0.0.1:{self.app_port}/api/inngest"
        return {
            "app": (
                sys.executable, "-m", "uvicorn", "--factory", f"{EXAMPLE}.app:create_app",
                "--host", "127.0.0.1", "--port", str(self.app_port), "--log-level", "warning",
            ),
            "perdure": (
                str(Path(sys.executable).with_name("perdure")), "dev", "--no-open", "--port", str(self.port),
                "--data-dir", self.data_dir, "--sdk-url", app_url, *self.server_args,
            ),
            **self.stand_ins(),
        }  # fmt: skip

    def stand_ins(self) -> dict[str, Sequence[str]]:
        """The command lines of what stands in for Gemini and for a mail server, as far as that is needed."""
        found: dict[str, Sequence[str]] = {}
        if self.model_port is not None:
            found["model"] = (sys.executable, "-m", f"{EXAMPLE}.demo_model", "--port", str(self.model_port))
        if self.mail_port is not None:
            # The mail server makes its folder, not those above it.
            (ROOT / self.outbox).parent.mkdir(parents=True, exist_ok=True)
            found["mail"] = (
                sys.executable, "-m", "aiosmtpd", "-n", "-c", "aiosmtpd.handlers.Mailbox", str(self.outbox),
                "-l", f"127.0.0.1:{self.mail_port}",
            )  # fmt: skip
        return found

    @property
    def outbox(self) -> Path:
        """Where caught mail is kept."""
        return Path(self.data_dir) / "example" / "outbox"

    def environment(self) -> dict[str, str]:
        """What all processes are given: the addresses of the others, and no buffering of what they print."""
        given = {
            **os.environ,
            "PERDURE_DEV": "1",
            "PERDURE_URL": f"http://127.0.0.1:{self.port}",
            "TRACKER_MODEL": self.model,
            "PYTHONUNBUFFERED": "1",
        }
        given.setdefault("DATABASE_URL", f"sqlite:///{Path(self.data_dir) / 'example' / 'tracker.db'}")
        if self.model_port is not None:
            given["TRACKER_DEMO_URL"] = f"http://127.0.0.1:{self.model_port}"
        if self.mail_port is not None:
            given |= {
                "SMTP_HOST": "127.0.0.1",
                "SMTP_PORT": str(self.mail_port),
                "SMTP_USER": "",
                "SMTP_STARTTLS": "",
            }
            given["TRACKER_OUTBOX"] = str(self.outbox)
        return given

    async def run(self) -> int:
        """Keep all running until a signal comes. 0 if that was all, 1 if one of them could not be kept running."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop)
        keepers = [asyncio.create_task(self.keep(name, command)) for name, command in self.commands().items()]
        welcome = asyncio.create_task(self.welcome())
        kept = await asyncio.gather(*keepers)
        welcome.cancel()
        await asyncio.gather(welcome, return_exceptions=True)
        print("Stopped." if all(kept) else "Stopped, because of the above.", flush=True)
        return 0 if all(kept) else 1

    def stop(self) -> None:
        """Stop in order; the second time, at once."""
        self.signals += 1
        self.stopping.set()
        if self.signals == 1:
            print("\nStopping (again Ctrl-C: at once) ...", flush=True)
            return
        for child in self.children.values():
            with contextlib.suppress(ProcessLookupError):
                child.kill()

    async def keep(self, name: str, command: Sequence[str]) -> bool:
        """Keep one process running until all stops. False if it ended again and again as soon as it had started."""
        quick_ends = 0
        if name == "perdure":
            await self.app_listens()
        while not self.stopping.is_set():
            started = time.monotonic()
            child = await asyncio.create_subprocess_exec(
                *command,
                cwd=ROOT,
                env=self.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            self.children[name] = child
            self.say(name, f"started as process {child.pid}")
            output = asyncio.create_task(self.copy_output(name, child))
            ended = asyncio.create_task(child.wait())
            stop = asyncio.create_task(self.stopping.wait())
            await asyncio.wait((ended, stop), return_when=asyncio.FIRST_COMPLETED)
            stop.cancel()
            if self.stopping.is_set():
                await self.end(name, child)
                await output
                return True
            await output
            self.say(name, f"ended, {describe_end(child.returncode)}")
            quick_ends = quick_ends + 1 if time.monotonic() - started < QUICK_SECONDS else 0
            if quick_ends == QUICK_ENDS:
                self.say(name, f"ended {QUICK_ENDS} times as soon as it had started; not starting it again")
                self.stopping.set()
                return False
            self.say(name, "starting it again")
        return True

    async def app_listens(self) -> None:
        """Wait until the app can be called, so that the server takes it at once; some seconds at most."""
        deadline = time.monotonic() + APP_SECONDS
        while not self.stopping.is_set() and is_free(self.app_port) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def end(self, name: str, child: asyncio.subprocess.Process) -> None:
        """End one process: what the server calls only when that has ended, since calls may be under way."""
        server = self.children.get("perdure")
        if name != "perdure" and server is not None:
            await server.wait()
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), STOP_SECONDS[name])
        except TimeoutError:
            self.say(name, f"did not stop within {STOP_SECONDS[name]:g} s; killing it")
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()

    async def copy_output(self, name: str, child: asyncio.subprocess.Process) -> None:
        """Print what a process prints, line by line."""
        assert child.stdout is not None
        async for line in lines(child.stdout):
            self.say(name, line)

    async def welcome(self) -> None:
        """When the server knows the app, say what to try. Says what is missing if that takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.stopping.is_set():
            missing = await asyncio.to_thread(self.missing)
            if missing is None:
                print(self.what_to_try(), flush=True)
                return
            if time.monotonic() > deadline:
                print(f"\nNot ready after {READY_SECONDS:g} s: {missing}. Still trying.\n", flush=True)
                deadline = float("inf")
            await asyncio.sleep(0.1)

    def missing(self) -> str | None:
        """What is not there yet, or None if the job can be run."""
        try:
            fetch(f"http://127.0.0.1:{self.app_port}/health")
        except (OSError, ValueError) as error:
            return f"the app does not answer on port {self.app_port} ({error})"
        try:
            info = fetch(f"http://127.0.0.1:{self.port}/dev")
        except (OSError, ValueError) as error:
            return f"the server does not answer on port {self.port} ({error})"
        functions = info.get("functions")
        names = [entry.get("name") for entry in functions] if isinstance(functions, list) else []
        return None if JOB in names else f"the server has not taken the app's job yet; it knows {names}"

    def what_to_try(self) -> str:
        """The text that greets a newcomer."""
        app, server = f"http://localhost:{self.app_port}", f"http://localhost:{self.port}"
        pids = ", ".join(f"{name} {self.children[name].pid}" for name in ("app", "perdure"))
        perdure = (
            ".venv/bin/perdure" if self.port == DEFAULT_PORT else f"PERDURE_URL={server} .venv/bin/perdure"
        )
        run = f".venv/bin/python -m {EXAMPLE}.run_transcript --app {app}"
        return f"""
  App      {app}   <- open this
  Perdure  {server}   (its REST and GraphQL answer; docs/server.md, docs/terminal.md)
{self.about_the_model()}
  On the page: create an opportunity, upload one of examples/opportunity_tracker/transcripts to it, and watch the
  status change. The upload is answered at once, the job runs in the background.

  The same in another terminal, from here, and the runs at the server:

    {run} discovery
    {perdure} runs
    {perdure} run RUN_ID --watch

  A transcript by which the model fails once (the step is tried again 15 to 45 seconds later), and one that takes it
  20 seconds:

    {run} flaky
    {run} slow

  Kill either process meanwhile (kill -9; now {pids}): it is started again here, and the job
  goes on where it was. Ctrl-C stops all.
"""

    def about_the_model(self) -> str:
        """Who parses, and how to change that."""
        if self.model == "demo":
            return (
                "  Model    the demo model: it looks for words and understands nothing. GEMINI_API_KEY=… asks Gemini;\n"
                "           TRACKER_MODEL=gemini without a key shows what a job says that lacks it.\n"
            )
        missing = (
            ""
            if os.environ.get("GEMINI_API_KEY")
            else " GEMINI_API_KEY is not set: jobs will fail and say so."
        )
        return f"  Model    Gemini.{missing}\n"


async def lines(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream, however long they are."""
    rest = b""
    while chunk := await stream.read(65_536):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", "replace")


def describe_end(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


if __name__ == "__main__":
    main()
