"""The list of runs: live, narrowed by what stands in the address, acted on with mouse and keyboard."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.dashboard.conftest import Demo


def test_the_list_fills_and_changes_by_itself(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.url}/runs")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    run_id = demo.run("order/placed", order=1, pickup=True)
    line = page.get_by_role("row").filter(has=page.get_by_label(f"Select run {run_id}"))
    expect(line).to_contain_text("Fulfil an order")
    expect(line).to_contain_text("Running")
    demo.waits(run_id)
    demo.server.send({"name": "order/picked-up", "data": {"order": 1}})
    expect(line).to_contain_text("Completed")


def test_a_filter_stands_in_the_address(page: Page, demo: Demo) -> None:
    failed, good = demo.ended("mail/send", to="a@example.org"), demo.ended("order/placed", order=2)
    page.goto(f"{demo.url}/runs")
    expect(page.get_by_label(f"Select run {good}")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Status")).click()
    page.get_by_role("menuitemcheckbox", name="Failed").click()
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("status=.*FAILED"))
    for _ in range(2):
        expect(page.get_by_label(f"Select run {failed}")).to_be_visible()
        expect(page.get_by_label(f"Select run {good}")).to_have_count(0)
        page.reload()
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_label(f"Select run {good}")).to_be_visible()


def test_columns_are_chosen_and_kept(page: Page, demo: Demo) -> None:
    run_id = demo.ended("order/placed", order=3)
    page.goto(f"{demo.url}/runs")
    page.get_by_role("button", name="Choose columns").click()
    page.get_by_role("menuitemcheckbox", name="Run", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("cell", name=run_id, exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("cell", name=run_id, exact=True)).to_be_visible()


def test_chosen_runs_are_cancelled_and_rerun(page: Page, demo: Demo) -> None:
    runs = [demo.run("order/placed", order=order, pickup=True) for order in (10, 11)]
    page.goto(f"{demo.url}/runs")
    for run_id in runs:
        page.get_by_label(f"Select run {run_id}").check()
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("2 runs cancelled")).to_be_visible()
    assert {demo.server.ended(run_id)["status"] for run_id in runs} == {"Cancelled"}
    line = page.get_by_role("row").filter(has=page.get_by_label(f"Select run {runs[0]}"))
    expect(line).to_contain_text("Cancelled")
    before = page.get_by_role("checkbox").count()
    page.get_by_label(f"Select run {runs[0]}").check()
    page.get_by_role("button", name="Rerun", exact=True).click()
    expect(page.get_by_text("1 run started again")).to_be_visible()
    expect(page.get_by_role("checkbox")).to_have_count(before + 1)


def test_runs_are_searched_by_what_they_were_given_and_gave(page: Page, demo: Demo) -> None:
    wanted, other = demo.ended("order/placed", order=77), demo.ended("order/placed", order=78)
    page.goto(f"{demo.url}/runs")
    box = page.get_by_label("Search runs by an expression")
    box.fill("output.paid.amount == 770")
    box.press("Enter")
    expect(page.get_by_text("1 run found")).to_be_visible()
    expect(page.get_by_label(f"Select run {wanted}")).to_be_visible()
    expect(page.get_by_label(f"Select run {other}")).to_have_count(0)
    expect(page).to_have_url(re.compile("query="))


def test_the_keyboard_alone_is_enough(page: Page, demo: Demo) -> None:
    older, newer = demo.ended("order/placed", order=20), demo.ended("order/placed", order=21)
    page.goto(f"{demo.url}/runs")
    first = page.get_by_label(f"Select run {newer}")
    expect(first).to_be_visible()
    for key in "jjkx":
        page.keyboard.press(key)
    expect(first).to_be_checked()
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.keyboard.press("Escape")
    expect(first).not_to_be_checked()
    for key in "jj":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/runs/{older}"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Fulfil an order")
    for key in "gf":
        page.keyboard.press(key)
    expect(page.get_by_role("heading", level=1)).to_have_text("Functions")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Go to the runs")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("nightly")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Nightly report")
    page.keyboard.press("Control+k")
    page.keyboard.type(newer)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/runs/{newer}"))


def test_a_view_is_saved_under_a_name(page: Page, demo: Demo) -> None:
    page.goto(f"{demo.url}/runs?status=%5B%22FAILED%22%5D")
    page.get_by_role("button", name="Saved views").click()
    page.get_by_role("menuitem", name="Save what is shown").click()
    page.get_by_label("Name of the view").fill("What failed")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(f"{demo.url}/runs")
    page.get_by_role("button", name="Saved views").click()
    page.get_by_role("menuitem", name="What failed").click()
    expect(page).to_have_url(re.compile("FAILED"))
