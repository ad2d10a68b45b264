"""What `import perdure` gives, and what it does not drag along."""

from __future__ import annotations

import subprocess
import sys
import types

import perdure

PUBLIC = {
    "App", "Batch", "Cancel", "Checkpoint", "Concurrency", "ConnectError", "Debounce", "Event", "EventType",
    "FailureData", "Function", "InvokeError", "InvokeTimeoutError", "LogContext", "NonRetriableError", "RateLimit",
    "Response", "RetryAfterError",
    "RunCancelledError", "SendError",
    "Signal", "Singleton", "Step", "StepError", "StepTimeoutError", "SyncStep", "Throttle", "Timeouts", "UsageError",
    "__version__", "cron", "event", "logger",
}  # fmt: skip
MIDDLEWARE = {
    "CallInfo", "Encryption", "Middleware", "MiddlewareError", "OpenTelemetry", "Payload", "StepInfo", "Wrap",
}  # fmt: skip
# Standard library modules are free; these are for the server, or for apps that connect: others must not pay for them.
SERVER_ONLY = (
    "aiohttp",
    "apsw",
    "cel_expr_python",
    "click",
    "httptools",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
)


def test_public_names_are_these_and_no_others() -> None:
    assert set(perdure.__all__) == PUBLIC
    others = {
        name
        for name, value in vars(perdure).items()
        if not name.startswith("_")
        and not isinstance(value, types.ModuleType)
        and name not in {"annotations", "TYPE_CHECKING", "Any"}
    }
    assert others <= PUBLIC


def test_middleware_has_a_module_of_its_own_and_loads_no_library() -> None:
    code = "import sys, perdure.middleware as m; print('\\n'.join([*m.__all__, '-', *sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, _, loaded = done.stdout.partition("-\n")
    assert set(names.split()) == MIDDLEWARE
    assert [name for name in (*SERVER_ONLY, "nacl", "opentelemetry") if name in loaded.split()] == []


def test_import_loads_no_server_library() -> None:
    code = "import sys, perdure; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "perdure" in loaded
    assert [name for name in SERVER_ONLY if name in loaded] == []
    assert [name for name in loaded if name.startswith("perdure.")] == []


def test_every_public_name_is_there_and_using_them_loads_no_server_library() -> None:
    code = (
        "import sys, perdure; app = perdure.App('a')\n"
        "for name in perdure.__all__: getattr(perdure, name)\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert [name for name in SERVER_ONLY if name in loaded] == []
    parts = {name.split(".")[1] for name in loaded if name.startswith("perdure.")}
    assert parts == {"errors", "protocol", "sdk"}
