"""How a run comes to be: what its admission, or whoever asks for it, says beside its function and its events."""

from __future__ import annotations

import msgspec

from perdure.core.model import FromStep, ItemKind
from perdure.core.plan import NewItem, SavedStep
from perdure.protocol.events import IncomingEvent

TriggerEvent = tuple[int, IncomingEvent]
"""An event and its receipt."""


class Beginning(msgspec.Struct, frozen=True, gc=False):
    """How a run comes to be.

    `correlation` names the step that invoked it. Its function's cancellations count for events received after
    `since` (0: after its first event). `skipped` is (reason, holder) of a run that is only written down. `copied` are
    steps of the run `original_run_id`, with their results, that stand before `from_step`.
    """

    correlation: str | None = None
    since: int = 0
    batch_id: str | None = None
    cron: str | None = None
    original_run_id: str | None = None
    skipped: tuple[str, str] | None = None
    from_step: FromStep | None = None
    copied: tuple[SavedStep, ...] = ()

    def first_item(self, due: int) -> NewItem:
        """The first call: a discovery, but for a step with edited input.

        SDKs run such a step only if they are called for it; a discovery goes past it (JavaScript 4.24 in checkpointing,
        and all of them beside other steps that are to run).
        """
        size, step = b"%d" % len(self.copied), self.from_step
        if step is not None and step.arguments is not None:
            return NewItem(ItemKind.STEP, step.id, step.name, due, data=size)
        return NewItem(ItemKind.DISCOVERY, "", "", due, data=size)


ORDINARY = Beginning()
