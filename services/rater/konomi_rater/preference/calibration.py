"""Makes a head's probabilities honest, on predictions of labels it had not seen that were drawn at random.

First a factor on the latent spread and a shift of the latent level (Guo et al. 2017, carried over to an ordinal
probit), held near 1 and 0 by a prior while labels are few; then inductive Venn-Abers (Vovk, Petej & Fedorova 2015) on
P(SSR or better) and P(UR), where it proves itself on labels it was not fitted on: where the model is honest already,
its steps only add noise. Labels that were sought out are no sample of anything and are never used here.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import isotonic_regression

from konomi_rater.preference.ordinal import Scale, grade_probabilities

SPREADS = np.exp(np.linspace(-0.7, 0.7, 15))
SHIFTS = np.linspace(-0.6, 0.6, 13)
SPREAD_PRIOR, SHIFT_PRIOR = 0.25, 0.2
"""Standard deviations of the priors: of the log of the factor, and of the shift in latent units."""
LEAST_RANDOM = 20
"""Randomly drawn labels below which nothing is calibrated."""
STRENGTH = 100.0
"""Randomly drawn labels at which Venn-Abers and the model count the same."""
LEAST_GAIN = 1.0
"""Nats by which Venn-Abers must make the other half of the labels more probable; else the model's own word stands."""


@dataclass(frozen=True)
class Curve:
    """A monotone map of one probability: linear between its points, mixed with the identity.

    Attributes:
        said: (k,) increasing, what the model says.
        held: (k,) what held.
        weight: share of the curve, 0..1.
    """

    predicted: np.ndarray = field(default_factory=lambda: np.array([0.0, 1.0]))
    observed: np.ndarray = field(default_factory=lambda: np.array([0.0, 1.0]))
    weight: float = 0.0

    def __call__(self, probability: np.ndarray) -> np.ndarray:
        """Maps probabilities (N,)."""
        if not self.weight:
            return probability
        return (1.0 - self.weight) * probability + self.weight * np.interp(probability, self.predicted, self.observed)


@dataclass(frozen=True)
class Calibration:
    """What makes probabilities honest; the default changes nothing.

    Attributes:
        temperature: factor on the predictive standard deviation.
        shift: added to the latent mean.
        ssr: map of P(SSR or better).
        ur: map of P(UR).
        random: randomly drawn labels it rests on.
    """

    temperature: float = 1.0
    shift: float = 0.0
    ssr: Curve = field(default_factory=Curve)
    ur: Curve = field(default_factory=Curve)
    random: int = 0

    def __call__(self, probabilities: np.ndarray) -> np.ndarray:
        """Maps P(grade) (N, 5) so that its upper tails are calibrated; rows still sum to 1."""
        if not self.ssr.weight and not self.ur.weight:
            return probabilities
        tail = probabilities[:, 3:].sum(axis=1)
        top = self.ssr(tail).clip(0.0, 1.0)
        best = np.minimum(self.ur(probabilities[:, 4]), top)
        rest = probabilities[:, :3] * ((1.0 - top) / (1.0 - tail).clip(1e-12))[:, None]
        rest[:, 0] += 1.0 - top - rest.sum(axis=1)  # where nothing was left below SSR
        return np.column_stack([rest, top - best, best]).clip(0.0)


def calibrate(mean: np.ndarray, variance: np.ndarray, grades: np.ndarray, scale: Scale) -> Calibration:
    """Fits a calibration on held-out predictions of randomly drawn labels; fewer than LEAST_RANDOM change nothing.

    Args:
        mean: (n,) held-out latent means.
        variance: (n,) held-out predictive variances, label noise included.
        grades: (n,) integers 1..5.
        scale: the cuts.
    """
    if len(grades) < LEAST_RANDOM:
        return Calibration(random=len(grades))
    spread, shift = _level(mean, variance, grades, scale)
    probabilities = grade_probabilities(mean + shift, variance * spread**2, scale)
    ssr, ur = _curve(probabilities[:, 3:].sum(axis=1), grades >= 4), _curve(probabilities[:, 4], grades == 5)
    return Calibration(spread, shift, ssr, ur, len(grades))


def _curve(scores: np.ndarray, positive: np.ndarray) -> Curve:
    """Returns the Venn-Abers curve of scores (n,), or the identity where it does not help the other half of them."""
    halves = np.arange(len(scores)) % 2 == 0
    gain = 0.0
    for half in (halves, ~halves):
        curve = _mixed(scores[half], positive[half])
        hit = positive[~half]
        for probability, sign in ((curve(scores[~half]), 1.0), (scores[~half], -1.0)):
            gain += sign * np.log(np.where(hit, probability, 1.0 - probability).clip(1e-6)).sum()
    return _mixed(scores, positive) if gain > LEAST_GAIN else Curve()


def _mixed(scores: np.ndarray, positive: np.ndarray) -> Curve:
    return Curve(*venn_abers(scores, positive), len(scores) / (len(scores) + STRENGTH))


def venn_abers(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inductive Venn-Abers probability at every distinct score.

    The score is added once as a miss and once as a hit; isotonic regression gives p0 and p1 there, and
    p1 / (1 - p0 + p1) minimises the worst log loss over the pair.

    Args:
        scores: (n,) calibration scores 0..1.
        positive: (n,) bool.

    Returns:
        Scores (k,) with 0 and 1 among them, and the probabilities (k,) there, made monotone.
    """
    distinct, member = np.unique(scores, return_inverse=True)
    weight = np.bincount(member).astype(np.float64)
    hits = np.bincount(member, weights=positive.astype(np.float64))
    places = np.union1d(distinct, [0.0, 1.0])
    grid = np.union1d(distinct, places)
    at = np.searchsorted(grid, distinct)
    mass, total = np.zeros(len(grid)), np.zeros(len(grid))
    mass[at], total[at] = weight, hits
    values = np.zeros(len(grid))
    for place in range(len(grid)):
        pair = [_isotonic_at(mass, total, place, hit) for hit in (0.0, 1.0)]
        values[place] = pair[1] / (1.0 - pair[0] + pair[1])
    return grid, np.maximum.accumulate(values)


def _isotonic_at(mass: np.ndarray, hits: np.ndarray, place: int, hit: float) -> float:
    weights, sums = mass.copy(), hits.copy()
    weights[place] += 1.0
    sums[place] += hit
    used = np.flatnonzero(weights > 0)
    fitted = isotonic_regression(sums[used] / weights[used], weights=weights[used]).x
    return float(fitted[np.searchsorted(used, place)])


def _level(mean: np.ndarray, variance: np.ndarray, grades: np.ndarray, scale: Scale) -> tuple[float, float]:
    """Returns the factor on the spread and the shift under which the grades are most probable, given the priors."""
    rows = np.arange(len(grades))
    least, level = np.inf, (1.0, 0.0)
    for spread in SPREADS:
        for shift in SHIFTS:
            likelihoods = grade_probabilities(mean + shift, variance * spread**2, scale)[rows, grades - 1]
            prior = (np.log(spread) / SPREAD_PRIOR) ** 2 + (shift / SHIFT_PRIOR) ** 2
            loss = 0.5 * prior - np.log(likelihoods.clip(1e-9)).sum()
            if loss < least:
                least, level = loss, (float(spread), float(shift))
    return level
