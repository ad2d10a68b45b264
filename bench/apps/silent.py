"""An app that takes every call and answers none: what stands behind it in the queue stays there.

Run as `python -m bench.apps.silent PORT`.
"""

from __future__ import annotations

import asyncio
import sys

from bench.apps import raw_http
from bench.apps.marks import PREFIX


async def _never() -> raw_http.Answer:
    await asyncio.Event().wait()
    return 200, b"", b"null"


async def _at_once() -> raw_http.Answer:
    return 200, b"", b"{}"


def main(port: int) -> None:
    """Serve until killed."""
    raw_http.serve(
        port, lambda _method, path, _query, _body: _at_once() if path.startswith(PREFIX) else _never()
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
