"""How benchmarks report: a table on standard output and build/bench/NAME.json."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

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
