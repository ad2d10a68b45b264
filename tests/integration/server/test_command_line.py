"""The command line: its help, what it refuses and with which words, and what it says when it runs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.sdk.driver import PERDURE, Process, free_port, until

KEY = "ab12" * 16


def perdure(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [str(PERDURE), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, **env},
    )


def refused(*arguments: str, **env: str) -> str:
    """What a command says that must fail; never a stack trace."""
    done = perdure("dev", *arguments, **env)
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(tmp_path / "data")


def test_help_shows_what_can_be_said() -> None:
    done = perdure("dev", "--help")
    assert done.returncode == 0
    for flag in ("--sdk-url", "--port", "--host", "--data-dir", "--no-discovery", "--no-poll", "--poll-interval",
                 "--retry-interval", "--retries", "--signing-key", "--event-key", "--no-open"):  # fmt: skip
        assert flag in done.stdout
    assert "dev" in perdure("--help").stdout
    assert re.fullmatch(r"perdure, version \d+\.\d+\.\d+\S*\n", perdure("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], ["--nonsense"]),
        (["extra"], ["extra"]),
        (["--port", "x"], ["--port", "x"]),
        (["--port", "99999"], ["--port", "99999"]),
        (["--port", "-1"], ["--port", "-1"]),
        (["--poll-interval", "0"], ["--poll-interval is 0", "at least 1 second"]),
        (["--retry-interval", "0"], ["--retry-interval is 0", "at least 1 second"]),
        (["--retries", "21"], ["--retries is 21", "0 to 20"]),
        (["--retries", "-1"], ["--retries is -1"]),
        (["-u", "localhost:3000"], ["-u localhost:3000", "http://"]),
        (["-u", "ftp://x"], ["-u ftp://x"]),
        (["--host", ""], ["--host is empty"]),
        (["--host", "no.such.host.invalid"], ["no.such.host.invalid", "--port"]),
        (["--log-level", "loud"], ["loud"]),
        (["--signing-key", "not hex"], ["--signing-key", "hexadecimal", "openssl rand -hex 32"]),
        (["--signing-key", "abc"], ["--signing-key", "even number"]),
        (["--signing-key", f"{KEY},zz"], ["--signing-key"]),
        (["--signing-key", ""], ["--signing-key", "empty"]),
        (["--event-key", " , "], ["--event-key", "empty"]),
    ],
)
def test_bad_flags(data: str, arguments: list[str], words: list[str]) -> None:
    said = refused("--data-dir", data, "--no-discovery", *arguments)
    assert all(word in said for word in words), said
    assert "zz" not in said, "a key is not shown"


def test_bad_key_of_the_environment(data: str) -> None:
    assert "--signing-key" in refused("--data-dir", data, PERDURE_SIGNING_KEY="nothex")


def test_port_that_is_taken(data: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused("--data-dir", data, "--port", str(port))
    assert f"port {port} on 127.0.0.1 cannot be used" in said
    assert "--port" in said
    assert not Path(data).exists(), "nothing was begun"


@pytest.mark.parametrize("place", ["/dev/null", "/dev/null/below", "/proc/nowhere"])
def test_data_that_cannot_be_kept(place: str) -> None:
    said = refused("--data-dir", place, "--port", str(free_port()))
    assert place in said
    assert "--data-dir" in said


def test_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "perdure.db").write_bytes(b"this is not a database, but somebody's notes" * 100)
    said = refused("--data-dir", str(tmp_path), "--port", str(free_port()))
    assert "perdure.db" in said


def test_self_hosted_mode_is_not_here_yet() -> None:
    done = perdure("start", "--event-key", "x", "--signing-key", KEY)
    assert done.returncode == 2
    assert "not part of this version" in done.stderr
    assert "perdure dev --signing-key" in done.stderr


class Running:
    """`perdure dev` while it runs."""

    def __init__(
        self, folder: Path, *arguments: str, host: str = "127.0.0.1", env: dict[str, str] | None = None
    ):
        self.port = free_port()
        command = [
            str(PERDURE),
            "dev",
            "--port",
            str(self.port),
            "--data-dir",
            str(folder / "data"),
            *arguments,
        ]
        self.process = Process(command, f"http://{host}:{self.port}", folder / "log", env)
        self.process.wait_ready("/health")

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    @property
    def log(self) -> str:
        return self.process.output.read_text()


def test_flags_of_the_reference_server_are_taken(tmp_path: Path) -> None:
    flags = [
        "--no-discovery", "--no-poll", "--retry-interval", "1", "--tick", "10", "--queue-workers", "5", "--persist",
        "--config", "inngest.yaml", "--connect-gateway-port", "9000", "--connect-gateway-grpc-port", "9001",
        "--connect-executor-grpc-port", "9002", "--no-open",
    ]  # fmt: skip
    with Running(tmp_path, *flags) as running:
        options = httpx.get(f"{running.process.url}/dev").json()["startOpts"]
        assert (options["tick"], options["queue_workers"]) == (10_000_000, 5)
        assert "--config inngest.yaml is not read" in running.log


def test_says_where_it_is(tmp_path: Path) -> None:
    with Running(tmp_path, "--no-discovery") as running:
        ready = until("the line", lambda: re.search(r"is ready at (\S+)", running.log))
        assert ready[1] == f"http://localhost:{running.port}"
        assert "WARNING" not in running.log


@pytest.mark.parametrize(
    ("flags", "said", "unsaid"),
    [
        ([], ["no --signing-key", "no --event-key"], []),
        (["--signing-key", KEY], ["no --event-key"], ["no --signing-key"]),
        (["--event-key", "e"], ["no --signing-key"], ["no --event-key"]),
        (["--signing-key", KEY, "--event-key", "e"], [], ["listening on 0.0.0.0"]),
    ],
)
def test_network_without_keys_is_warned_of(
    tmp_path: Path, flags: list[str], said: list[str], unsaid: list[str]
) -> None:
    with Running(tmp_path, "--no-discovery", "--host", "0.0.0.0", *flags) as running:
        until("the line", lambda: "is ready at http://localhost" in running.log)
        assert all(word in running.log for word in said)
        assert not any(word in running.log for word in unsaid)


def test_second_server_on_the_same_data(tmp_path: Path) -> None:
    with Running(tmp_path, "--no-discovery") as running:
        said = refused("--data-dir", str(tmp_path / "data"), "--port", str(free_port()))
        assert str(running.process._child.pid) in said


def test_keys_with_commas_and_of_the_environment(tmp_path: Path) -> None:
    env = {"PERDURE_SIGNING_KEY": f"{KEY},{'cd34' * 16}", "PERDURE_EVENT_KEY": "one, two"}
    with Running(tmp_path, "--no-discovery", env=env) as running:
        url = running.process.url
        for token, status in ((KEY, 200), ("cd34" * 16, 200), ("00", 401)):
            assert httpx.get(f"{url}/dev", headers={"Authorization": f"Bearer {token}"}).status_code == status
        for key, status in (("one", 200), ("two", 200), ("one, two", 401)):
            assert httpx.post(f"{url}/e/{key}", json={"name": "a/b"}).status_code == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ends_in_good_order(tmp_path: Path, number: signal.Signals) -> None:
    with Running(tmp_path, "--no-discovery") as running:
        running.process._child.send_signal(number)
        assert running.process._child.wait(10) == 0
        assert "stopping" in running.log
        assert "Traceback" not in running.log
