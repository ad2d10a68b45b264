"""W6: CPU by process for 1,000 runs, and how full the app's process was."""

from __future__ import annotations


def cost(prefix: str, spent: dict[str, float], runs: int) -> dict[str, float]:
    """`<prefix>_<process>_cpu_s` for 1,000 runs, and `<prefix>_app_busy` as a share of one core (0..1)."""
    figures = {
        f"{prefix}_{name}_cpu_s": seconds / runs * 1000 for name, seconds in spent.items() if name != "wall"
    }
    if "app" in spent:
        figures[f"{prefix}_app_busy"] = spent["app"] / spent["wall"]
    return figures
