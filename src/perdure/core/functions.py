"""The functions that a server knows, and which of them an event starts.

A trigger names an event exactly, or by a last segment `*` after `/` or `.`: `api/v1/users` is met by
`api/*` and `api/v1/*`, `app/user.created` by `app/*` and `app/user.*`. A lone `*` meets nothing. An
expression that fails for an event counts as no match.
"""

from __future__ import annotations

from collections.abc import Iterator

from perdure.core.expressions import Expression, compile_expression
from perdure.core.flow.rules import FlowRules
from perdure.core.retries import max_attempts
from perdure.core.settings import Settings
from perdure.errors import ExpressionError
from perdure.protocol.functions import FunctionConfig
from perdure.protocol.registration import StepUrl


class Trigger:
    """An event trigger, ready to be tried."""

    __slots__ = ("event", "expression")

    def __init__(self, event: str, expression: str | None) -> None:
        self.event = event
        self.expression: Expression | None = None if not expression else compile_expression(expression)

    def meets(self, event: dict[str, object] | None, now_ms: int) -> bool:
        """Whether the trigger's expression holds for the event at `now_ms` (ms since the epoch).

        The name has been compared already. `event` may be None if there is no expression.
        """
        if self.expression is None:
            return True
        try:
            return self.expression.is_true({"event": event}, now_ms)
        except ExpressionError:
            return False


class Function:
    """A function, ready to be matched and called."""

    __slots__ = ("app_id", "archived", "attempts", "config", "id", "name", "rules", "slug", "triggers", "url")

    def __init__(
        self, id: str, app_id: str, config: FunctionConfig, settings: Settings, archived: bool = False
    ) -> None:
        self.id = id
        self.app_id = app_id
        self.slug = config.id
        self.name = config.name
        self.config = config
        self.archived = archived
        self.rules = FlowRules(id, config)
        self.attempts = max_attempts(config.retries, settings)
        self.url = StepUrl.prepare(config.url, config.id)
        self.triggers = [Trigger(t.event, t.expression) for t in config.triggers if t.event]


class Functions:
    """All functions of a shard, by id, by slug and by the events that start them."""

    def __init__(self) -> None:
        self.by_id: dict[str, Function] = {}
        self._by_slug: dict[str, Function] = {}
        self._by_event: dict[str, list[tuple[Function, Trigger]]] = {}

    def put(self, function: Function) -> None:
        """Add a function or replace its older version."""
        self.by_id[function.id] = function
        self._rebuild()

    def put_all(self, functions: list[Function]) -> None:
        """Add or replace several functions."""
        for function in functions:
            self.by_id[function.id] = function
        self._rebuild()

    def _rebuild(self) -> None:
        self._by_slug = {f.slug: f for f in self.by_id.values() if not f.archived}
        self._by_event = {}
        for function in self.by_id.values():
            if not function.archived:
                for trigger in function.triggers:
                    self._by_event.setdefault(trigger.event, []).append((function, trigger))

    def find(self, slug_or_id: str) -> Function | None:
        """The function with this composite slug or id, unless it is archived."""
        function = self._by_slug.get(slug_or_id) or self.by_id.get(slug_or_id)
        return None if function is None or function.archived else function

    def has_triggers(self, event_name: str) -> bool:
        """Whether any trigger could meet an event of this name."""
        if not self._by_event:
            return False
        return any(name in self._by_event for name in trigger_names(event_name))

    def started_by(self, event_name: str, event: dict[str, object] | None, now_ms: int) -> list[Function]:
        """The functions that the event starts at `now_ms` (ms since the epoch), each once.

        `event` is the parsed event, or None if no trigger needs it (see `needs_body`).
        """
        found: dict[str, Function] = {}
        for name in trigger_names(event_name):
            for function, trigger in self._by_event.get(name, ()):
                if function.id not in found and trigger.meets(event, now_ms):
                    found[function.id] = function
        return list(found.values())

    def needs_body(self, event_name: str) -> bool:
        """Whether any trigger for the event has an expression."""
        return any(
            trigger.expression is not None
            for name in trigger_names(event_name)
            for _, trigger in self._by_event.get(name, ())
        )


def trigger_names(event_name: str) -> Iterator[str]:
    """The trigger names that meet an event: the name itself, then each wildcard."""
    yield event_name
    for cut in "/", ".":
        at = event_name.find(cut)
        while at >= 0:
            yield event_name[: at + 1] + "*"
            at = event_name.find(cut, at + 1)
