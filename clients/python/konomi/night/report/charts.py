"""Curves with their 95 % intervals as inline SVG that follows the page's colours (only import of matplotlib)."""

import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import PercentFormatter

from konomi.i18n.catalogue import language
from konomi.night.metrics import Estimate
from konomi.night.report.facts import LineageUnit

INK, FAINT = "#010203", "#040506"
SERIES = ("#0a0b0c", "#0d0e0f", "#101112")
"""Placeholders that become the page's own colours, so that light and dark need only one picture."""

COLOURS = {
    INK: "currentColor",
    FAINT: "var(--line)",
    SERIES[0]: "var(--accent)",
    SERIES[1]: "var(--second)",
    SERIES[2]: "var(--third)",
}

STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.parse_math": False,  # a name with dollar signs is a name
}


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: what it is, for the legend.
        figures: one figure with interval per unit, in the order of the ticks.
    """

    label: str
    figures: Sequence[Estimate]


def curve(
    ticks: Sequence[str],
    series: Sequence[Series],
    *,
    percent: bool = False,
    from_zero: bool = True,
    floor: tuple[float, str] | None = None,
    alt: str = "",
) -> Markup:
    """Returns the SVG of curves over units with their intervals.

    Args:
        ticks: name of each unit.
        series: one to three curves.
        percent: the values are shares.
        from_zero: the axis begins at 0; false where values may be negative.
        floor: a limit worth seeing, and its name.
        alt: what the picture shows, for people who do not see it.
    """
    with rc_context({**STYLE, **_salt()}):
        canvas = Canvas(figsize=(5.6, 3.2), layout="constrained")
        axes = canvas.add_subplot()
        for index, (each, colour) in enumerate(zip(series, SERIES, strict=False)):
            offset = (index - (len(series) - 1) / 2) * 0.06
            _draw(axes, [position + offset for position in range(len(ticks))], each, colour)
        if floor is not None:
            _draw_floor(axes, *floor)
        axes.set_xticks(range(len(ticks)), ticks)
        axes.set_xlim(-0.35, len(ticks) - 0.65)
        if from_zero:
            axes.set_ylim(bottom=0)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        if len(series) > 1:
            axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(series), fontsize=10)
        return _svg(canvas, alt)


def dots(rows: Sequence[tuple[str, Estimate, float]], *, alt: str = "") -> Markup:
    """Returns the SVG of figures from 0 to 1 on one line each, with interval and the mark of pure chance.

    Args:
        rows: name, figure, and the value a rater without any taste would reach.
        alt: what the picture shows.
    """
    with rc_context({**STYLE, **_salt(), "axes.grid.axis": "x"}):
        canvas = Canvas(figsize=(5.6, 0.55 * len(rows) + 0.55), layout="constrained")
        axes = canvas.add_subplot()
        for position, (_, figure, chance) in enumerate(rows):
            axes.plot(
                [figure["low"], figure["high"]],
                [position, position],
                color=SERIES[0],
                linewidth=2.4,
                alpha=0.45,
                solid_capstyle="round",
            )
            axes.plot([figure["value"]], [position], "o", color=SERIES[0], markersize=7)
            axes.plot([chance], [position], "|", color=INK, markersize=13, markeredgewidth=1.2)
        axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(min(0.0, *(figure["low"] for _, figure, _ in rows)), 1)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(canvas, alt)


def _salt() -> dict[str, str]:
    """Returns what makes the ids of a drawing those of its language alone: a page holds one drawing in several."""
    return {"svg.hashsalt": f"konomi-{language()}"}


def _draw_floor(axes: Axes, value: float, name: str) -> None:
    axes.axhline(value, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    axes.annotate(
        name,
        (1, value),
        (0, -11),
        xycoords=("axes fraction", "data"),
        ha="right",
        fontsize=9.5,
        textcoords="offset points",
    )


def _draw(axes: Axes, positions: Sequence[float], series: Series, colour: str) -> None:
    values = [figure["value"] for figure in series.figures]
    below = [max(0.0, figure["value"] - figure["low"]) for figure in series.figures]
    above = [max(0.0, figure["high"] - figure["value"]) for figure in series.figures]
    axes.plot(positions, values, "-", color=colour, linewidth=2, alpha=0.5)
    axes.errorbar(
        positions,
        values,
        yerr=[below, above],
        fmt="o",
        color=colour,
        markersize=6.5,
        elinewidth=1.6,
        capsize=0,
        label=series.label,
    )


def _svg(canvas: Canvas, alt: str) -> Markup:
    """Returns the drawing for a page: no prologue, no fixed size, the page's colours, a title for screen readers."""
    out = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the page's own font draws the text, not matplotlib's
        canvas.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    for placeholder, colour in COLOURS.items():
        text = text.replace(placeholder, colour)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    head, end, rest = text.partition(">")
    head = head.replace("<svg ", '<svg role="img" ', 1)
    return Markup(f"{head}{end}<title>{escape(alt)}</title>{rest}")


