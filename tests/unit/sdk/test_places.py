"""Where errors say that something is: the author's line, never one of a library or of whoever started the loop."""

from __future__ import annotations

import asyncio
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from perdure.sdk import codec
from perdure.sdk.places import at, defined_at, place

HERE = "tests/unit/sdk/test_places.py"


def test_the_innermost_line_of_the_author() -> None:
    def inner() -> str:
        return place()

    assert inner().endswith(f"{HERE}:{inner.__code__.co_firstlineno + 1}, in inner")
    through_a_library = json.loads("[1]", object_hook=None, parse_int=lambda _: place())
    assert through_a_library[0].endswith("in <lambda>")


async def test_the_loop_below_a_callback_is_nobodys() -> None:
    """Above the loop stands code of the SDK alone: whoever has started the loop, this test, is not named."""
    code = compile("def fulfil(seen):\n    seen.set_result(place())", codec.__file__, "exec")
    names: dict[str, Any] = {"place": place}
    exec(code, names)
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(functools.partial(names["fulfil"], seen))
    assert await seen == ""


def _asked() -> str:
    return place()


def test_in_a_thread() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(_asked).result().endswith("in _asked")


def test_where_a_function_is_written() -> None:
    def written() -> None: ...

    line = written.__code__.co_firstlineno

    @functools.wraps(written)
    def wrapped(*_: Any) -> None: ...

    for one in (written, functools.partial(written), functools.partial(functools.partial(written)), wrapped):
        assert defined_at(one).endswith(f"{HERE}:{line}")
    assert defined_at(len) == ""
    assert (at(""), at("jobs.py:1")) == ("", " (jobs.py:1)")
