"""Whole nights of foreign prompts on the bundled base model: `make bench-foreign_prompts ARGS='--seeds 10'`.

Method: see `foreign_prompts`; each night takes minutes. `--first` goes on where an earlier run ended.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.demo.foreign_prompts import ForeignNight, sleep
from tests.benchmarks.results import FOLDER, Figure, report


def main() -> None:
    """Sleeps the nights and reports all of them that were slept so far."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--images", type=int, default=96)
    asked = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    kept = FOLDER / "foreign_prompts_nights.json"
    nights = {} if not asked.first or not kept.exists() else json.loads(kept.read_text("utf-8"))
    for seed in range(asked.first, asked.first + asked.seeds):
        with tempfile.TemporaryDirectory() as home:
            night = sleep(seed, Path(home), asked.images)
        print(night, flush=True)
        nights[str(seed)] = asdict(night)
        kept.write_text(json.dumps(nights, indent=1) + "\n", "utf-8")
    _report([ForeignNight(**night) for night in nights.values()])


def _report(nights: list[ForeignNight]) -> None:
    count = len(nights)
    figures = [
        Figure("foreign", "nights with a unit served unwarned", sum(n.unwarned for n in nights), 0, "nights", count),
        Figure("foreign", "starts refused with the warning", sum(n.refused for n in nights), count, "nights", count),
        Figure("foreign", "nights with a unit served", sum(n.served > 0 for n in nights), count, "nights", count),
        Figure("foreign", "halted by a guard", sum(n.state == "halted" for n in nights), count, "nights", count),
    ]
    report("foreign_prompts", figures)


if __name__ == "__main__":
    main()
