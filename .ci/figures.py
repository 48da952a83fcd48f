"""Keeps the tables of the README true to what was filed: `update` writes them anew, `check` says which one drifted.

A table stands between `<!-- table: NAME -->` and `<!-- /table -->`; it is made of a JSON file that a benchmark or a
command printed and that is filed under `tests/benchmarks/`.
"""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DEMO = Path("tests/benchmarks/demo/demo_2-core-cpu_2026-11-30.json")
"""What `konomi demo --seed N --json` printed last, N and the commit beside it."""
HEADS = {
    "README.md": (
        "person | rater: Spearman on fresh images | truly SSR or better, base → served | truly UR | "
        "diversity kept (Vendi)"
    ),
    "README.ja.md": (
        "採点者 | 評価モデルの順位相関（新しい画像） | 真に SSR 以上、元のモデル → 採用した世代 | 真に UR | "
        "保たれた多様性（Vendi）"
    ),
}
UNIT = {"README.md": " (unit {})", "README.ja.md": "（unit {}）"}
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)


def demo_table(readme: str, root: Path) -> str:
    """Returns the table of the demo's runs as a README has it.

    Args:
        readme: its name, which says its language.
        root: of the repository.
    """
    runs = json.loads((root / DEMO).read_text("utf-8"))["runs"]
    rows = [f"| {HEADS[readme]} |", "|---|---|---|---|---|", *(demo_row(readme, run) for run in runs)]
    return "\n".join(rows) + "\n"


def demo_row(readme: str, run: Mapping[str, Any]) -> str:
    """Returns a row: rank correlation, true rates of the base and of the unit served, and the diversity left."""
    base, served = run["units"][0], next(unit for unit in run["units"] if unit["unit"] == run["served_unit"])
    cells = [
        str(run["seed"]),
        f"{run['rater']['srcc']:.2f}".lstrip("0"),
        f"{base['ssr_rate']:.0%} → {served['ssr_rate']:.0%}".replace("%", " %") + UNIT[readme].format(served["unit"]),
        f"{base['ur_rate']:.0%} → {served['ur_rate']:.0%}".replace("%", " %"),
        f"{served['vendi'] / base['vendi']:.0%}".replace("%", " %"),
    ]
    return f"| {' | '.join(cells)} |"


TABLES: Mapping[str, Callable[[str, Path], str]] = {"demo": demo_table}


def rendered(readme: str, root: Path) -> str:
    """Returns the text of a README with every table made anew.

    Raises:
        KeyError: it has a table that nothing makes.
    """
    text = (root / readme).read_text("utf-8")
    return TABLE.sub(lambda found: found[1] + TABLES[found[2]](readme, root) + found[3], text)


def main(what: str, root: Path) -> int:
    """Writes the READMEs anew, or says which differ; returns how many differed."""
    drifted = [readme for readme in HEADS if rendered(readme, root) != (root / readme).read_text("utf-8")]
    for readme in drifted:
        if what == "update":
            (root / readme).write_text(rendered(readme, root), "utf-8")
        else:
            print(f"{readme}: a table differs from what was filed; run `make figures`.", file=sys.stderr)
    return len(drifted) if what == "check" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(__file__).parents[1]))
