"""Figures with their 95 % intervals, in plain Python: shares, means and paired wins."""

import math
import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

Z95 = 1.959964
STUDENT95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365}
"""Two-sided 95 % quantiles of Student's t for a few degrees of freedom."""

Estimate = dict[str, float]
"""{"value", "low", "high", "n"}."""


def estimate(value: float, low: float, high: float, n: int) -> Estimate:
    """Returns one figure with its interval."""
    return {"value": float(value), "low": float(low), "high": float(high), "n": float(n)}


def share(hits: float, n: int) -> Estimate:
    """Returns hits/n with the Wilson score interval (Wilson 1927)."""
    if n == 0:
        return estimate(0.0, 0.0, 1.0, 0)
    p = hits / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return estimate(p, max(0.0, centre - half), min(1.0, centre + half), n)


def mean(values: Sequence[float]) -> Estimate:
    """Returns the mean with its normal interval; the interval of fewer than two values is the value itself."""
    if not values:
        return estimate(0.0, 0.0, 0.0, 0)
    centre = statistics.fmean(values)
    half = Z95 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return estimate(centre, centre - half, centre + half, len(values))


def difference(one: Estimate, other: Estimate) -> Estimate:
    """Returns one figure less another that is independent of it; half widths of the intervals add in squares."""
    value = one["value"] - other["value"]
    low = math.hypot(one["value"] - one["low"], other["high"] - other["value"])
    high = math.hypot(one["high"] - one["value"], other["value"] - other["low"])
    return estimate(value, value - low, value + high, int(min(one["n"], other["n"])))


def paired_wins(candidate: Sequence[float], rival: Sequence[float]) -> Estimate:
    """Returns the share of pairs the candidate wins, a tie counting half; pairs stand at equal positions."""
    pairs = list(zip(candidate, rival, strict=True))
    wins = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs)
    return share(wins, len(pairs))


def paired_gain(candidate: Sequence[float], rival: Sequence[float]) -> Estimate:
    """Returns the mean of what the candidate has more than its rival; pairs stand at equal positions.

    What both owe to their prompt and seed cancels, so the interval is narrower than that of `difference`.
    """
    return mean([a - b for a, b in zip(candidate, rival, strict=True)])


def from_groups(whole: float, groups: Sequence[float], n: int) -> Estimate:
    """Returns a figure of the whole whose interval comes from the spread of the same figure over disjoint groups."""
    degrees = len(groups) - 1
    if degrees < 1 or statistics.fmean(groups) == 0:
        return estimate(whole, whole, whole, n)
    relative = statistics.stdev(groups) / statistics.fmean(groups) / math.sqrt(len(groups))
    half = STUDENT95.get(degrees, Z95) * relative * whole
    return estimate(whole, max(0.0, whole - half), whole + half, n)


class UnitNumbers(BaseModel):
    """What is known of one evaluated unit.

    Attributes:
        unit: number in the night; 0 is the model the night compares with, the base model.
        vendi: Vendi score of its evaluation images.
        exceedance: share of them beyond the 95th percentile of known distances, 0..1.
        doubt: mean standard deviation of their scores.
        gap: the rater's gain over unit 0 less the independent gain, both in unit 0's standard deviations.
        win_rate: share of pairs won against the parent, 0..1.
        win_rate_low: lower end of its 95 % interval.
        changed: share of evaluation images that differ from the parent's.
        finite: every score is a finite number.
        rater_version: rater version that scored.
        promoted: it became the served unit.
        likes_kept: share of the liked cells unit 0 reaches that it reaches too, 0..1 or more.
        liked_cells: cells that hold an image graded SSR or UR; 0 where nobody counted.
        near_copies: share of its images that are near-copies of what it was trained on, 0..1.
        near_copies_by_chance: the same share of unit 0's images.
        exceedance_low: lower end of the 95 % interval of `exceedance`; None where nobody counted.
        ssr_gain_low: lower end of the 95 % interval of what its expected share of SSR or better gains over unit 0's;
            None where how it lies to the graded images was not measured.
        near_liked: share of its images as near to a liked image as graded images usually are; None likewise.
        near_liked_high: upper end of the 95 % interval of that share.
        intact: share of its images that are not broken, 0..1; None where nothing at hand can read that.
        intact_low: lower end of the 95 % interval of that share; None likewise.
        intact_high: its upper end; None likewise.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    unit: int = 0
    vendi: float = 0.0
    exceedance: float = 0.0
    doubt: float = 0.0
    gap: float = 0.0
    win_rate: float = 0.5
    win_rate_low: float = 0.0
    changed: float = 1.0
    finite: bool = True
    rater_version: str = ""
    promoted: bool = False
    likes_kept: float = 1.0
    liked_cells: int = 0
    near_copies: float = 0.0
    near_copies_by_chance: float = 0.0
    exceedance_low: float | None = None
    ssr_gain_low: float | None = None
    near_liked: float | None = None
    near_liked_high: float | None = None
    intact: float | None = None
    intact_low: float | None = None
    intact_high: float | None = None


def ranks(values: Sequence[float]) -> list[float]:
    """Returns the ranks from 1, ties sharing their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    result = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            result[order[position]] = (start + end) / 2 + 1
        start = end + 1
    return result


def spearman(a: Sequence[float], b: Sequence[float]) -> Estimate:
    """Returns the rank correlation with the interval of Fisher's z (standard error by Bonett & Wright 2000)."""
    if len(a) < 4 or len(set(a)) < 2 or len(set(b)) < 2:
        return estimate(0.0, -1.0, 1.0, len(a))
    rho = statistics.correlation(ranks(a), ranks(b))
    bounded = max(-0.999999, min(0.999999, rho))
    error = math.sqrt((1 + bounded**2 / 2) / (len(a) - 3))
    z = math.atanh(bounded)
    return estimate(rho, math.tanh(z - Z95 * error), math.tanh(z + Z95 * error), len(a))


def auc(scores: Sequence[float], positives: Sequence[bool]) -> Estimate:
    """Returns the area under the ROC curve with Hanley & McNeil's (1982) interval; .5 where one class is empty."""
    good, bad = sum(positives), len(positives) - sum(positives)
    if good == 0 or bad == 0:
        return estimate(0.5, 0.0, 1.0, len(scores))
    rank_sum = sum(rank for rank, positive in zip(ranks(scores), positives, strict=True) if positive)
    area = (rank_sum - good * (good + 1) / 2) / (good * bad)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (good - 1) * (q1 - area**2) + (bad - 1) * (q2 - area**2)) / (good * bad)
    half = Z95 * math.sqrt(max(0.0, variance))
    return estimate(area, max(0.0, area - half), min(1.0, area + half), len(scores))


def average_precision(scores: Sequence[float], positives: Sequence[bool]) -> Estimate:
    """Returns the average precision; the interval is the logit normal one of Boyd, Eng & Page (2013)."""
    good = sum(positives)
    if good == 0:
        return estimate(0.0, 0.0, 1.0, len(scores))
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    hits, total = 0, 0.0
    for position, index in enumerate(order, start=1):
        if positives[index]:
            hits += 1
            total += hits / position
    value = total / good
    bounded = min(max(value, 0.25 / good), 1 - 0.25 / good)
    eta, tau = math.log(bounded / (1 - bounded)), 1 / math.sqrt(good * bounded * (1 - bounded))
    low, high = (1 / (1 + math.exp(-x)) for x in (eta - Z95 * tau, eta + Z95 * tau))
    return estimate(value, min(low, value), max(high, value), len(scores))
