"""The work that is under way when something is killed. Every job has five steps; what differs is the third, or the end.

Both apps, on the official SDK and without any, know these jobs. A step returns a random token, so that a second run
of it can be told from the first.
"""

from __future__ import annotations

import hashlib

APP = "kill"
STEPS = ("s0", "s1", "s2", "s3", "s4")
CHILD_STEPS = ("c0", "c1")
HANDLER_STEPS = ("h0", "h1")

FIVE = "five"
"""Five plain steps."""
FLAKY = "flaky"
"""The second step fails at its first attempt."""
FAILING = "failing"
"""Fails for good after its steps; a handler of two steps follows."""
PARENT = "parent"
"""The third step invokes another function of two steps."""
WAITER = "waiter"
"""The third step waits for an event with the same key."""
SLEEPER = "sleeper"
"""The third step sleeps."""
SLOW = "slow"
"""The third step takes as long as the event says."""
CHILD = "child"
HANDLER = "failing-failure"

THIRD = {PARENT: "invoke", WAITER: "wait", SLEEPER: "sleep"}
SLEEP_MS = 300
RETRIES = 20
"""High, since every kill of the app costs the calls under way an attempt."""

GO = f"{APP}/go"
"""The event that a waiter waits for."""


def job_of(number: int) -> str:
    """Which job the event of this number starts: in twenty, twelve plain ones and some of each other kind."""
    others = (FLAKY, FLAKY, FAILING, FAILING, PARENT, PARENT, WAITER, SLEEPER)
    place = number % 20
    return others[place] if place < len(others) else FIVE


def step_names(job: str) -> tuple[str, ...]:
    """The steps of a job, in order."""
    if job == CHILD:
        return CHILD_STEPS
    if job == HANDLER:
        return HANDLER_STEPS
    return (*STEPS[:2], THIRD.get(job, STEPS[2]), *STEPS[3:])


def step_id(name: str) -> str:
    """The id on the wire of a step of this name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
