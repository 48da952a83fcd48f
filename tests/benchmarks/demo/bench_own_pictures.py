"""Nights on 150 pictures of one's own, and trials of a base model: `make bench-own_pictures ARGS='--seeds 20'`.

Method: see `own_pictures`. The bed's world is made of `--images` starter images, half of them konomi's, drawn once.
"""

import argparse

from threadpoolctl import threadpool_limits

from tests.benchmarks.demo import own_pictures
from tests.benchmarks.night.simulated.world import World
from tests.benchmarks.rater import pool
from tests.benchmarks.results import merge


def main() -> None:
    """Runs nights and trials and merges their rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=("nights", "trials"))
    asked = parser.parse_args()
    bed = World(pool.load(asked.images))
    with threadpool_limits(1):
        rows = [] if asked.only == "trials" else own_pictures.rows(bed, asked.seeds)
        rows += [] if asked.only == "nights" else own_pictures.warnings(bed, asked.seeds)
    merge("own_pictures", [row | {"n": asked.seeds, "unit": ""} for row in rows])


if __name__ == "__main__":
    main()