WIDE, HIGH, GAP_X, GAP_Y = 132, 46, 26, 30


def lineage_svg(units: Sequence[LineageUnit], name: Callable[[int], str], words: Mapping[str, str], alt: str) -> Markup:
    """Returns the SVG of a lineage.

    Args:
        units: units; parents come before children.
        name: name of a unit's number.
        words: word of each decision, and of "served".
        alt: what the picture shows.
    """
    place = _laid_out(units)
    columns = 1 + max(column for column, _ in place.values())
    rows = 1 + max(row for _, row in place.values())
    width, height = columns * (WIDE + GAP_X) - GAP_X, rows * (HIGH + GAP_Y) - GAP_Y
    edges = "".join(
        _edge(place[unit.parent], place[unit.unit])
        for unit in units
        if unit.parent is not None and unit.parent in place
    )
    boxes = "".join(_box(unit, place[unit.unit], name(unit.unit), words) for unit in units)
    return Markup(
        f'<svg role="img" class="tree" viewBox="-2 -2 {width + 4} {height + 4}" '
        f'style="width:{width + 4}px;min-width:{width + 4}px">'
        f"<title>{escape(alt)}</title>{edges}{boxes}</svg>"
    )


def _laid_out(units: Sequence[LineageUnit]) -> dict[int, tuple[int, int]]:
    """Returns (column, row) of each unit: a child below its parent, the promoted one straight below it."""
    by_number = {unit.unit: unit for unit in units}
    place: dict[int, tuple[int, int]] = {}
    taken: set[tuple[int, int]] = set()
    for leaf in sorted(units, key=lambda unit: (unit.decision != "promote", unit.unit)):
        chain = [leaf]
        while chain[-1].parent in by_number and chain[-1].unit not in place and chain[-1].parent not in place:
            chain.append(by_number[chain[-1].parent])
        for unit in reversed(chain):
            if unit.unit in place:
                continue
            column, row = (0, -1) if unit.parent is None else place.get(unit.parent, (0, -1))
            row += 1
            while (column, row) in taken:
                column += 1
            place[unit.unit] = (column, row)
            taken.add((column, row))
    return place


def _edge(parent: tuple[int, int], child: tuple[int, int]) -> str:
    x1, y1 = parent[0] * (WIDE + GAP_X) + WIDE / 2, parent[1] * (HIGH + GAP_Y) + HIGH
    x2, y2 = child[0] * (WIDE + GAP_X) + WIDE / 2, child[1] * (HIGH + GAP_Y)
    middle = (y1 + y2) / 2
    return f'<path d="M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}" fill="none" stroke="var(--soft)"/>'


def _box(unit: LineageUnit, at: tuple[int, int], name: str, words: Mapping[str, str]) -> str:
    x, y = at[0] * (WIDE + GAP_X), at[1] * (HIGH + GAP_Y)
    kind = "served" if unit.served else unit.decision
    middle = x + WIDE / 2
    return (
        f'<g class="node {escape(kind)}"><rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="10"/>'
        f'<text x="{middle}" y="{y + 20}" text-anchor="middle" font-weight="600">{escape(name)}</text>'
        f'<text x="{middle}" y="{y + 37}" text-anchor="middle" font-size="11.5">{escape(words[kind])}</text></g>'
    )
