"""Why a run was skipped: the word that its record carries, and what is told to people."""

from __future__ import annotations

SKIPPED_BECAUSE = {
    "Singleton": "another run was under way in its place",
    "FunctionPaused": "the function was paused",
}


def skipped_because(reason: str, holder: str = "") -> str:
    """The reason in words; `holder` is the run that was under way, if one was."""
    return SKIPPED_BECAUSE.get(reason, reason) + (f": {holder}" if holder else "")
