"""Ids of steps: which use of an id is which step on the wire.

The first use of an id in a call hashes the id itself, later ones the id with a number, as in the official SDKs:
so a loop may use one id. That needs an order that is the same in every call, which branches side by side do not
have.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable

from perdure.protocol.ids import hash_step_id
from perdure.sdk.errors import NestedStepError, UsageError
from perdure.sdk.key import Key
from perdure.sdk.places import at, place
from perdure.sdk.strands import IN_STEP, Strands

log = logging.getLogger("perdure")

_WARNED: set[tuple[str, str]] = set()
_CHANGED: set[str] = set()
"""Runs that were warned about."""
MOST_WARNED = 1_000


class StepIds:
    """Counts the ids that one call of a function uses."""

    def __init__(self, slug: str, strands: Strands) -> None:
        self._slug = slug
        self._strands = strands
        self._uses: dict[str, int] = {}
        self._first: dict[str, Hashable] = {}

    def key(self, step_id: str, strand: Hashable) -> Key:
        """The step that this use of an id is. Raises UsageError if the id cannot name one."""
        if not isinstance(step_id, str) or not step_id:
            raise UsageError(
                f"A step needs an id, a text that names it in this function; {step_id!r} is none."
            )
        index = self._uses.get(step_id, 0)
        self._uses[step_id] = index + 1
        if index == 0:
            self._first[step_id] = strand
        else:
            self._repeated(step_id, strand)
        return Key(hash_step_id(step_id, index), step_id, index)

    def check_not_nested(self, step_id: str) -> None:
        """Raises NestedStepError inside of a step's own code."""
        inside = IN_STEP.get()
        if inside is not None:
            raise NestedStepError(
                f'The step "{step_id}" of {self._slug} is used inside of the step "{inside.step_id}"{at(place())}. '
                "A step is run as a whole, or not at all, so there can be none in it. Put the two one after the other "
                "in the function, or call a plain function inside."
            )

    def _repeated(self, step_id: str, strand: Hashable) -> None:
        if self._side_by_side(self._first.get(step_id), strand):
            raise UsageError(
                f'The step id "{step_id}" is used by two branches of {self._slug} that go on side by side'
                f"{at(place())}. Which of them is first may change from call to call, and then they would get each "
                f'other\'s results. Give each its own id, such as f"{step_id}-{{number}}".'
            )
        if (self._slug, step_id) not in _WARNED and len(_WARNED) < MOST_WARNED:
            _WARNED.add((self._slug, step_id))
            log.warning(
                'The step id "%s" is used more than once in %s%s; the uses are numbered in the order in which they '
                "come. That is safe in a loop whose order never changes. Otherwise put what differs into the id, such "
                'as f"%s-{number}".',
                step_id,
                self._slug,
                at(place()),
                step_id,
            )

    def _side_by_side(self, first: Hashable, strand: Hashable) -> bool:
        """Whether two strands are both alive, and neither waits for the other."""
        strands = self._strands
        if first == strand or not strands.knows(first):
            return False
        return first not in strands.ancestors(strand) and strand not in strands.ancestors(first)


def warn_of_changes(slug: str, run_id: str, step_id: str, missed: int, where: str) -> None:
    """Say, once for a run, that its code has come to a new step without `missed` of those that are saved."""
    if run_id in _CHANGED:
        return
    if len(_CHANGED) < MOST_WARNED:
        _CHANGED.add(run_id)
    log.warning(
        'Run %s of %s came to the new step "%s"%s without %d of its saved step(s). The code has changed while the run '
        "was under way, or depends on something that changes from call to call, such as the time or a random number: "
        "steps may be run again. Keep the order of the steps for runs under way, or give the function a new id.",
        run_id,
        slug,
        step_id,
        at(where),
        missed,
    )
