"""The lineage of units as inline SVG: each under the one it was compared with, the served one filled."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

WIDE, HIGH, GAP_X, GAP_Y = 132, 46, 26, 30


def lineage_svg(units: Sequence[dict[str, Any]], name: Callable[[int], str], word: Callable[[str], str]) -> str:
    """Returns the SVG of a lineage.

    Args:
        units: "unit", "parent" (None for the root), "decision" and "served" of each; parents come before children.
        name: name of a unit's number.
        word: word of a decision, and of "served" and "lineage".
    """
    place = _laid_out(units)
    columns = 1 + max(column for column, _ in place.values())
    rows = 1 + max(row for _, row in place.values())
    width, height = columns * (WIDE + GAP_X) - GAP_X, rows * (HIGH + GAP_Y) - GAP_Y
    edges = "".join(_edge(place[one["parent"]], place[one["unit"]]) for one in units if one["parent"] in place)
    boxes = "".join(_box(one, place[one["unit"]], name(one["unit"]), word) for one in units)
    return (
        f'<svg role="img" class="tree" viewBox="-2 -2 {width + 4} {height + 4}" '
        f'style="width:{width + 4}px;min-width:{width + 4}px">'
        f"<title>{escape(word('lineage_graph'))}</title>{edges}{boxes}</svg>"
    )


def _laid_out(units: Sequence[dict[str, Any]]) -> dict[int, tuple[int, int]]:
    """Returns (column, row) of each unit: a child below its parent, the promoted one straight below it."""
    place: dict[int, tuple[int, int]] = {}
    taken: set[tuple[int, int]] = set()
    for one in sorted(units, key=lambda unit: (unit["decision"] != "promote", unit["unit"])):
        chain = [one]
        while chain[-1]["parent"] is not None and chain[-1]["unit"] not in place:
            parent = next((other for other in units if other["unit"] == chain[-1]["parent"]), None)
            if parent is None or parent["unit"] in place:
                break
            chain.append(parent)
        for unit in reversed(chain):
            if unit["unit"] in place:
                continue
            column, row = place.get(unit["parent"], (0, -1))
            row += 1
            while (column, row) in taken:
                column += 1
            place[unit["unit"]] = (column, row)
            taken.add((column, row))
    return place


def _edge(parent: tuple[int, int], child: tuple[int, int]) -> str:
    x1, y1 = parent[0] * (WIDE + GAP_X) + WIDE / 2, parent[1] * (HIGH + GAP_Y) + HIGH
    x2, y2 = child[0] * (WIDE + GAP_X) + WIDE / 2, child[1] * (HIGH + GAP_Y)
    middle = (y1 + y2) / 2
    return f'<path d="M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}" fill="none" stroke="var(--soft)"/>'


def _box(unit: dict[str, Any], at: tuple[int, int], name: str, word: Callable[[str], str]) -> str:
    x, y = at[0] * (WIDE + GAP_X), at[1] * (HIGH + GAP_Y)
    kind = "served" if unit["served"] else str(unit["decision"])
    said = word("in_use") if unit["served"] else word(str(unit["decision"]))
    middle = x + WIDE / 2
    return (
        f'<g class="node {escape(kind)}"><rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="10"/>'
        f'<text x="{middle}" y="{y + 20}" text-anchor="middle" font-weight="600">{escape(name)}</text>'
        f'<text x="{middle}" y="{y + 37}" text-anchor="middle" font-size="11.5">{escape(said)}</text></g>'
    )
