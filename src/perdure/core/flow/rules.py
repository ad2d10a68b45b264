"""The rules of one function, ready to be applied: expressions compiled, limits named.

Made once when a function is synced or its limits are changed by hand, from the configuration that is then in force.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.core.flow.batch import BatchCondition
from perdure.core.flow.concurrency import ConcurrencyRules, Need
from perdure.core.flow.keys import KeyExpression, digest
from perdure.core.flow.priority import Priority
from perdure.protocol.functions import FunctionConfig, Throttle


class FlowRules:
    """The rules of one function.

    `limits` are what `Turns.set_limits` takes: the numbers of places and the throttle, by the names that needs
    carry. Keys of rules that the function does not have are never asked for. `keyed` tells that there are some;
    `plain` that nothing bears on a run of the function, so that it needs no admission; `ranked` that priority orders
    its runs; `reads_event` that a key, a condition or a factor may look into the event.
    """

    __slots__ = (
        "_throttle_counter",
        "_throttle_key",
        "_throttle_name",
        "batch",
        "batch_condition",
        "batch_key",
        "concurrency",
        "debounce",
        "debounce_key",
        "function_id",
        "keyed",
        "limits",
        "plain",
        "priority",
        "ranked",
        "rate_key",
        "rate_limit",
        "reads_event",
        "singleton",
        "singleton_key",
        "throttle",
        "timeouts",
    )

    def __init__(self, function_id: str, config: FunctionConfig) -> None:
        self.function_id = function_id
        self.batch = config.batch
        self.batch_key = KeyExpression(config.batch.key if config.batch else None)
        self.batch_condition = BatchCondition(config.batch.condition if config.batch else None)
        self.rate_limit = config.rate_limit
        self.rate_key = KeyExpression(config.rate_limit.key if config.rate_limit else None)
        self.debounce = config.debounce
        self.debounce_key = KeyExpression(config.debounce.key if config.debounce else None)
        self.singleton = config.singleton
        self.singleton_key = KeyExpression(config.singleton.key if config.singleton else None)
        self.priority = Priority(config.priority)
        self.timeouts = config.timeouts
        self.throttle = config.throttle
        key = config.throttle.key if config.throttle else None
        self._throttle_key = KeyExpression(key)
        self._throttle_name = f"{function_id}/throttle"
        self._throttle_counter = f"throttle/{function_id}/{digest(key.strip())[:12] if key else ''}/"
        self.concurrency = ConcurrencyRules(function_id, config)
        self.limits: dict[str, int | Throttle] = {**self.concurrency.limits}
        if config.throttle is not None:
            self.limits[self._throttle_name] = config.throttle
        self.ranked = config.priority is not None
        keyed = (config.batch, config.rate_limit, config.debounce, config.singleton)
        self.keyed = any(rule is not None for rule in keyed)
        own = (self._throttle_key, *self.concurrency.keys)
        self.reads_event = self.keyed or self.ranked or not all(key.text is None for key in own)
        timed = config.timeouts.start_ms is not None or config.timeouts.finish_ms is not None
        self.plain = not (self.keyed or self.limits or self.ranked or timed or config.cancel)

    def throttle_need(self, event: Mapping[str, object], now: int) -> tuple[Need | None, str | None]:
        """The schedule that a start of this event must keep, and what is wrong with its key."""
        if self.throttle is None:
            return None, None
        key = self._throttle_key.bucket(event, now)
        narrow = not self._throttle_key.shared
        return Need(self._throttle_counter + key.id, self._throttle_name, key.value, narrow), key.problem
