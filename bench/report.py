"""Medians over the rounds, the table, the goals."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rounds = dict[str, dict[str, list[float]]]
"""Contestant -> figure -> its value in each round."""

COLUMNS = {
    "w1_p50_ms": "W1 p50 ms",
    "w1_p99_ms": "W1 p99 ms",
    "w1_bare_p50_ms": "bare call ms",
    "w1_added_ms": "W1 added ms",
    "w2_step_ms": "W2 ms/step",
    "w3_runs_s": "W3 runs/s",
    "w3_share": "W3 share",
    "w4_steps_s": "W4 steps/s",
    "w4_share": "W4 share",
    "w7_end_ms": "W7 ms",
    "w3_server_cpu_s": "W3 server CPU s",
    "w4_server_cpu_s": "W4 server CPU s",
    "w3_app_cpu_s": "W3 app CPU s",
    "w4_app_cpu_s": "W4 app CPU s",
    "w3_database_cpu_s": "W3 database CPU s",
    "w4_database_cpu_s": "W4 database CPU s",
    "w4_app_busy": "W4 app busy",
    "w3_per_cpu_s": "W3 runs/CPU s",
    "w4_per_cpu_s": "W4 steps/CPU s",
    "w3_driver_cpu_s": "W3 driver CPU s",
    "w4_driver_cpu_s": "W4 driver CPU s",
    "rss_idle_mb": "RSS idle MB",
    "rss_after_mb": "RSS after MB",
    "start_s": "start s",
    "w5_quiet_1_s": "W5 single/s",
    "w5_quiet_100_s": "W5 batch/s",
    "w5_starting_1_s": "W5 single/s, starting runs",
    "w5_starting_100_s": "W5 batch/s, starting runs",
    "w5_quiet_1_cpu_us": "W5 single CPU us",
    "w5_quiet_100_cpu_us": "W5 batch CPU us",
    "w5_quiet_1_refused": "W5 single refused",
    "w5_quiet_100_refused": "W5 batch refused",
    "w5_starting_1_refused": "W5 single refused, starting",
    "w5_starting_100_refused": "W5 batch refused, starting",
    "w3_repeated": "W3 ends repeated",
    "w4_repeated": "W4 ends repeated",
}
"""Figures that the table shows, in its order. CPU is seconds for 1,000 runs; a share is of what the same app gives
without a server; busy is a share of one core; a rate by CPU seconds counts those of all processes but the driver."""


ABSENT = "-"


@dataclass(frozen=True)
class Goal:
    """What a figure of a contestant should reach: at most, or at least, `limit`."""

    contestant: str
    figure: str
    at_most: bool
    limit: float

    def reached(self, value: float) -> bool:
        """Whether the value is within the limit."""
        return value <= self.limit if self.at_most else value >= self.limit


PYTHON = "perdure, Python SDK"
OWN = "perdure, own SDK"
OWN_TEN = "perdure, own SDK, ten steps a post"
GOALS = (
    Goal(PYTHON, "w1_p50_ms", True, 3.0),
    Goal(PYTHON, "w1_added_ms", True, 1.5),
    Goal(PYTHON, "w2_step_ms", True, 2.5),
    Goal(PYTHON, "w3_runs_s", False, 900),
    Goal(PYTHON, "w3_share", False, 0.85),
    Goal(PYTHON, "w4_steps_s", False, 650),
    Goal(PYTHON, "w4_share", False, 0.85),
    Goal(PYTHON, "w7_end_ms", True, 125),
    Goal(PYTHON, "w3_server_cpu_s", True, 0.4),
    Goal(PYTHON, "w4_server_cpu_s", True, 1.0),
    Goal(OWN, "w2_step_ms", True, 0.9),
    Goal(OWN_TEN, "w2_step_ms", True, 0.3),
    Goal(OWN, "w3_runs_s", False, 2_500),
    Goal(OWN, "w4_steps_s", False, 6_000),
    Goal(OWN, "w3_server_cpu_s", True, 0.3),
    Goal(OWN, "w4_server_cpu_s", True, 0.75),
    Goal(OWN, "w4_app_cpu_s", True, 0.3),
    Goal("perdure", "w5_quiet_1_s", False, 5_000),
    Goal("perdure", "w5_quiet_100_s", False, 40_000),
    Goal("perdure", "rss_idle_mb", True, 80),
    Goal("perdure", "start_s", True, 1.0),
)
"""For a machine of two cores with synchronous=FULL. Rates depend on how busy the machine is; where a share and a rate
stand side by side, the share decides."""


def medians(rounds: Rounds) -> dict[str, dict[str, float]]:
    """The median of each figure over its rounds."""
    return {
        who: {figure: statistics.median(values) for figure, values in figures.items()}
        for who, figures in rounds.items()
    }


def shown(value: float) -> str:
    """Three figures that count, or all digits before the point."""
    if value == 0:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rounds: Rounds) -> str:
    """Markdown: a row a contestant for each group of figures that anybody has."""
    middle = medians(rounds)
    groups = (
        (
            "Speed",
            (
                "w1",
                "w2",
                "w3_runs",
                "w3_share",
                "w3_per",
                "w4_steps",
                "w4_share",
                "w4_per",
                "w4_app_busy",
                "w7",
            ),
        ),
        ("CPU seconds for 1,000 runs", ("w3_", "w4_")),
        ("Events accepted", ("w5",)),
        ("Memory and start", ("rss", "start")),
    )
    parts: list[str] = []
    done: set[str] = set()
    for title, prefixes in groups:
        columns = [
            key
            for key in COLUMNS
            if key.startswith(prefixes) and key not in done and any(key in row for row in middle.values())
        ]
        done |= set(columns)
        if columns:
            parts.append(f"**{title}**\n\n{_rows(middle, columns)}")
    return "\n\n".join(parts)


def _rows(middle: dict[str, dict[str, float]], columns: list[str]) -> str:
    lines = ["| | " + " | ".join(COLUMNS[key] for key in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for who, row in middle.items():
        if any(key in row for key in columns):
            cells = (shown(row[key]) if key in row else ABSENT for key in columns)
            lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ratios(rounds: Rounds, ours: str = PYTHON) -> str:
    """Every other contestant's figures divided by ours, of those that both have; pairs from the same run."""
    middle = medians(rounds)
    if ours not in middle:
        return ""
    keys = ("w1_p50_ms", "w2_step_ms", "w3_runs_s", "w4_steps_s", "w7_end_ms", "rss_after_mb")
    lines = [
        "| figure / ours | " + " | ".join(COLUMNS[key] for key in keys) + " | W3 CPU, all | W4 CPU, all |"
    ]
    lines.append("|---" * (len(keys) + 3) + "|")
    for who, row in middle.items():
        pairs = [(row.get(key), middle[ours].get(key)) for key in keys]
        pairs += [(_all_cpu(row, name), _all_cpu(middle[ours], name)) for name in ("w3", "w4")]
        cells = (f"{theirs / own:.2f}" if theirs and own else ABSENT for theirs, own in pairs)
        lines.append(f"| {who} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _all_cpu(row: dict[str, float], workload: str) -> float | None:
    """CPU of server, app and database together: what a run costs whoever does the work."""
    parts = [row.get(f"{workload}_{name}_cpu_s") for name in ("server", "app", "database")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def goals(rounds: Rounds) -> str:
    """One line a goal: reached or not."""
    middle = medians(rounds)
    lines = []
    for goal in GOALS:
        value = middle.get(goal.contestant, {}).get(goal.figure)
        if value is None:
            continue
        word = "reached    " if goal.reached(value) else "NOT reached"
        bound = "<=" if goal.at_most else ">="
        lines.append(
            f"{word} {goal.contestant}: {COLUMNS[goal.figure]} {shown(value)} ({bound} {shown(goal.limit)})"
        )
    return "\n".join(lines)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Keep the whole record of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
