"""The sizing table of docs/scaling, from the figures that are filed: python -m tests.benchmarks.scale.sizing_table.

Cards draw an image in `GPU_SECONDS`, the design's floor for SD 1.5 on a fast one; what the driver and the one rater
cost, and what embedding on a core costs, is what two cores measured. With cards of your own put your own seconds in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.scale.pipeline import Layout, ServiceTimes, Sizing, sizing

FILED = Path(__file__).with_name("scale_2-core-cpu_2026-12-01.json")
GPU_SECONDS = 0.054
"""SD 1.5, 512², 25 steps, at the card's floor: an assumption of the design, not measured here."""
TASTE_SECONDS = 5.0
"""A fit of 500 labels, a selection and what a page asks meanwhile: an assumption, of a taste and night."""
BATCH, STEP = 8, 64
"""Images of a batch (`batch_images`), and of a night's step for each that draws (`chunk`)."""
CASES = (
    (1, 0, 10_000, 1),
    (1, 0, 100_000, 10),
    (8, 0, 1_000_000, 100),
    (8, 2, 1_000_000, 100),
    (64, 16, 10_000_000, 1000),
)
"""Cards, cores that embed (0: the rater does), images and tastes of the table's rows."""


def filed(path: Path = FILED) -> dict[str, float]:
    """Returns the value of each figure by its id."""
    return {row["id"]: row["value"] for row in json.loads(path.read_text("utf-8"))}


def measured(figures: dict[str, float]) -> ServiceTimes:
    """Returns the times behind figures: an actor's image, the driver's batch, an embedded image, a row."""
    embed, rows = 1 / figures["P12f"], figures["P19"] / 1000
    return ServiceTimes(1 / figures["P12a"], figures["P12d"] / 1000, embed, rows, TASTE_SECONDS)


def on_cards(times: ServiceTimes, seconds: float = GPU_SECONDS) -> ServiceTimes:
    """Returns the same with cards in the place of cores."""
    return replace(times, draw=seconds)


def layout(cards: int, embedders: int) -> Layout:
    """Returns how a night makes its images on so many cards: its steps grow with them (`Plan.places`)."""
    return Layout(cards, BATCH, embedders, STEP * cards, meanwhile=cards > 1)


def rows(times: ServiceTimes) -> list[tuple[Sizing, int, int]]:
    """Returns what each case takes, with its images and tastes."""
    return [
        (sizing(times, [layout(cards, embedders)], images, tastes)[0], images, tastes)
        for cards, embedders, images, tastes in CASES
    ]


@dataclass(frozen=True)
class Words:
    """What a language says in the table: of places, and of who embeds."""

    places: Mapping[str, str]
    rater: str
    cores: str


def lines(times: ServiceTimes, words: Words) -> list[str]:
    """Returns the rows of the docs' table in a language."""
    return [
        f"| {size.layout.actors} | {_embeds(size.layout, words)} | {images:,} | {tastes:,} | "
        f"{size.images_per_second:,.0f} | {_hours(size.hours)} | {words.places[size.bends]} |"
        for size, images, tastes in rows(times)
    ]


ENGLISH = Words(
    {"actors": "the cards", "driver": "the driver", "embedders": "those that embed", "rater": "the one rater"},
    "the rater",
    "{count} cores",
)
JAPANESE = Words(
    {"actors": "カード", "driver": "配る側", "embedders": "埋め込む側", "rater": "一つの rater"},
    "rater",
    "コア {count}",
)


def _embeds(layout: Layout, words: Words) -> str:
    return words.cores.format(count=layout.embedders) if layout.embedders else words.rater


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 10 else f"{hours:.0f}"


if __name__ == "__main__":
    found = on_cards(measured(filed()))
    print("\n".join([*lines(found, ENGLISH), *lines(found, JAPANESE)]))
