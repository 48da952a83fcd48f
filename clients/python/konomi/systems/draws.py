"""What the systems share: one image to make, the turn it is made in, and seeds no two purposes share."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from konomi.night_settings import NightSettings


@dataclass(frozen=True)
class Draw:
    """One image to make.

    Attributes:
        prompt: prompt.
        seed: seed of this image alone, 0 to 2**31 - 1.
        origin: "served" for the unit served now, "base" for the base model.
        init: digest of the image it starts from (img2img); empty for text to image.
        strength: share of the steps run on that image, 0..1.
        rare: anneal the prompt's influence for rarer pictures (CADS).
        depth: generations between it and the images a set began with; 0 where nobody counts.
    """

    prompt: str
    seed: int
    origin: str
    init: str = ""
    strength: float = 0.0
    rare: bool = False
    depth: int = 0


@dataclass(frozen=True)
class Turn:
    """One turn of the loop, as a system sees it.

    Attributes:
        seed: seed of the night.
        unit: number of the unit it makes.
        position: how many units this night has begun, this one included.
        prompts: open prompts, one or more.
        settings: settings of the night.
        budget_nats: selection pressure the whole night may spend.
        served_is_base: no unit is served yet, so everything comes from the base model.
        pool: images that can be selected from; known once they are made.
        spent_nats: pressure of the units before.
        seen: what the system asked to have observed before it draws, as plain JSON.
    """

    seed: int
    unit: int
    position: int
    prompts: Sequence[str]
    settings: NightSettings
    budget_nats: float
    served_is_base: bool = True
    pool: int = 0
    spent_nats: float = 0.0
    seen: dict[str, Any] = field(default_factory=dict)


def image_seed(seed: int, purpose: str, index: int) -> int:
    """Returns the seed of one image: a hash of night seed, purpose and index, so no draw depends on another."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def shuffled(prompts: Sequence[str], key: str) -> list[str]:
    """Returns the distinct prompts in an order the key alone decides."""
    order = sorted(set(prompts))
    random.Random(hashlib.sha256(key.encode()).digest()).shuffle(order)
    return order


def evaluation_draws(seed: int, prompts: Sequence[str], settings: NightSettings) -> list[Draw]:
    """Returns the fixed prompts and seeds every unit is evaluated on; they are disjoint from every pool's seeds."""
    order = shuffled(prompts, f"{seed}/evaluation")
    return [
        Draw(order[i % len(order)], image_seed(seed, "evaluation", i), "served")
        for i in range(settings.evaluation_images)
    ]
