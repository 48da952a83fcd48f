"""Alarms of over-optimisation: a rater that is pushed too hard, or shown what it cannot know (Gao et al. 2210.10760).

Four signals: the rater's mean rises while people's does not, its doubt doubles, its images leave what is known, the
selection pressure adds up. Numbers in, sentences by name out.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from konomi_rater.sentences import Sentence

RUNS = 2
"""Generations running that make a gap an alarm."""
LEAST_GRADED = 8
"""Random grades of a generation below which its human mean is not looked at."""
RISE = 0.05
"""Rise of the rater's mean, in grades, that counts as one."""
RATIO = 2.0
"""Times the first generation's doubt or share of strangers."""
LEAST_SHARE = 0.05
"""Share of strangers that counts as the first generation's at least: the 95th percentile's own 5 %."""


@dataclass(frozen=True)
class Generation:
    """What is known of the images of one unit.

    Attributes:
        unit: its name; the first generation is the base model.
        proxy: mean utility by the rater, 1..5.
        doubt: mean standard deviation of it.
        strangers: share beyond the 95th percentile of known distances, 0..1.
        human: mean grade by people of those shown at random, 1..5.
        graded: how many grades that mean rests on.
    """

    unit: str
    proxy: float
    doubt: float
    strangers: float
    human: float
    graded: int


@dataclass(frozen=True)
class Pressure:
    """Selection pressure spent since a person last audited."""

    nats: float
    best_of_n_nats: float
    selections: int


def best_of_n(kept_share: float) -> float:
    """Returns the divergence of choosing the best of n = 1 / kept share, ln n - (n - 1) / n, in nats."""
    return -math.log(kept_share) - (1.0 - kept_share)


def pressure_of(kept_shares: Sequence[float]) -> Pressure:
    """Adds up the pressure of selections, each given by the share of its candidates it kept, above 0 to 1."""
    upper = sum(-math.log(share) for share in kept_shares)
    return Pressure(upper, sum(best_of_n(share) for share in kept_shares), len(kept_shares))


def over_optimised(generations: Sequence[Generation]) -> list[Sentence]:
    """Returns the alarms of the last generation, given all of them in the order they were made."""
    if len(generations) < 2:
        return []
    first, last = generations[0], generations[-1]
    return [alarm for alarm in (_gap(generations), _doubt(first, last), _strangers(first, last)) if alarm is not None]


def over_pressed(pressure: Pressure, limit: float) -> list[Sentence]:
    """Returns the alarm of a pressure above its limit, in nats."""
    return [Sentence("pressure", {"nats": pressure.nats, "limit": limit})] if pressure.nats > limit + 1e-9 else []


def _gap(generations: Sequence[Generation]) -> Sentence | None:
    graded = [generation for generation in generations if generation.graded >= LEAST_GRADED][-RUNS - 1 :]
    if len(graded) <= RUNS or graded[-1] is not generations[-1]:
        return None
    pairs = list(itertools.pairwise(graded))
    if not all(after.proxy - before.proxy > RISE and after.human <= before.human for before, after in pairs):
        return None
    first, last = graded[0], graded[-1]
    rise, human = last.proxy - first.proxy, last.human - first.human
    return Sentence("gap", {"proxy": rise, "human": human}, {"first": first.unit, "last": last.unit})


def _doubt(first: Generation, last: Generation) -> Sentence | None:
    ratio = last.doubt / max(first.doubt, 1e-9)
    words = {"first": first.unit, "last": last.unit}
    return Sentence("doubt", {"ratio": ratio}, words) if ratio > RATIO else None


def _strangers(first: Generation, last: Generation) -> Sentence | None:
    if last.strangers <= RATIO * max(first.strangers, LEAST_SHARE):
        return None
    words = {"first": first.unit, "last": last.unit}
    return Sentence("strangers", {"share": last.strangers, "base": first.strangers}, words)
