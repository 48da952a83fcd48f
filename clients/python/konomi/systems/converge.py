"""Self-convergence: expert iteration on all images so far, every fit from the base model (Ferbach et al. 2407.09499).

p_T is proportional to p_0 exp(T r), so the number of units is the strength; selecting the share q of a pool costs at
most ln(1/q) nats. The pool only grows (Gerstgrasser et al. 2404.01413) and is scored anew for every unit.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from konomi.night_settings import NightSettings

PRESSURE_MARGIN = 0.95
"""Share of the pressure budget the plan aims at: quota and gate keep fewer images than asked for."""


@dataclass(frozen=True)
class Draw:
    """One image to make.

    Attributes:
        prompt: prompt.
        seed: seed of this image alone, 0 to 2**31 - 1.
        origin: "served" for the unit served now, "base" for the base model.
    """

    prompt: str
    seed: int
    origin: str


def image_seed(seed: int, purpose: str, index: int) -> int:
    """Returns the seed of one image: a hash of night seed, purpose and index, so no draw depends on another."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


def draws(seed: int, unit: int, prompts: Sequence[str], settings: NightSettings, served_is_base: bool) -> list[Draw]:
    """Returns what unit number `unit` adds to the pool: every prompt about equally often, fresh seeds.

    Args:
        seed: seed of the night.
        unit: number of the unit in this night, from 1.
        prompts: open prompts, one or more.
        settings: settings of the night.
        served_is_base: no unit is served yet, so everything comes from the base model.
    """
    order = _shuffled(prompts, f"{seed}/unit-{unit}")
    served = 0 if served_is_base else round(settings.images * settings.served_share)
    return [
        Draw(order[i % len(order)], image_seed(seed, f"unit-{unit}", i), "served" if i < served else "base")
        for i in range(settings.images)
    ]


def evaluation_draws(seed: int, prompts: Sequence[str], settings: NightSettings) -> list[Draw]:
    """Returns the fixed prompts and seeds every unit is evaluated on; they are disjoint from every pool's seeds."""
    order = _shuffled(prompts, f"{seed}/evaluation")
    return [
        Draw(order[i % len(order)], image_seed(seed, "evaluation", i), "served")
        for i in range(settings.evaluation_images)
    ]


def selection(pool: int, spent_nats: float, unit: int, budget_nats: float, settings: NightSettings) -> dict[str, float]:
    """Returns the fields of the selection: the pressure left is spread evenly over the units left.

    Args:
        pool: images that can be selected from.
        spent_nats: pressure of the units before.
        unit: number of the unit in this night, from 1.
        budget_nats: pressure the whole night may spend.
        settings: settings of the night.
    """
    left = max(0.0, PRESSURE_MARGIN * budget_nats - spent_nats)
    share = max(settings.kept_share, math.exp(-left / (settings.units - unit + 1)))
    count = min(settings.select_maximum, max(settings.select_minimum, math.ceil(share * pool)))
    return {
        "count": min(count, max(1, pool)),
        "base_share": settings.base_share,
        "kappa": settings.kappa,
        "quota": settings.quota,
        "prompt_quota": settings.prompt_quota,
        "duplicate_cosine": settings.duplicate_cosine,
        "typicality_percentile": settings.typicality_percentile,
    }


def hyper_parameters(settings: NightSettings) -> dict[str, float]:
    """Returns the numbers of the fit, which always starts from the base model."""
    return {
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "rank": settings.rank,
        "caption_dropout": settings.caption_dropout,
    }


def _shuffled(prompts: Sequence[str], key: str) -> list[str]:
    order = sorted(set(prompts))
    random.Random(hashlib.sha256(key.encode()).digest()).shuffle(order)
    return order
