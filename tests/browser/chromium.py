"""Chromium as the tests use it: where it is, how it is started, and what a page must not do.

It is the machine's own (Debian's package `chromium`, or what CHROMIUM names), driven by Playwright, so that no other
browser is downloaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
# Containers have no user namespaces to build a sandbox of; nothing is to be fetched behind the tests' back.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = (1200, 850)
PHONE = (390, 844)
SECONDS = 30.0
"""How long an action or an expectation may take on a busy machine."""
MISSING = (
    "there is no Chromium on this machine (Debian: apt install chromium; CHROMIUM=/path/to/it names another)"
)


def find_chromium() -> str | None:
    """Its path, or None if there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """The browser, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """A page of a browser of its own: nothing is remembered of other visits. What goes wrong in it is collected."""

    def __init__(
        self,
        browser: Browser,
        size: tuple[int, int] = DESKTOP,
        dark: bool = False,
        expects: int | None = None,
        **options: Any,
    ) -> None:
        """`expects` is a status of 400 or above that is no fault here; other options are of Playwright's contexts."""
        width, height = size
        self._context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            **options,
        )
        self._context.set_default_timeout(SECONDS * 1000)
        self._expects = expects
        self.wrong: list[str] = []
        self.page: Page = self._context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("response", self._answered)

    def _said(self, message: ConsoleMessage) -> None:
        # A status that is not 2xx is told with its address by _answered.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(f"{message.type}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status != self._expects:
            self.wrong.append(f"HTTP {response.status}: {response.request.method} {response.url}")

    def close(self) -> None:
        """Leave."""
        self._context.close()


# Each text on the page against what is behind it, by WCAG 2's formula; 4.5 is its level AA for text of normal size.
UNREADABLE = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)}: ${element.textContent.trim().slice(0, 60)}`);
  }
  return found;
}"""


def looked_at(page: Page) -> None:
    """The page is not wider than its window, and each text on it can be read. Raises AssertionError."""
    sizes = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert sizes[0] <= sizes[1], f"{page.url} is {sizes[0]} px wide in a window of {sizes[1]}"
    assert page.evaluate(UNREADABLE) == [], page.url
