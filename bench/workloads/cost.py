"""W6: CPU by process for 1,000 runs, and how full the app's process was."""

from __future__ import annotations


def cost(prefix: str, spent: dict[str, float], runs: int, units: int) -> dict[str, float]:
    """`<prefix>_<process>_cpu_s` for 1,000 runs, and `<prefix>_app_busy` as a share of one core (0..1).

    `<prefix>_per_cpu_s` are `units`, runs or steps, for one CPU second of all processes but the driver.
    """
    figures = {
        f"{prefix}_{name}_cpu_s": seconds / runs * 1000 for name, seconds in spent.items() if name != "wall"
    }
    if "app" in spent:
        figures[f"{prefix}_app_busy"] = spent["app"] / spent["wall"]
    own = sum(seconds for name, seconds in spent.items() if name not in {"wall", "driver"})
    if own:
        figures[f"{prefix}_per_cpu_s"] = units / own
    return figures
