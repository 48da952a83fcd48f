"""Every benchmark of the rater: runs the modules below, merges their figures into build/bench/rater.json by id.

`make bench-rater`, or one part of it: `make bench-rater ARGS="--only P4,P10 --small"`. A module of the table
offers `rows(arguments)`, one mapping per figure as soon as it is known, with the keys id, what, value, baseline, unit
and n; ratio is filled in. A part that cannot run here (a peer is missing) says so and leaves the others alone.
"""

import argparse
import importlib
import time
from collections.abc import Mapping, Sequence

from tests.benchmarks.results import merge

MODULES: Mapping[str, tuple[str, ...]] = {
    "serving.speed": ("P1", "P2", "P3", "P4", "P5"),
    "rater.novelty": ("P6",),
    "rater.certificate": ("certificate",),
    "rater.small_pools": ("small_pools",),
    "rater.taste": ("P10", "acquisition", "curves", "calibration", "human", "one_person"),
    "rater.populations": ("population",),
}
"""Module of the benchmarks to the ids of its figures; it runs when one of them is asked for."""


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
            for row in importlib.import_module(f"tests.benchmarks.{name}").rows(arguments):
                merge("rater-small" if arguments.small else "rater", [row])
        except ImportError as error:
            print(f"{name}: not run, {error}")
            failed.append(name)
            continue
        print(f"{name}: {time.monotonic() - began:.0f} s")
    raise SystemExit(1 if failed else 0)


def _arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="ids to run, separated by commas; all when empty")
    parser.add_argument("--small", action="store_true", help="a smoke test: small sizes; result in rater-small.json")
    parser.add_argument("--draws", type=int, default=20, help="draws of the emoji (human, one_person)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every draw")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
