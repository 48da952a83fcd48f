"""How benchmarks report: a table on standard output and build/bench/NAME.json."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "build" / "bench"


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        id: its id in the design, for example "P11".
        what: what was measured, in words.
        value: the measurement.
        baseline: what it is compared with.
        unit: unit of both.
        n: measurements behind it.
    """

    id: str
    what: str
    value: float
    baseline: float
    unit: str
    n: int

    @property
    def ratio(self) -> float | None:
        """Value over baseline; None where there is no baseline to divide by."""
        return self.value / self.baseline if self.baseline else None


def report(name: str, figures: Sequence[Figure]) -> Path:
    """Prints the figures and writes them to build/bench/NAME.json; rows of other ids that are there stay.

    Returns:
        The file.
    """
    for figure in figures:
        ratio = "" if figure.ratio is None else f"  ratio {figure.ratio:.2f}"
        values = f"{figure.value:10.3f} against {figure.baseline:10.3f} {figure.unit}"
        print(f"{figure.id:4} {figure.what:60} {values}{ratio}  n={figure.n}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    rows = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
    ids = {figure.id for figure in figures}
    earlier = json.loads(path.read_text("utf-8")) if path.exists() else []
    rows = sorted([*(row for row in earlier if row["id"] not in ids), *rows], key=lambda row: row["id"])
    path.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n", "utf-8")
    return path


def merge(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints the rows and puts them into build/bench/NAME.json in place of earlier rows of the same id and words."""
    fresh = [_complete(row) for row in rows]
    for row in fresh:
        print(_line(row))
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    fresh_keys = {(row["id"], row["what"]) for row in fresh}
    kept = json.loads(path.read_text("utf-8")) if path.exists() else []
    merged = [row for row in kept if (row["id"], row["what"]) not in fresh_keys] + fresh
    merged.sort(key=lambda row: (_order(row["id"]), row["what"]))
    path.write_text(json.dumps(merged, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    value, baseline = row["value"], row.get("baseline")
    ratio = row.get("ratio", value / baseline if baseline and value is not None else None)
    return {**row, "baseline": baseline, "ratio": ratio}


def _line(row: Mapping[str, Any]) -> str:
    def shown(number: float | None) -> str:
        return "-" if number is None else f"{number:.4g}"

    against = f"{shown(row['value']):>9} against {shown(row['baseline']):>9} {row['unit']:8}"
    end = f"ratio {shown(row['ratio']):>6}  n={row['n']} {row.get('verdict', '')}"
    return f"{row['id']:11} {row['what']:84} {against} {end}"


def _order(name: str) -> tuple[int, str]:
    return (int(name[1:]), "") if name[1:].isdigit() else (99, name)
