"""The Opportunity Tracker as a person meets it: its pages in Chromium, its app and its server as processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import DESKTOP, PHONE, looked_at
from tests.browser.conftest import Visiting
from tests.example.conftest import SUMMARY, Gemini, Said, candidate, problem, sample
from tests.example.processes import Deployment, deployed

pytestmark = pytest.mark.slow

SAMPLES = Path(__file__).resolve().parents[2] / "examples" / "opportunity_tracker" / "transcripts"


@pytest.fixture(scope="module")
def gemini() -> Iterator[Gemini]:
    fake = Gemini()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def tracker(
    chromium: object, gemini: Gemini, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The app and the server. Without a browser nothing is started."""
    with deployed(tmp_path_factory.mktemp("tracker"), gemini) as running:
        running.start()
        yield running


def good(after: float = 0.0) -> Said:
    """An answer of Gemini as it should be."""
    return Said(candidate(json.dumps(SUMMARY)), after=after)


def opportunity(page: Page, tracker: Deployment, name: str) -> None:
    """Create one from the first page."""
    page.goto(tracker.app_url)
    page.get_by_label("New opportunity").fill(name)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def status(page: Page, wanted: str) -> None:
    """The page comes to show this status, without being asked to."""
    expect(page.locator(".statusline [data-status]")).to_have_text(wanted)


def mark(page: Page) -> None:
    """Leave a mark, which is gone if the page is loaded anew."""
    page.evaluate("window.mark = 1")


def marked(page: Page) -> bool:
    return bool(page.evaluate("window.mark === 1"))


def test_a_text_is_uploaded_and_its_status_changes_by_itself(
    page: Page, tracker: Deployment, gemini: Gemini
) -> None:
    gemini.say(good(after=3))
    page.goto(tracker.app_url)
    expect(page.get_by_text("No opportunities yet.")).to_be_visible()
    opportunity(page, tracker, "Hollis Freight")
    expect(page.get_by_text("No calls yet.")).to_be_visible()
    page.get_by_label("Title").fill("First call")
    page.get_by_role("textbox", name="Transcript").fill(sample("discovery"))
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="First call")).to_be_visible()
    mark(page)
    status(page, "parsing")
    expect(page.get_by_text("The transcript is being read.")).to_be_visible()
    status(page, "completed")
    assert marked(page)
    shown = page.get_by_label("Summary", exact=True)
    for text in (
        *SUMMARY["pain_points"], *SUMMARY["next_steps"], *SUMMARY["objections"], SUMMARY["budget"],
        SUMMARY["timeline"], SUMMARY["sentiment"], "Account executive",
    ):  # fmt: skip
        expect(shown).to_contain_text(text)
    page.get_by_role("link", name="Hollis Freight").click()
    history = page.get_by_label("History")
    expect(history).to_contain_text(SUMMARY["budget"])
    expect(page.get_by_role("link", name="First call")).to_contain_text("completed")


def test_a_file_is_uploaded_and_every_page_follows(
    visit: Visiting, tracker: Deployment, gemini: Gemini
) -> None:
    gemini.say(good(after=4))
    page, home = visit(), visit()
    opportunity(page, tracker, "Norden Werke")
    page.get_by_label("or a text file").set_input_files(SAMPLES / "german.txt")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("german.txt")
    # The list of opportunities, in another window, and the opportunity, which is gone back to.
    home.goto(tracker.app_url)
    mark(home)
    row = home.get_by_role("link", name="Norden Werke")
    expect(row).to_contain_text("parsing")
    page.get_by_role("link", name="Norden Werke").click()
    mark(page)
    call = page.get_by_role("link", name="german.txt")
    expect(call).to_contain_text("parsing")
    expect(call).to_contain_text("completed")
    expect(page.get_by_label("History")).to_contain_text(SUMMARY["pain_points"][0])
    expect(row).not_to_contain_text("parsing")
    expect(row).to_contain_text("positive")
    assert (marked(page), marked(home)) == (True, True)


def test_a_call_fails_shows_why_and_is_retried(page: Page, tracker: Deployment, gemini: Gemini) -> None:
    gemini.say(problem(403, "PERMISSION_DENIED", "API key not valid."), good(after=2))
    opportunity(page, tracker, "Cardle & Sons")
    page.get_by_role("textbox", name="Transcript").fill("Buyer: We are ready.")
    page.get_by_role("button", name="Upload").click()
    status(page, "failed")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Why it failed")
    expect(alert).to_contain_text("Gemini refused the API key")
    page.get_by_role("button", name="Retry parsing").click()
    mark(page)
    status(page, "parsing")
    expect(alert).to_have_count(0)
    status(page, "completed")
    assert marked(page)
    expect(page.locator(".statusline")).to_contain_text("Try 2.")
    expect(page.get_by_label("Summary", exact=True)).to_contain_text(SUMMARY["budget"])


def test_what_was_typed_is_kept_and_the_fault_is_named(visit: Visiting, tracker: Deployment) -> None:
    page = visit(expects=422)
    opportunity(page, tracker, "Two of them")
    page.get_by_label("Title").fill("Both at once")
    page.get_by_role("textbox", name="Transcript").fill("Buyer: Hello.")
    page.get_by_label("or a text file").set_input_files(SAMPLES / "short.txt")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("There is a text and a file.")
    expect(page.get_by_label("Title")).to_have_value("Both at once")
    expect(page.get_by_role("textbox", name="Transcript")).to_have_value("Buyer: Hello.")


def test_the_app_is_killed_while_somebody_watches(page: Page, tracker: Deployment, gemini: Gemini) -> None:
    gemini.say(good(after=60))
    opportunity(page, tracker, "Patience Ltd")
    page.get_by_role("textbox", name="Transcript").fill("Buyer: We have time.")
    page.get_by_role("button", name="Upload").click()
    mark(page)
    status(page, "parsing")
    tracker.asked(1)
    tracker.app.kill()
    expect(page.locator(".stale")).to_have_count(1)
    tracker.start_app()
    status(page, "completed")
    expect(page.locator(".stale")).to_have_count(0)
    assert marked(page)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_page_fits_and_can_be_read(
    visit: Visiting, tracker: Deployment, gemini: Gemini, size: tuple[int, int], dark: bool
) -> None:
    gemini.say(problem(403, "PERMISSION_DENIED", "API key not valid."), good())
    page = visit(size=size, dark=dark)
    opportunity(page, tracker, "A company with a rather long name, Incorporated")
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 3 * 128) == dark
    for text, ends_as in (("Buyer: First.", "failed"), ("Buyer: Second.", "completed")):
        looked_at(page)
        page.get_by_role("textbox", name="Transcript").fill(text)
        page.get_by_role("button", name="Upload").click()
        status(page, ends_as)
        looked_at(page)
        page.get_by_role("link", name="A company").click()
        expect(page.get_by_role("heading", name="Calls", exact=True)).to_be_visible()
    expect(page.get_by_label("History")).to_be_visible()
    looked_at(page)
    page.goto(tracker.app_url)
    looked_at(page)
