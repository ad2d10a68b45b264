"""Fixtures of all tests in a browser: `chromium`, and `page` or `visit` for pages in it.

Without a Chromium the tests here skip themselves with the reason, which `make test` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chromium import MISSING, SECONDS, Visit, find_chromium, launched

expect.set_options(SECONDS * 1000)

Visiting = Callable[..., Page]


# Of a module, not of the session: Playwright keeps an event loop running in this thread, beside which no async test
# of another folder could run.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser."""
    path = find_chromium()
    if path is None:
        pytest.skip(MISSING)
    with launched(path) as browser:
        yield browser


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visiting]:
    """Gives a function that opens a page: `visit(size=PHONE, dark=True)`. Errors in it fail the test at its end."""
    visits: list[Visit] = []

    def begin(**options: Any) -> Page:
        visits.append(Visit(chromium, **options))
        return visits[-1].page

    yield begin
    for one in visits:
        one.close()
    assert [found for one in visits for found in one.wrong] == []


@pytest.fixture
def page(visit: Visiting) -> Page:
    """A page in a window of a desktop's size, in the light theme."""
    return visit()
