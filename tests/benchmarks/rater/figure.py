"""Draws n-shot curves, build/bench/rater/NAME.json: `python -m tests.benchmarks.rater.figure simulated OUT.svg`."""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tests.benchmarks.rater.pool import FOLDER
from tests.benchmarks.rater.taste import interval

SHOWN = {"srcc": "Spearman", "ap_ur": "AP(UR)", "ece": "ECE of P(SSR or better)"}
MUTED = "#9a9a9a"
COLOURS = {"konomi": "#c2185b", "konomi + population": "#6a1b9a"}


def main() -> None:
    """Draws one panel a measure; konomi's interval over persons is shaded."""
    name, target = sys.argv[1:]
    rows = json.loads((FOLDER / f"{name}.json").read_text("utf-8"))
    methods = list(dict.fromkeys(row["method"] for row in rows if "shuffled" not in row["method"]))
    figure, panels = plt.subplots(1, len(SHOWN), figsize=(11, 3.4), layout="constrained")
    for panel, (measure, title) in zip(panels, SHOWN.items(), strict=True):
        for method, style in zip(methods, ("-", "-", ":", "--", "-.", (0, (5, 1)), (0, (1, 2))), strict=False):
            points = sorted((row["labels"], row["figures"]) for row in rows if row["method"] == method)
            counts = [count for count, _ in points]
            values = [[one[measure] for one in found] for _, found in points]
            colour = COLOURS.get(method, MUTED)
            panel.plot(counts, [np.nanmean(one) for one in values], linestyle=style, color=colour, label=method)
            if method in COLOURS:
                low, high = zip(*(interval(one) for one in values), strict=True)
                panel.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
        panel.set(xscale="log", title=title, xlabel="labels", xticks=counts, xticklabels=counts)
        panel.minorticks_off()
    panels[1].legend(fontsize=7, frameon=False)
    plt.rcParams["svg.hashsalt"] = "konomi"
    figure.savefig(Path(target), metadata={"Date": None})


if __name__ == "__main__":
    main()
