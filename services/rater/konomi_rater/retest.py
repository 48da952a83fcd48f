"""How well a person agrees with herself: the two grades of hidden repeats, the ceiling of every rater."""

from collections.abc import Sequence

import numpy as np

from konomi_rater.metrics import Estimate, quadratic_kappa

LEAST_PAIRS = 5
DRAWS = 200


def reliability(pairs: Sequence[tuple[int, int]]) -> dict[str, Estimate]:
    """Returns "retest_qwk", the quadratic kappa of (first, repeated) grades 1..5 with its bootstrap interval.

    Nothing is returned below five pairs, or where every grade is the same.
    """
    if len(pairs) < LEAST_PAIRS:
        return {}
    first, second = np.array(pairs).T
    picks = np.random.default_rng(0).integers(0, len(pairs), (DRAWS, len(pairs)))
    draws = np.array([quadratic_kappa(first[pick], second[pick]) for pick in picks])
    finite, value = draws[np.isfinite(draws)], quadratic_kappa(first, second)
    if not np.isfinite(value) or not len(finite):
        return {}
    low, high = np.quantile(finite, [0.025, 0.975])
    return {"retest_qwk": Estimate(value, float(low), float(high), len(pairs))}
