"""Alarms of over-optimisation: a rater that is pushed too hard, or shown what it cannot know (Gao et al. 2210.10760).

Four signals (taste.md, section 8): the rater's mean rises while people's does not, its doubt doubles, its images leave
what is known, the selection pressure adds up. Numbers in, plain sentences out; the client holds the Japanese.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

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

SENTENCES = {
    "gap": "Over-optimisation: from {first} to {last} the rater's mean grade rose {proxy:.2f} and people's own did not "
    "({human:+.2f}); grade more random images of {last}, or roll back.",
    "doubt": "Over-optimisation: the rater doubts the images of {last} {ratio:.1f} times as much as those of {first}; "
    "grade some of them.",
    "strangers": "Over-optimisation: {share:.0%} of the images of {last} are unlike anything known, {base:.0%} of "
    "{first}; look at them before going on.",
    "pressure": "Over-optimisation: {nats:.1f} nats of selection since a person last audited, more than {limit:.1f}; "
    "audit a set with `konomi rater certify`.",
    "not_activated": "Not activated: on {n} panel images no version was fitted on it ranks surely worse than version "
    "{against} (srcc {srcc:.2f} against {earlier:.2f}); that one goes on scoring.",
}
"""Name to sentence."""


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


def sentence(name: str, **numbers: object) -> str:
    """Returns one alarm as a plain sentence."""
    return SENTENCES[name].format(**numbers)


def over_optimised(generations: Sequence[Generation]) -> list[str]:
    """Returns the alarms of the last generation, given all of them in the order they were made."""
    if len(generations) < 2:
        return []
    found = [_gap(generations), _doubt(generations[0], generations[-1]), _strangers(generations[0], generations[-1])]
    return [alarm for alarm in found if alarm is not None]


def over_pressed(pressure: Pressure, limit: float) -> list[str]:
    """Returns the alarm of a pressure above its limit, in nats."""
    return [sentence("pressure", nats=pressure.nats, limit=limit)] if pressure.nats > limit + 1e-9 else []


def _gap(generations: Sequence[Generation]) -> str | None:
    graded = [generation for generation in generations if generation.graded >= LEAST_GRADED][-RUNS - 1 :]
    if len(graded) <= RUNS or graded[-1] is not generations[-1]:
        return None
    pairs = list(itertools.pairwise(graded))
    if not all(after.proxy - before.proxy > RISE and after.human <= before.human for before, after in pairs):
        return None
    first, last = graded[0], graded[-1]
    rise, human = last.proxy - first.proxy, last.human - first.human
    return sentence("gap", first=first.unit, last=last.unit, proxy=rise, human=human)


def _doubt(first: Generation, last: Generation) -> str | None:
    ratio = last.doubt / max(first.doubt, 1e-9)
    return sentence("doubt", first=first.unit, last=last.unit, ratio=ratio) if ratio > RATIO else None


def _strangers(first: Generation, last: Generation) -> str | None:
    if last.strangers <= RATIO * max(first.strangers, LEAST_SHARE):
        return None
    return sentence("strangers", first=first.unit, last=last.unit, share=last.strangers, base=first.strangers)
