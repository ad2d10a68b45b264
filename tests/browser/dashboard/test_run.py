"""The page of a run: what it did, what came of it, why it waits, and what can be done about it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visiting
from tests.browser.dashboard.conftest import Demo
from tests.sdk.driver import until


def line(page: Page, name: str) -> None:
    """Choose a line of the trace."""
    page.get_by_label("Trace").get_by_role("button", name=re.compile(f"^{name}")).click()


def test_the_trace_opens_its_attempts_and_shows_results(page: Page, demo: Demo) -> None:
    run_id = demo.ended("order/placed", order=100, flaky=True)
    page.goto(f"{demo.url}/runs/{run_id}")
    trace = page.get_by_label("Trace")
    for name in ("charge-card", "reserve-stock", "print-label"):
        expect(trace).to_contain_text(name)
    expect(trace).to_contain_text("2 tries")
    details = page.get_by_role("complementary")
    expect(details).to_contain_text('"currency"')
    lines = trace.get_by_role("listitem")
    before = lines.count()
    trace.get_by_role("button", name="Attempts of charge-card").click()
    expect(lines).to_have_count(before + 2)
    trace.get_by_role("button", name=re.compile("[Aa]ttempt 1")).click()
    expect(details).to_contain_text("the card of order 100 was declined")
    expect(page).to_have_url(re.compile("line="))
    page.reload()
    expect(page.get_by_label("Trace")).to_contain_text("charge-card")
    page.keyboard.press("Escape")
    expect(details.get_by_role("heading", level=2)).to_have_text("Run")


def test_an_error_has_its_stack_and_its_cause(page: Page, demo: Demo) -> None:
    run_id = demo.ended("mail/send", to="b@example.org")
    page.goto(f"{demo.url}/runs/{run_id}")
    line(page, "deliver")
    error = page.get_by_role("region", name="Error")
    expect(error).to_contain_text("ValueError")
    expect(error).to_contain_text("550 mailbox unavailable")
    expect(error).to_contain_text("in deliver")
    expect(error).to_contain_text("no route to b@example.org")


def test_a_run_is_live_says_why_it_waits_and_ends_before_the_eye(page: Page, demo: Demo) -> None:
    run_id = demo.run("order/placed", order=101, pickup=True)
    page.goto(f"{demo.url}/runs/{run_id}")
    expect(page.get_by_label("Trace")).to_contain_text("wait-for-pickup")
    expect(page.locator(".why")).to_contain_text("order/picked-up")
    demo.server.send({"name": "order/picked-up", "data": {"order": 101}})
    expect(page.locator(".run-title .status")).to_have_text("Completed")
    expect(page.locator(".why")).to_have_count(0)


def test_a_run_is_run_again_from_the_start(page: Page, demo: Demo) -> None:
    run_id = demo.ended("order/placed", order=102)
    page.goto(f"{demo.url}/runs/{run_id}")
    page.locator(".run-actions").get_by_role("button", name="Rerun", exact=True).click()
    expect(page).not_to_have_url(re.compile(run_id))
    expect(page.get_by_text("Rerun of")).to_be_visible()
    expect(page.locator(".run-title .status")).to_have_text("Completed")


def test_a_run_is_run_again_from_a_step_with_other_arguments(page: Page, demo: Demo) -> None:
    run_id = demo.ended("order/placed", order=103)
    page.goto(f"{demo.url}/runs/{run_id}")
    line(page, "charge-card")
    page.get_by_role("button", name="with other arguments").click()
    page.get_by_label(re.compile("Arguments of the step")).fill("[9999, false]")
    page.get_by_role("button", name="Rerun from here").click()
    expect(page).not_to_have_url(re.compile(run_id))
    expect(page.locator(".run-title .status")).to_have_text("Completed")
    expect(page.get_by_role("complementary")).to_contain_text("99990")


def test_a_run_is_cancelled(page: Page, demo: Demo) -> None:
    run_id = demo.run("order/placed", order=104, pickup=True)
    page.goto(f"{demo.url}/runs/{run_id}")
    page.locator(".run-actions").get_by_role("button", name="Cancel").click()
    expect(page.locator(".run-title .status")).to_have_text("Cancelled")
    assert demo.server.run(run_id)["status"] == "Cancelled"


def test_logs_and_the_invoked_run(page: Page, demo: Demo) -> None:
    run_id = demo.ended("doc/uploaded", text="three small words")
    until("its log", lambda: demo.server.http.get(f"/api/runs/{run_id}/logs").json()["lines"])
    page.goto(f"{demo.url}/runs/{run_id}")
    page.get_by_role("tab", name="Logs").click()
    log = page.get_by_label("Log", exact=True)
    expect(log).to_contain_text("page 3 of 3")
    expect(log).to_contain_text("two pages were empty")
    trace = page.get_by_label("Trace")
    before = trace.get_by_role("listitem").count()
    trace.get_by_role("button", name="Run of count-words").click()
    expect(trace.get_by_role("listitem")).to_have_count(before + 2)


def test_the_keyboard_goes_through_the_trace(page: Page, demo: Demo) -> None:
    run_id = demo.ended("order/placed", order=105, flaky=True)
    page.goto(f"{demo.url}/runs/{run_id}")
    expect(page.get_by_label("Trace")).to_contain_text("charge-card")
    lines = page.get_by_label("Trace").get_by_role("listitem")
    before = lines.count()
    pressed = page.get_by_label("Trace").locator("[aria-pressed=true]")
    page.keyboard.press("j")
    expect(pressed).to_have_text(re.compile("charge-card"))
    page.keyboard.press("Enter")
    expect(lines).to_have_count(before + 2)
    page.keyboard.press("j")
    expect(pressed).not_to_have_text(re.compile("charge-card"))
    page.keyboard.press("k")
    expect(pressed).to_have_text(re.compile("charge-card"))
    page.keyboard.press("Escape")
    expect(pressed).to_have_count(0)


def test_two_runs_are_compared(page: Page, demo: Demo) -> None:
    one, other = demo.ended("order/placed", order=106), demo.ended("order/placed", order=107)
    page.goto(f"{demo.url}/runs/{one}/compare/{other}")
    expect(page.get_by_role("main")).to_contain_text("charge-card")
    expect(page.get_by_role("main")).to_contain_text(other[-6:])


def test_what_is_not_there_is_said(visit: Visiting, demo: Demo) -> None:
    page = visit(expects=404)
    page.goto(f"{demo.url}/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV")
    expect(page.get_by_role("alert")).to_contain_text("no run")
