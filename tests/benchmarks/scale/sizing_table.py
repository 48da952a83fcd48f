"""The sizing table of docs/scaling, from the figures that are filed: python -m tests.benchmarks.scale.sizing_table.

Cards draw an image in `GPU_SECONDS`, the design's floor for SD 1.5 on a fast one; what the driver and the one rater
cost is what two cores measured. With cards of your own put your own seconds in.
"""

import json
from pathlib import Path

from tests.benchmarks.scale.pipeline import ServiceTimes, Sizing, sizing

FILED = Path(__file__).with_name("scale_2-core-cpu_2026-11-30.json")
GPU_SECONDS = 0.054
"""SD 1.5, 512², 25 steps, at the card's floor: an assumption of the design, not measured here."""
TASTE_SECONDS = 5.0
"""A fit of 500 labels, a selection and what a page asks meanwhile: an assumption, of a taste and night."""
BATCH = 8
CASES = ((1, 10_000, 1), (1, 100_000, 10), (8, 1_000_000, 100), (64, 10_000_000, 1000))
"""Cards, images and tastes of the table's rows."""


def filed(path: Path = FILED) -> dict[str, float]:
    """Returns the value of each figure by its id."""
    return {row["id"]: row["value"] for row in json.loads(path.read_text("utf-8"))}


def measured(figures: dict[str, float]) -> ServiceTimes:
    """Returns the service times behind figures: one actor's image, the driver's batch, an image the rater scored."""
    return ServiceTimes(1 / figures["P12a"], figures["P12d"] / 1000, 1 / figures["P16a"], TASTE_SECONDS)


def on_cards(times: ServiceTimes) -> ServiceTimes:
    """Returns the same with cards in the place of cores."""
    return ServiceTimes(GPU_SECONDS, times.hand_out, times.embed, times.taste)


def rows(times: ServiceTimes) -> list[tuple[Sizing, int, int]]:
    """Returns what each case takes, with its images and tastes."""
    return [(sizing(times, (cards,), images, tastes, BATCH)[0], images, tastes) for cards, images, tastes in CASES]


def lines(times: ServiceTimes, names: dict[str, str]) -> list[str]:
    """Returns the rows of the docs' table; `names` says "actors", "driver" and "rater" in their language."""
    return [
        f"| {size.actors} | {images:,} | {tastes:,} | {size.images_per_second:.0f} | {_hours(size.hours)} | "
        f"{names[size.bends]} |"
        for size, images, tastes in rows(times)
    ]


ENGLISH = {"actors": "the cards", "driver": "the driver", "rater": "the one rater"}
JAPANESE = {"actors": "カード", "driver": "配る側", "rater": "一つの rater"}


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 10 else f"{hours:.0f}"


if __name__ == "__main__":
    found = on_cards(measured(filed()))
    print("\n".join([*lines(found, ENGLISH), *lines(found, JAPANESE)]))
