"""Draws the night's proof from build/bench/night/*.jsonl: `python -m tests.benchmarks.night.figure OUT.svg`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from tests.benchmarks.night.islands import SHIPPED, STRATEGIES
from tests.benchmarks.night.simulated.bed import spread
from tests.benchmarks.night.trials import Trial, Trials, by_person, interval

COLOURS = {
    "default": "#c2185b",
    "naive replace": "#555555",
    "naive accumulate": "#9a9a9a",
    "default, adversarial rater": "#6a1b9a",
}
UNITS = 10


def main() -> None:
    """Draws three panels: the truth of every unit, taste against diversity, islands."""
    bed, islands = (list(Trials(name).all().values()) for name in ("bed", "islands"))
    plt.rcParams["svg.hashsalt"] = "konomi"
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    _curves(panels[0], bed)
    _pareto(panels[1], bed)
    _islands(panels[2], islands)
    figure.savefig(Path(sys.argv[1]), metadata={"Date": None})


def _curves(panel: Any, bed: list[Trial]) -> None:
    for name, colour in COLOURS.items():
        nights = [trial for trial in bed if trial["policy"] == name]
        if not nights:
            continue
        curve = [interval(by_person(nights, _served_after(unit))) for unit in range(UNITS + 1)]
        middle, low, high = zip(*curve, strict=True)
        panel.plot(range(UNITS + 1), middle, color=colour, label=f"{name} ({len(nights)} nights)")
        panel.fill_between(range(UNITS + 1), low, high, color=colour, alpha=0.15, linewidth=0)
    panel.set(xlabel="units asked for", ylabel="SSR rate of the unit served", ylim=(0, None))
    panel.set_title("truly SSR or better (fast bed, M3)", fontsize=10)
    panel.legend(fontsize=7, frameon=False)


def _served_after(unit: int) -> Callable[[Trial], float]:
    """Returns the SSR rate of what a night serves after so many units; one that ended serves on."""

    def rate(trial: Trial) -> float:
        made = [one for one in trial["units_made"][: unit + 1] if one["promoted"]]
        if unit >= len(trial["units_made"]) - 1:
            made = [one for one in trial["units_made"] if one["unit"] == trial["served"]]
        return float(made[-1]["ssr"])

    return rate


def _pareto(panel: Any, bed: list[Trial]) -> None:
    """Names a point unless one that is named already lies so near that neither could be read."""
    named: list[tuple[float, float]] = []
    for name in dict.fromkeys(trial["policy"] for trial in bed):
        nights = [trial for trial in bed if trial["policy"] == name]
        across = float(np.mean([spread(trial) for trial in nights]))
        up = float(np.mean([_served_after(UNITS)(trial) for trial in nights]))
        panel.plot(across, up, "o", color=COLOURS.get(name, "#d0d0d0"), markersize=5)
        if all(abs(across - x) > 0.2 or abs(up - y) > 0.012 for x, y in named):
            panel.annotate(name, (across, up), fontsize=6, xytext=(4, 2), textcoords="offset points")
            named.append((across, up))
    panel.set(xlabel="Vendi of the served unit / base", ylabel="SSR rate of the unit served", xlim=(0.1, 1.45))
    panel.set_title("taste against diversity (M7)", fontsize=10)


def _islands(panel: Any, islands: list[Trial]) -> None:
    for place, name in enumerate(STRATEGIES):
        found = [trial for trial in islands if trial["strategy"] == name]
        if found:
            middle, low, high = interval(by_person(found, lambda trial: float(trial["islands"])))
            panel.barh(place, middle, color="#c2185b" if name == SHIPPED else "#9a9a9a")
            panel.plot([low, high], [place, place], color="black", linewidth=1)
    panel.set(xlabel="islands a person", yticks=range(len(STRATEGIES)), yticklabels=list(STRATEGIES))
    panel.tick_params("y", labelsize=8)
    panel.set_title("likes nobody knew, 200 labels (M4)", fontsize=10)
    panel.invert_yaxis()


if __name__ == "__main__":
    main()
