"""Which drafts of a pool are drawn again in full: the best within their prompts, and of the base model's some by lot.

A draft is an image of a few steps that is only rated; it never trains, is never evaluated on, and the taste never knows
it. Choosing among drafts is selection like any other: keeping the share q costs ln(1/q) nats, which the night counts.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from konomi.night.draws import Draw, Turn
from konomi.night.guards import PRESSURE_MARGIN

PART = 0.75
"""Share of a unit's part of the pressure left that is spent on drafts; the rest is for the choice among the redrawn."""


@dataclass(frozen=True)
class DraftChoice:
    """What is drawn again.

    Attributes:
        places: in the pool, rising.
        nats: selection pressure of the choice.
    """

    places: tuple[int, ...]
    nats: float


def redrawn_share(turn: Turn) -> float:
    """Returns the share of a unit's drafts that the rating keeps: no smaller than its part of the pressure left allows.

    Args:
        turn: the turn.
    """
    settings = turn.settings
    left = max(0.0, PRESSURE_MARGIN * turn.budget_nats - turn.spent_nats)
    ahead = max(1, min(settings.pressure_units, settings.units - turn.position + 1))
    return min(1.0, max(settings.redrawn_share, math.exp(-PART * left / ahead)))


def choose(draws: Sequence[Draw], bounds: Sequence[float], turn: Turn) -> DraftChoice:
    """Returns which drafts are drawn again.

    The best by their lower bounds, no prompt far above its share, so that taste is learnt within prompts; and beside
    them as many of the base model's as a training set holds, drawn by lot, since what anchors a fit is not chosen.

    Args:
        draws: the pool.
        bounds: the lower bound of each draft; one that is no number is never chosen for it.
        turn: the turn.
    """
    share, settings = redrawn_share(turn), turn.settings
    count = min(len(draws), math.ceil(share * len(draws)))
    rated = _best_within_prompts(draws, bounds, count, settings.prompt_quota)
    rest = [place for place, draw in enumerate(draws) if draw.origin == "base" and place not in rated]
    lots = min(len(rest), math.ceil(count * settings.base_share / (1 - settings.base_share)))
    drawn = random.Random(f"{turn.seed}/lot-{turn.unit}").sample(rest, lots)
    nats = math.log(len(draws) / len(rated)) if rated else 0.0
    return DraftChoice(tuple(sorted({*rated, *drawn})), nats)


def _best_within_prompts(draws: Sequence[Draw], bounds: Sequence[float], count: int, quota: float) -> set[int]:
    """Returns the best places, at most `quota` times its share from each prompt, where a quota is asked for."""
    known = [bound if math.isfinite(bound) else -math.inf for bound in bounds]
    ranked = sorted(range(len(draws)), key=lambda place: (-known[place], place))
    if not quota:
        return set(ranked[:count])
    of_prompt = Counter(draw.prompt for draw in draws)
    taken: Counter[str] = Counter()
    best: set[int] = set()
    for place in ranked:
        prompt = draws[place].prompt
        if len(best) < count and taken[prompt] < math.ceil(quota * count * of_prompt[prompt] / len(draws)):
            taken[prompt] += 1
            best.add(place)
    return best
