"""Lists of runs and of apps."""

from __future__ import annotations

import msgspec
import pytest

from perdure.terminal.records import App, Function, Trigger
from perdure.terminal.rendering import apps_list, runs_table, status_word
from perdure.terminal.text import columns, plain
from tests.unit.terminal.traced import NOW, RUN_ID, listed


def test_runs_line_up():
    runs = [
        listed("RUNNING"),
        listed("QUEUED", started_at=None),
        listed(function={"id": "f", "slug": "s", "name": "A function of a rather long name"}),
    ]
    lines = [plain(pieces) for pieces in runs_table(runs, NOW, 80)]
    assert lines == [
        "STATUS       RUN                         AGE   TOOK  FUNCTION",
        f"● running    {RUN_ID}   1m  1m 0s  Order paid",
        f"○ queued     {RUN_ID}   1m         Order paid",
        f"✓ completed  {RUN_ID}   1m  7.11s  A function of a rather lon…",
    ]
    assert max(map(columns, lines)) <= 80


def test_off_a_terminal_nothing_is_cut():
    name = "A function of a rather long name " * 9
    run = listed(function={"id": "f", "slug": "s", "name": name})
    assert plain(runs_table([run], NOW, None)[-1]).endswith(name.strip())


def test_no_runs_is_a_sentence():
    assert [plain(pieces) for pieces in runs_table([], NOW, 80)] == ["There are no such runs."]


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("COMPLETED", "✓ completed"), ("FAILED", "✗ failed"), ("CANCELLED", "⊘ cancelled"), ("SKIPPED", "⊘ skipped"),
        ("RUNNING", "● running"), ("QUEUED", "○ queued"), ("WAITING", "◌ waiting"), ("NEW", "? new"),
    ],
)  # fmt: skip
def test_every_status_has_a_mark_and_a_word(status: str, text: str):
    assert status_word(status).text == text


def app(name: str, *functions: Function, error: str | None = None) -> App:
    return App("id", name, "http://localhost:3000/api/inngest", "py", "v0.5.19", error, list(functions))


def test_apps_with_their_functions():
    pay = Function("1", "shop-pay", "Pay", [Trigger("EVENT", "order/paid", "event.data.n > 1")])
    clean_up = Function("2", "shop-clean-up", "Clean up", [Trigger("CRON", "0 3 * * *")])
    inner = Function("3", "shop-inner", "Inner", [])
    lines = apps_list([app("shop", pay, clean_up, inner), app("broken", error="cannot be reached")], 80)
    assert [plain(pieces) for pieces in lines] == [
        "shop  http://localhost:3000/api/inngest  py v0.5.19",
        "  shop-clean-up  cron 0 3 * * *",
        "  shop-inner     invoked only",
        "  shop-pay       order/paid if event.data.n > 1",
        "",
        "broken  http://localhost:3000/api/inngest  py v0.5.19",
        "  ✗ its last sync failed: cannot be reached",
        "  no functions",
    ]


def test_each_problem_of_a_sync_has_its_line():
    error = "Functions are invalid:\n- shop-pay: if is wrong.\n    event.a ==\n              ^"
    lines = [plain(pieces) for pieces in apps_list([app("shop", error=error)], 60)]
    assert lines[1:5] == [
        "  ✗ its last sync failed: Functions are invalid:",
        "    - shop-pay: if is wrong.",
        "        event.a ==",
        "                  ^",
    ]


def test_limits_that_a_person_has_set_are_named():
    given = msgspec.Raw(b'{"concurrency":3,"throttle":null}')
    pay = Function("1", "shop-pay", "Pay", [Trigger("EVENT", "order/paid")], "hold", given)
    told = plain(apps_list([app("shop", pay)], None)[1])
    assert told == "  shop-pay  paused, new runs wait; concurrency, throttle set by hand; order/paid"


@pytest.mark.parametrize(
    ("paused", "told"), [("hold", "paused, new runs wait"), ("skip", "paused, new runs are skipped")]
)
def test_a_paused_function_says_so(paused: str, told: str):
    pay = Function("1", "shop-pay", "Pay", [Trigger("EVENT", "order/paid")], paused)
    assert plain(apps_list([app("shop", pay)], 80)[1]) == f"  shop-pay  {told}; order/paid"


def test_long_slugs_have_their_triggers_below():
    long = Function("1", "shop-" + "x" * 60, "Pay", [Trigger("EVENT", "order/paid" * 12)])
    lines = [plain(pieces) for pieces in apps_list([app("shop", long)], 80)]
    assert lines[1] == "  shop-" + "x" * 60
    assert lines[2].startswith("      order/paid")
    assert max(map(columns, lines)) <= 80


def test_no_app_says_what_to_do():
    assert "perdure dev -u" in plain(apps_list([], 80)[0])
