"""Flow control: everything that decides when a run starts, waits, is joined with others, or is dropped.

One file a rule. `admission` is the place to begin: it puts the rules in their order for an event that met a
function. What it lets through waits in `turns` until its throttle and its concurrency limits have room.

Nothing here asks for the time, reads a store or keeps anything by itself: `now` is an argument, in milliseconds
since 1970, and what a rule has to remember is a small value that the caller stores under the key.
"""

from __future__ import annotations
