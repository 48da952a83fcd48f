"""Long tail: quality-diversity search for what the owner does not know to like (MAP-Elites, Mouret & Clune 1504.04909).

Every turn has three proposal sources: the base model with annealed prompts (CADS, 2310.17347), images grown from the
best of every region (img2img), and recombined prompts of the served unit. Only typical images enter: novelty alone
drifts to noise (Cuccu & Gomez 2011). The unit learns from the best of every region, none of them above its share.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from konomi.i18n.catalogue import N_
from konomi.night.alarms import Alarm
from konomi.night.draws import Draw, Turn, image_seed
from konomi.night.records.state import Selection
from konomi.night.settings import NightSettings
from konomi.night.systems import converge
from konomi.night.systems.base import System, avoids_as_asked

STRENGTHS = (0.5, 0.6, 0.7, 0.8)
"""Strengths of img2img: enough to keep the region, too much to keep the picture."""

GROWTH = 0.02
"""A turn that widens the covered share of the regions by less than this found nothing new."""

UNSEEN = 0.05
"""Good-Turing mass of likes not seen yet below which little is left to find (Good 1953: f1 / n)."""

LEAST_SHOWINGS = 20
"""Liked showings from which that mass can fall below 5 % by more than chance: one region more is 1 / n."""

WITHOUT_ISLAND = 100
"""Labels without a new island after which the search ends."""


class LongTailSettings(NightSettings):
    """What `longtail` alone is told."""

    younger: ClassVar[frozenset[str]] = frozenset()  # every night has recorded these

    longtail_cells: int = Field(64, ge=4, le=4096)
    """`longtail`: regions the space is divided into; each holds the best image known of it."""
    elite_share: float = Field(0.35, ge=0, le=1)
    """`longtail`: share of a pool that starts from the best images of their regions (img2img)."""
    rare_share: float = Field(0.35, ge=0, le=1)
    """`longtail`: share of a pool the base model makes with annealed prompts (CADS)."""
    longtail_quota: float = Field(1.0, ge=0)
    """`longtail`: no cell of the training set above this times its base share."""


def pool_size(settings: NightSettings) -> int:
    """Returns how many images a unit adds to the pool."""
    return settings.images


def draws(turn: Turn) -> list[Draw]:
    """Returns what a unit adds to the pool: rare pictures, children of elites, and recombined prompts."""
    settings, elites = turn.settings.of(LongTailSettings), turn.seen.get("elites", [])
    count = pool_size(settings)
    children = round(count * settings.elite_share) if elites else 0
    rare = round(count * settings.rare_share)
    pool = []
    for index in range(count):
        rng = _rng(turn, index)
        prompt, seed = recombined(turn.prompts, rng), image_seed(turn.seed, f"unit-{turn.unit}", index)
        if index < children:
            parent = elites[index % len(elites)]
            mixed = recombined([parent["prompt"], prompt], rng) if parent["prompt"] else prompt
            pool.append(Draw(mixed, seed, "base", parent["digest"], rng.choice(STRENGTHS)))
        elif index < children + rare:
            pool.append(Draw(prompt, seed, "base", rare=True))
        else:
            pool.append(Draw(prompt, seed, "base" if turn.served_is_base else "served"))
    return pool


def recombined(prompts: Sequence[str], rng: random.Random) -> str:
    """Returns a prompt that takes each of its parts from one of two prompts drawn at random.

    Args:
        prompts: prompts, one or more, their parts separated by commas.
        rng: source of randomness.
    """
    order = sorted(set(prompts))
    first, second = (rng.choice(order).split(",") for _ in range(2))
    longest = max(len(first), len(second))
    parts = [rng.choice([half[place] for half in (first, second) if place < len(half)]) for place in range(longest)]
    return ", ".join(dict.fromkeys(part.strip() for part in parts if part.strip()))


def selection(turn: Turn) -> dict[str, object]:
    """Returns what is asked of SelectImages: the pressure of converge, spread over the regions."""
    quota = turn.settings.of(LongTailSettings).longtail_quota
    return converge.selection(turn) | {"quota": quota, "prompt_quota": 0.0, "spread": "farthest_point"}


def verdict(turn: Turn, chosen: Selection, earlier: Sequence[Selection]) -> Alarm | None:
    """Returns why the night ends before this fit: nothing new is left to find, or the last turn reached nothing new.

    Args:
        turn: the turn; its `seen` carries "coverage", and once slates were shown what these have found.
        chosen: the set.
        earlier: the sets before, each with the coverage seen then.
    """
    seen = turn.seen
    if seen.get("liked_showings", 0) >= LEAST_SHOWINGS and seen["unseen_likes"] < UNSEEN:
        return Alarm("unseen_likes", {"share": seen["unseen_likes"], "n": seen["liked_showings"]})
    if seen.get("labels_since_island", 0) >= WITHOUT_ISLAND:
        return Alarm("no_islands", {"labels": seen["labels_since_island"], "islands": seen["islands"]})
    before = earlier[-1].coverage if earlier else None
    if before is None:
        return None
    now = seen["coverage"]
    return Alarm("longtail_flat", {"coverage": now, "before": before}) if now < before + GROWTH else None


def observed_cells(settings: NightSettings) -> int:
    """Returns the regions whose best images are observed before a turn draws."""
    return settings.of(LongTailSettings).longtail_cells


def _rng(turn: Turn, index: int) -> random.Random:
    return random.Random(hashlib.sha256(f"{turn.seed}/longtail-{turn.unit}/{index}".encode()).digest())


SYSTEM = System(
    "longtail",
    N_("Long tail"),
    N_("find what you did not know you like"),
    draws,
    pool_size,
    selection,
    verdict,
    settings=LongTailSettings,
    observed_cells=observed_cells,
    avoids=avoids_as_asked,
)
