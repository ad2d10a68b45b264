"""Compares what the server sends with what was recorded, up to what must differ: ids, times, and opaque texts.

Each id of the recording stands for one id of the run under test, and the other way round: so an id that should be
the same in two places is checked to be, and one that should be fresh each time too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CORRELATION = re.compile(r"(?P<run>[0-9A-HJKMNP-TV-Z]{26})\.(?P<step>[0-9a-f]{40})")
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")

TIMES_MS = frozenset({"ts", "expire"})
OPAQUE = frozenset({"job_id", "qi_id", "x-inngest-job-id"})
TRACING = frozenset({"isr", "tc", "gid"})
"""Keys of `_inngest` that carry trace context and the queue's grouping; they may be left out."""


@dataclass
class Comparison:
    """One run against its recording. `differences` names each place where they part."""

    sequential: bool
    """Whether `stack.current` must be the same; with parallel steps it depends on the moment."""

    differences: list[str] = field(default_factory=list)
    _there: dict[str, str] = field(default_factory=dict)
    _here: dict[str, str] = field(default_factory=dict)

    def say(self, path: str, recorded: Any, seen: Any) -> None:
        self.differences.append(f"{path}: recorded {recorded!r}, seen {seen!r}")

    def same(self, path: str, recorded: Any, seen: Any) -> None:
        """Compare two JSON values."""
        name = path.rsplit(".", 1)[-1]
        if isinstance(recorded, dict) and isinstance(seen, dict):
            self._same_object(path, recorded, seen)
        elif isinstance(recorded, list) and isinstance(seen, list):
            if len(recorded) != len(seen):
                self.say(path, recorded, seen)
            for index, (one, other) in enumerate(zip(recorded, seen, strict=False)):
                self.same(f"{path}[{index}]", one, other)
        elif name == "current" and not self.sequential:
            if not isinstance(seen, int) or seen < 0:
                self.say(path, recorded, seen)
        elif name in TIMES_MS and isinstance(recorded, int):
            if not isinstance(seen, int) or not 1_600_000_000_000 < seen < 4_000_000_000_000:
                self.say(path, recorded, seen)
        elif isinstance(recorded, str) and isinstance(seen, str):
            self._same_text(path, name, recorded, seen)
        elif recorded != seen or type(recorded) is not type(seen):
            self.say(path, recorded, seen)

    def _same_object(self, path: str, recorded: dict[str, Any], seen: dict[str, Any]) -> None:
        optional = TRACING if path.endswith("_inngest") else frozenset()
        for missing in recorded.keys() - seen.keys() - optional:
            self.say(f"{path}.{missing}", recorded[missing], "nothing")
        for extra in seen.keys() - recorded.keys():
            self.say(f"{path}.{extra}", "nothing", seen[extra])
        for key in recorded.keys() & seen.keys() - optional:
            self.same(f"{path}.{key}", recorded[key], seen[key])

    def _same_text(self, path: str, name: str, recorded: str, seen: str) -> None:
        pair = CORRELATION.fullmatch(recorded), CORRELATION.fullmatch(seen)
        if pair[0] and pair[1]:
            self._same_id(path, pair[0]["run"], pair[1]["run"])
            recorded, seen = pair[0]["step"], pair[1]["step"]
        for shape in (ULID, UUID):
            if shape.fullmatch(recorded) and shape.fullmatch(seen):
                self._same_id(path, recorded, seen)
                return
        if name in OPAQUE and seen:
            self._same_id(path, recorded, seen)
        elif recorded != seen and not (RFC_3339.fullmatch(recorded) and RFC_3339.fullmatch(seen)):
            self.say(path, recorded, seen)

    def _same_id(self, path: str, recorded: str, seen: str) -> None:
        there, here = self._there.setdefault(recorded, seen), self._here.setdefault(seen, recorded)
        if there != seen:
            self.say(path, f"{recorded} (elsewhere {there})", seen)
        elif here != recorded:
            self.say(path, recorded, f"{seen} (elsewhere it stands for {here})")
