"""Which lines are in memory, when there are more than should be.

A line costs memory although it may hold one call only, and there can be a million of them: one for each user that has
something waiting. So at most `MAX_LINES` are listed. A call whose line is not listed is in the store only; its function
is remembered as having more (`beyond`), and the names of its lines are read page by page, round and round, as room
comes: because lines have emptied, or, when all are waiting for something, because those listed longest step back.
So a key may wait for a round longer than its limit says, and none is forgotten.

A line that is listed again is read from its start. Calls that were put in it while it was not listed, by batches that
such a read may not see, are remembered with their batch until every read can.
"""

from __future__ import annotations

import msgspec

from perdure.shard.rows import ItemRef

MAX_LINES = 20_000
PAGE = 1_000
"""Names of lines read at once, and lines that step back at once."""
ROUND_MS = 1_000
"""How often lines step back for others, when all that are listed wait."""

Name = tuple[str, str]
"""A function and one of its parts."""


class Beyond(msgspec.Struct):
    """A function that has lines which are not listed.

    `cursor` is the last name read in this round. `pushed` is the newest batch that put a call in such a line,
    `passed` whether this round had to leave one out, `since` the batches that its first read saw.
    """

    cursor: str = ""
    pushed: int = 0
    passed: bool = False
    since: int | None = None


class Directory:
    """Counts the lines that are listed, and knows what is not."""

    def __init__(self) -> None:
        self.listed = 0
        self.beyond: dict[str, Beyond] = {}
        self.reading = False
        self._late: dict[Name, list[tuple[int, ItemRef]]] = {}
        self._next_round = 0
        self._begins_anew = False
        """Whether the last round left something to another one, which would see the same before the next commit."""

    @property
    def full(self) -> bool:
        """Whether no further line may be listed."""
        return self.listed >= MAX_LINES

    def leave_out(self, name: Name, ref: ItemRef, batch: int) -> None:
        """A call was put in a line that is not listed."""
        self._late.setdefault(name, []).append((batch, ref))
        entry = self.beyond.setdefault(name[0], Beyond())
        entry.pushed = max(entry.pushed, batch)

    def late(self, name: Name) -> list[tuple[int, ItemRef]]:
        """The calls of a line that is listed now which a read may not see."""
        return self._late.pop(name, [])

    def forget_late(self, oldest_snapshot: int) -> bool:
        """Forget calls that every read from now on will see. Whether some are left."""
        for name, refs in list(self._late.items()):
            kept = [entry for entry in refs if entry[0] > oldest_snapshot]
            if kept:
                self._late[name] = kept
            else:
                del self._late[name]
        return bool(self._late)

    def wants(self, now: int) -> str | None:
        """The function whose lines are to be read on now; None if there is nothing to read, or no room."""
        if not self.beyond or self.reading:
            return None
        if now < self._next_round and (self._begins_anew or self.listed > MAX_LINES - PAGE):
            return None
        return next(iter(self.beyond))

    def next_time(self) -> int | None:
        """When (ms) `wants` should be asked again although nothing else has happened."""
        return self._next_round if self.beyond and not self.reading else None

    def begin(self, function_id: str, snapshot: int, now: int) -> str:
        """A page is being read; gives back the name after which it begins."""
        self.reading, self._begins_anew = True, False
        self._next_round = now + ROUND_MS
        entry = self.beyond[function_id]
        if entry.since is None:
            entry.since = snapshot
        return entry.cursor

    def take(self, function_id: str, parts: list[str], left_out: bool) -> None:
        """A page was read. `left_out` says that not all of its lines could be listed: `parts` are those that were.

        The function is done when a round has listed all, and began after the last call was put in a line unlisted.
        """
        self.reading = False
        entry = self.beyond.pop(function_id)
        entry.passed = entry.passed or left_out
        if parts:
            entry.cursor = parts[-1]
        if len(parts) == PAGE or left_out:
            self.beyond[function_id] = entry
            return
        if entry.passed or entry.since is None or entry.pushed > entry.since:
            self.beyond[function_id] = Beyond(pushed=entry.pushed)
            self._begins_anew = True
