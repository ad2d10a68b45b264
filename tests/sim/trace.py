"""What happened in a history, in order: for the story of a failure, and for telling two histories apart."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator


class Trace:
    """Lines with the time, the run that they concern (or none) and a sentence."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        self._lines: list[tuple[float, str, str]] = []

    def note(self, text: str, run: str = "") -> None:
        """Write down what happened just now."""
        self._lines.append((self.seconds(), run, text))

    def __len__(self) -> int:
        return len(self._lines)

    def digest(self) -> str:
        """The same for the same history, and for no other."""
        digest = hashlib.sha256()
        for seconds, run, text in self._lines:
            digest.update(f"{seconds:.6f} {run} {text}\n".encode())
        return digest.hexdigest()

    def story(self, run: str = "", limit: int = 60) -> Iterator[str]:
        """The last lines about a run and about everybody, or the last of all."""
        lines = [line for line in self._lines if not run or line[1] in {run, ""}]
        for seconds, about, text in lines[-limit:]:
            who = f" [{about[-6:]}]" if about else ""
            yield f"{seconds:12.3f}s{who} {text}"
