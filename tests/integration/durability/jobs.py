"""The work that is under way when something is killed.

Most jobs have five steps; what differs is the third, or the end. Both apps, on the official SDK and without any, know
them, and the one without any some more. A step returns a random token, so that a second run of it can be told from
the first.
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
BRIEF = "brief"
"""Fails at once, without a step; a handler follows."""
CALLER = "caller"
"""Its only step invokes a function without steps."""
CHILD = "child"
CALLEE = "callee"
HANDLERS = {FAILING: "failing-failure", BRIEF: "brief-failure"}
"""The function that handles the failures of each job that fails."""
CHILDREN = {PARENT: CHILD, CALLER: CALLEE}
"""The function that each job that invokes one invokes."""

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


def short_job_of(number: int) -> str:
    """As `job_of`, where nearly all of the work is what follows from the end of a run."""
    return (BRIEF, CALLER)[number % 2]


def step_names(job: str) -> tuple[str, ...]:
    """The steps of a job, in order."""
    if job in HANDLERS.values():
        return HANDLER_STEPS
    short = {CHILD: CHILD_STEPS, BRIEF: (), CALLEE: (), CALLER: ("invoke",)}
    if job in short:
        return short[job]
    return (*STEPS[:2], THIRD.get(job, STEPS[2]), *STEPS[3:])


def step_id(name: str) -> str:
    """The id on the wire of a step of this name."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
