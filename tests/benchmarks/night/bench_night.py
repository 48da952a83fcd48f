"""The proof of the night: M1 to M5, M7 and M10 on simulated persons.

`make bench-night`, or one part: `make bench-night ARGS="--only M2,M4 --persons 6 --seeds 1"`. Finished
trials are kept in build/bench/night/, one JSON line each, and are not repeated; figures of whatever is finished go to
build/bench/night.json. `--only M2 --ways "default,signed 0.5"` compares ways of learning; it may be cut off at any time
and goes on with the next night. `--ci` is a small subset of every part, about ten minutes on two cores.
"""

import argparse
import importlib
import json
import time
from collections.abc import Mapping, Sequence

from tests.benchmarks.results import FOLDER, merge

MODULES: Mapping[str, tuple[str, ...]] = {
    "islands": ("M4",),
    "labels": ("M1",),
    "simulated.bed": ("M3", "M7"),
    "nights": ("M2",),
    "growth": ("M5",),
    "week": ("M10",),
}
"""Module beside this file to the ids of its figures; the fast ones come first."""
LONG = ("M10",)
"""Only where they are asked for: a person's week is seven real nights."""


def main() -> None:
    """Runs what was asked for and merges its figures."""
    arguments = _arguments()
    known = {name for names in MODULES.values() for name in names}
    wanted = set(arguments.only.split(",")) if arguments.only else known - set(LONG)
    if wanted - known:
        raise SystemExit(f"expected ids among {', '.join(sorted(known))}, found {', '.join(sorted(wanted - known))}")
    for module, names in MODULES.items():
        if wanted & set(names):
            began = time.monotonic()
            merge("night", importlib.import_module(f"tests.benchmarks.night.{module}").rows(arguments))
            print(f"{module}: {time.monotonic() - began:.0f} s", flush=True)
    (FOLDER / "night").mkdir(parents=True, exist_ok=True)
    (FOLDER / "night" / "arguments.json").write_text(json.dumps(vars(arguments)), "utf-8")


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ids to run, separated by commas; all but M10 when empty")
    parser.add_argument("--persons", type=int, default=0, help="persons of 20; 0 means as many as a part uses")
    parser.add_argument("--skip", type=int, default=0, help="M2's ways alone: persons passed over, the first ones")
    parser.add_argument("--seeds", type=int, default=0, help="seeds a person; 0 means as many as a part uses")
    parser.add_argument("--units", type=int, default=0, help="units of a real night; 0 means 5")
    parser.add_argument("--owner", type=int, default=0, help="M5 alone: images the owner grades after every turn")
    parser.add_argument("--ways", default="", help="M2 alone: ways of learning to compare, by name, or all")
    parser.add_argument("--ci", action="store_true", help="a small subset; its figures are no proof")
    parser.add_argument("--figures", action="store_true", help="run nothing, only report what is finished")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
