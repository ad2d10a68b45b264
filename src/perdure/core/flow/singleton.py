"""Singleton: one live run for each key.

Live means queued or under way, also asleep. While a run holds the key, a further event is skipped (it leaves a
run record with the status SKIPPED, the reason and the holder, and nothing executes), or, in the mode `cancel`,
ends the holder and takes its place.

Why two never overlap. Who holds a key is one row. It is written in the commit that creates the run and deleted in
the commit that ends it; a cancellation ends the holder in the same commit that creates its successor. A step that
the app still executes for a cancelled run goes to its end there, and its answer is ignored: overlap of code
inside the app cannot be prevented by any server.

A key that is false, missing or cannot be computed leaves the event alone: its run is no singleton (protocol,
singleton).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.protocol.functions import Singleton


class SingletonAction(StrEnum):
    """What becomes of a new run."""

    PROCEED = "proceed"
    SKIP = "skip"
    CANCEL = "cancel"
    """It proceeds, and the holder is cancelled first."""


class SingletonDecision(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a new run; `holder` is the run that has the key, if that matters."""

    action: SingletonAction
    holder: str | None = None


PROCEED = SingletonDecision(SingletonAction.PROCEED)


def decide(rule: Singleton, holder: str | None) -> SingletonDecision:
    """What becomes of a new run whose key is held by the run `holder`, or by nobody."""
    if holder is None:
        return PROCEED
    if rule.mode == "cancel":
        return SingletonDecision(SingletonAction.CANCEL, holder)
    return SingletonDecision(SingletonAction.SKIP, holder)
