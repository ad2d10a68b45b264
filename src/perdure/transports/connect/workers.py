"""Which worker gets a call: one that is ready, has the function, and has room.

Of several it is the one with the fewest calls; of those with equally few each gets one in turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from perdure.core.pacing import HARD_LIMIT, YOUNG_CALLS
from perdure.transports.connect.connection import UNLIMITED, WorkerConnection


class Workers:
    """The connections that have been let in."""

    def __init__(self) -> None:
        self.by_id: dict[str, WorkerConnection] = {}
        self._by_function: dict[tuple[str, str], list[WorkerConnection]] = {}
        self._paces: dict[str, tuple[int, int]] = {}

    def __iter__(self) -> Iterator[WorkerConnection]:
        return iter(self.by_id.values())

    def add(self, connection: WorkerConnection) -> None:
        """A worker has been let in."""
        self.by_id[connection.id] = connection
        self.changed()
        for group in connection.groups.values():
            for slug in group.slugs:
                self._by_function.setdefault((group.app, slug), []).append(connection)

    def remove(self, connection: WorkerConnection) -> None:
        """Its socket is gone."""
        self.changed()
        if self.by_id.get(connection.id) is connection:
            del self.by_id[connection.id]
        for group in connection.groups.values():
            for slug in group.slugs:
                found = self._by_function.get((group.app, slug), [])
                if connection in found:
                    found.remove(connection)
                if not found:
                    self._by_function.pop((group.app, slug), None)

    def free(self, app: str, slug: str) -> int | None:
        """How many more calls of a function are taken now; None if no worker is ready that has it."""
        found: int | None = None
        for connection in self._by_function.get((app, slug), ()):
            if connection.ready:
                room = connection.room()
                if room >= UNLIMITED:
                    return UNLIMITED
                found = (found or 0) + room
        return found

    def pace(self, app: str) -> tuple[int, int]:
        """How many calls of an app may have just begun, and how many may be under way.

        A worker that names how many it takes may get as many at once; any other is paced as an app over HTTP is.
        """
        found = self._paces.get(app)
        if found is None:
            young = calls = 0
            for connection in self.by_id.values():
                if connection.ready and app in connection.groups:
                    limit = connection.said.limit
                    young += limit or YOUNG_CALLS
                    calls += max(limit, HARD_LIMIT)
            found = self._paces[app] = (young, calls) if calls else (YOUNG_CALLS, HARD_LIMIT)
        return found

    def changed(self) -> None:
        """A worker takes calls now, or does no more."""
        self._paces.clear()

    def choose(self, app: str, slug: str, passed: Collection[str] = ()) -> WorkerConnection | None:
        """Who gets the next call of a function, if somebody does that is not in `passed`."""
        candidates = self._by_function.get((app, slug))
        if not candidates:
            return None
        best: WorkerConnection | None = None
        for connection in candidates:
            if connection.ready and connection.id not in passed and connection.room() > 0:
                calls = len(connection.requests)
                if best is None or calls < len(best.requests):
                    best = connection
        if best is not None and len(candidates) > 1:
            candidates.remove(best)
            candidates.append(best)
        return best
