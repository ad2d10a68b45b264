"""Functions as they are declared: a handler, what starts it, and how it is to be run.

All that a call needs to know is worked out once, here: which arguments the handler takes, how its event is
decoded, whether it runs on the event loop or in a thread.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from perdure.sdk import codec
from perdure.sdk.events import Trigger
from perdure.sdk.loggers import logger
from perdure.sdk.middleware import Chain
from perdure.sdk.options import Checkpoint
from perdure.sdk.places import at, defined_at

In = TypeVar("In")
Out = TypeVar("Out")

Takes = Literal["nothing", "step", "event", "both"]
"""Which arguments a handler takes."""

MAX_RETRIES = 20


class Function(Generic[In, Out]):
    """A function of an app. Calling it calls the handler itself, as a test may do."""

    def __init__(
        self,
        app_id: str,
        id: str,
        handler: Callable[..., Any],
        triggers: Sequence[Trigger[Any]],
        options: dict[str, Any],
        checkpoint: Checkpoint | None,
        *,
        takes: Takes,
        name: str | None = None,
        batched: bool = False,
        is_failure_handler: bool = False,
        chain: Chain | None = None,
    ) -> None:
        self.is_failure_handler = is_failure_handler
        self.chain = chain
        self.id = id
        self.slug = f"{app_id}-{id}"
        self.name = name or id
        self.handler = handler
        self.logger = logger(getattr(handler, "__module__", None) or self.slug)
        self.triggers = tuple(triggers)
        self.options = options
        self.checkpoint = checkpoint
        self.batched = batched
        self.is_async = _is_async(handler)
        self.takes = takes
        self.decode_output = codec.returns(handler)
        self._by_name: dict[str, codec.Decode] = {}

    def __call__(self, *args: Any) -> Any:
        return self.handler(*args)

    @property
    def told(self) -> str:
        """What it is called in an error: its slug, and where it is written."""
        return f"{self.slug}{at(defined_at(self.handler))}"

    def __repr__(self) -> str:
        return f"<perdure function {self.slug}>"

    def decode_for(self, event_name: str) -> codec.Decode:
        """How the data of an event are decoded: by the trigger that it met, else by the first (an invoke)."""
        known = self._by_name.get(event_name)
        if known is None:
            exact = [trigger for trigger in self.triggers if trigger.matches(event_name)]
            chosen = (exact or self.triggers or (None,))[0]
            known = chosen.decode if chosen is not None else codec.plain
            if len(self._by_name) < 1000:
                self._by_name[event_name] = known
        return known

    def config(self, url: str, runtime: Literal["http", "ws"] = "http") -> dict[str, Any]:
        """The function as it is registered, for an app that is served at `url`; by `ws` it is called over Connect."""
        query = "&" if "?" in url else "?"
        step: dict[str, Any] = {
            "id": "step",
            "name": "step",
            "runtime": {"type": runtime, "url": f"{url}{query}fnId={self.slug}&stepId=step"},
        }
        if (retries := self.options.get("retries")) is not None:
            step["retries"] = {"attempts": retries}
        config: dict[str, Any] = {
            "id": self.slug,
            "name": self.name,
            "triggers": [trigger.wire for trigger in self.triggers],
            "steps": {"step": step},
        }
        config.update({key: value for key, value in self.options.items() if key != "retries"})
        if self.checkpoint is not None:
            config["checkpoint"] = self.checkpoint.wire()
        return config


def _is_async(handler: Callable[..., Any]) -> bool:
    target: Any = handler
    while hasattr(target, "func"):
        target = target.func
    return inspect.iscoroutinefunction(target) or inspect.iscoroutinefunction(
        type(target).__call__ if callable(target) else None
    )


class FailureData(msgspec.Struct, frozen=True):
    """What an `on_failure` handler gets: which run failed, of which event, and why.

    `error` has `name`, `message`, `stack`; `event` is the run's event as plain JSON.
    """

    function_id: str
    run_id: str
    error: dict[str, Any]
    event: dict[str, Any]
    events: list[dict[str, Any]] = []
