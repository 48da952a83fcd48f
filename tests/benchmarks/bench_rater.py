"""Every benchmark of the rater: runs the modules below, merges their figures into build/bench/rater.json by id.

`make bench-rater`, or one part of it: `python tests/benchmarks/bench_rater.py --only P4,P10 --small`. A module beside
this file offers `rows(arguments)`, one mapping per figure as soon as it is known, with the keys id, what, value,
baseline, unit and n; ratio is filled in. A part that cannot run here (a peer is missing) says so and leaves the
others alone.
"""

import argparse
import importlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results import FOLDER

MODULES: Mapping[str, tuple[str, ...]] = {
    "rater_serving": ("P1", "P2", "P3", "P4", "P5"),
    "rater_novelty": ("P6",),
    "rater_certificate": ("certificate",),
    "rater_taste": ("P10", "acquisition", "curves", "calibration", "human"),
}
"""Module beside this file to the ids of its figures; it runs when one of them is asked for."""


def main() -> None:
    """Runs what was asked for; exits with 1 when a part failed."""
    arguments = _arguments()
    wanted = set(arguments.only.split(",")) if arguments.only else {i for ids in MODULES.values() for i in ids}
    known = {i for ids in MODULES.values() for i in ids}
    if wanted - known:
        raise SystemExit(f"expected ids among {', '.join(sorted(known))}, found {', '.join(sorted(wanted - known))}")
    failed = []
    for name, ids in MODULES.items():
        arguments.ids = tuple(i for i in ids if i in wanted)
        if not arguments.ids:
            continue
        began = time.monotonic()
        try:
            for row in importlib.import_module(name).rows(arguments):
                merge("rater-small" if arguments.small else "rater", [row])
        except ImportError as error:
            print(f"{name}: not run, {error}")
            failed.append(name)
            continue
        print(f"{name}: {time.monotonic() - began:.0f} s")
    raise SystemExit(1 if failed else 0)


def merge(name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints the rows and puts them into build/bench/NAME.json in place of earlier rows of the same id and words."""
    fresh = [_complete(row) for row in rows]
    for row in fresh:
        print(_line(row))
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    said = {(row["id"], row["what"]) for row in fresh}
    kept = json.loads(path.read_text("utf-8")) if path.exists() else []
    merged = [row for row in kept if (row["id"], row["what"]) not in said] + fresh
    merged.sort(key=lambda row: (_order(row["id"]), row["what"]))
    path.write_text(json.dumps(merged, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")


def _complete(row: Mapping[str, Any]) -> dict[str, Any]:
    value, baseline = row["value"], row.get("baseline")
    ratio = row.get("ratio", value / baseline if baseline and value is not None else None)
    return {**row, "baseline": baseline, "ratio": ratio}


def _line(row: Mapping[str, Any]) -> str:
    def said(number: float | None) -> str:
        return "-" if number is None else f"{number:.4g}"

    against = f"{said(row['value']):>9} against {said(row['baseline']):>9} {row['unit']:8}"
    end = f"ratio {said(row['ratio']):>6}  n={row['n']} {row.get('verdict', '')}"
    return f"{row['id']:11} {row['what']:84} {against} {end}"


def _order(name: str) -> tuple[int, str]:
    return (int(name[1:]), "") if name[1:].isdigit() else (99, name)


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ids to run, separated by commas; all when empty")
    parser.add_argument("--small", action="store_true", help="a smoke test: small sizes; result in rater-small.json")
    parser.add_argument("--seed", type=int, default=0, help="seed of every draw")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
