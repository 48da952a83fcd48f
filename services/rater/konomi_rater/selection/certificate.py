"""What a blind audit of a random sample certifies about this very set: exact binomial bounds, strict to lax.

Clopper & Pearson (1934) bound the share of rejections; nested sets are tested in a fixed sequence, each at the full
level, which is learn-then-test (Angelopoulos et al. 2110.01052) over thresholds. A sample drawn without replacement is
less spread than a binomial one (Hoeffding 1963), so the promise P(FDP > alpha) <= delta holds for the set as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its statistics are loaded at their first use: they take a second


@dataclass(frozen=True)
class AuditLimits:
    """What shall be promised.

    Attributes:
        alpha: largest false-discovery proportion, above 0 and below 1.
        delta: chance of a wrong certificate, above 0 and below 1.
        rejections: rejections the audit shall allow.
    """

    alpha: float = 0.2
    delta: float = 0.05
    rejections: int = 2


@dataclass(frozen=True)
class Sample:
    """The images of one nested set that are shown.

    Attributes:
        size: members of the nested set, the first so many.
        rows: rows of the members shown, in the order to show them; all of them where the set is small.
        allowed: rejections with which the set is certified; -1 where nothing can certify it.
    """

    size: int
    rows: tuple[int, ...]
    allowed: int

    @property
    def whole(self) -> bool:
        """True when every member is shown: the share is then counted, not bounded."""
        return len(self.rows) == self.size


@dataclass(frozen=True)
class CertificateStage:
    """What the answers so far say about one nested set; an image without an answer counts as a rejection."""

    answered: int
    rejections: int
    upper_bound: float
    certified: bool


@dataclass(frozen=True)
class AuditOutcome:
    """What the answers so far say about all nested sets.

    Attributes:
        stages: one for each, strict to lax.
        begun: how many of them are begun.
        certified: how many of them hold.
        ended: no answer can change anything any more.
    """

    stages: tuple[CertificateStage, ...]
    begun: int
    certified: int
    ended: bool


def shown_for(limits: AuditLimits, most: int) -> int:
    """Returns how many images must be shown for the limits to hold with the rejections allowed, `most` at most."""
    low, high = limits.rejections, most
    if high <= low or scipy.stats.binom.cdf(limits.rejections, high, limits.alpha) > limits.delta:
        return most
    while high - low > 1:
        middle = (low + high) // 2
        if scipy.stats.binom.cdf(limits.rejections, middle, limits.alpha) <= limits.delta:
            high = middle
        else:
            low = middle
    return high


def allowed_rejections(shown: int, limits: AuditLimits) -> int:
    """Returns the most rejections among `shown` with which the limits hold, -1 where not even none do."""
    holds = scipy.stats.binom.cdf(np.arange(shown + 1), shown, limits.alpha) <= limits.delta
    return int(np.flatnonzero(holds).max(initial=-1))


def upper_bound(shown: int, rejections: int, delta: float) -> float:
    """Returns the exact one-sided upper bound of the share of rejections at confidence 1 - delta."""
    if rejections >= shown:
        return 1.0
    return float(scipy.stats.beta.ppf(1.0 - delta, rejections + 1, shown - rejections))


def draw(sizes: Sequence[int], limits: AuditLimits, rng: np.random.Generator) -> list[Sample]:
    """Draws the images to show of each nested set, at random and overlapping as far as chance allows.

    One order of all members is drawn; the sample of a nested set is its members that come first in it. Each sample is
    uniform in its set, and one answer serves every set it was drawn for.

    Args:
        sizes: members of each nested set, increasing: set j is the first sizes[j] rows.
        limits: what shall be promised.
        rng: source of randomness.
    """
    order = rng.permutation(sizes[-1])
    samples = []
    for size in sizes:
        shown = shown_for(limits, size)
        rows = tuple(int(row) for row in order[order < size][:shown])
        allowed = int(limits.alpha * size + 1e-9) if shown == size else allowed_rejections(shown, limits)
        samples.append(Sample(size, rows, allowed))
    return samples


def judge(samples: Sequence[Sample], rejected: Mapping[int, bool], delta: float) -> AuditOutcome:
    """Weighs the answers so far; a nested set is begun once every stricter one was answered and holds.

    Args:
        samples: the nested sets' samples, strict to lax.
        rejected: row to whether its image was rejected, for every answer so far.
        delta: chance of a wrong certificate.
    """
    stages: list[CertificateStage] = []
    begun = certified = 0
    open_, holding = True, True
    for sample in samples:
        answers = [rejected[row] for row in sample.rows if row in rejected]
        seen, missing = sum(answers), len(sample.rows) - len(answers)
        worst = seen + missing
        bound = worst / sample.size if sample.whole else upper_bound(len(sample.rows), worst, delta)
        holding = holding and open_ and worst <= sample.allowed
        stages.append(CertificateStage(len(answers), seen, bound, holding))
        certified += holding
        begun += open_
        open_ = open_ and not missing and seen <= sample.allowed
    ended = all(row in rejected for sample in samples[:begun] for row in sample.rows)
    return AuditOutcome(tuple(stages), begun, certified, ended)
