"""Learning when there are only favourites: positive-unlabelled fitting against ungraded images of the same origin.

Elkan & Noto (2008): what is not graded is a mixture that holds few favourites, so it counts as an average image with a
whole prior's noise, a favourite as what it was graded. Order is learnt; how frequent a grade is comes from the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from konomi_rater.preference.features import Features
from konomi_rater.preference.gaussian_process import Kernel, held_out
from konomi_rater.preference.head import UNLABELLED_NOISE, Head, Sites, assemble
from konomi_rater.preference.metrics import Estimate, auc
from konomi_rater.preference.ordinal import scale_of

KIND = "favourites"
LINEAR = Kernel(linear=1.0, rbf=0.0, noise=0.4)
"""Bayesian ridge: with favourites alone nothing is tuned."""
LEAST_LIKED = 4
"""Grade from which on a label is a favourite."""
UNLABELLED = 300
"""Ungraded images at most that stand for what is not liked."""
LEAST_UNLABELLED = 20


@dataclass(frozen=True)
class PositiveFit:
    """A head fitted on favourites alone.

    Attributes:
        head: the model.
        held_out: (n + u,) its predictions of every image it saw, each fold without itself.
        liked: (n + u,) bool, which of them are favourites.
    """

    head: Head
    held_out: np.ndarray
    liked: np.ndarray


def only_favourites(grades: np.ndarray) -> bool:
    """Returns whether every grade (n,) is a favourite's."""
    return bool(len(grades)) and int(grades.min()) >= LEAST_LIKED


def fit_positives(
    features: Features,
    liked: np.ndarray,
    grades: np.ndarray,
    unlabelled: np.ndarray,
    folds: Sequence[np.ndarray],
) -> PositiveFit:
    """Fits a head on favourites against ungraded images.

    Args:
        features: map learnt from the taste's images.
        liked: (n, D) embeddings of favourites.
        grades: (n,) their grades, 4 or 5.
        unlabelled: (u, D) embeddings of ungraded images.
        folds: rows of each fold of the n + u images, favourites first.
    """
    scale, kernel = scale_of(np.zeros(0, np.int64)), replace(LINEAR, scores=features.scores)
    inputs = features(np.concatenate([liked, unlabelled]))
    targets = np.concatenate([scale.targets[grades - 1], np.zeros(len(unlabelled))])
    noise = np.concatenate([np.full(len(liked), kernel.noise), np.full(len(unlabelled), UNLABELLED_NOISE)])
    head = assemble(KIND, features, inputs, scale, kernel, Sites(targets, noise))
    mean, _ = held_out(head.process, targets, folds)  # type: ignore[arg-type]
    return PositiveFit(head, mean, np.arange(len(targets)) < len(liked))


def choose_unlabelled(
    sources: np.ndarray, own: int, liked: np.ndarray, graded: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws the ungraded images that stand for what is not liked: those from where the favourites are.

    Against images from elsewhere a rater would learn where an image is from. Only where there are too few, the owner's
    own outputs stand for them.

    Args:
        sources: (N,) where each image is from.
        own: the number that says that it is the owner's own output.
        liked: (m,) positions of the favourites.
        graded: (n,) positions of graded images, the panel's too.
        rng: source of randomness.
    """
    free = np.setdiff1d(np.flatnonzero(np.isin(sources, sources[liked])), graded)
    if len(free) < LEAST_UNLABELLED:
        free = np.setdiff1d(np.flatnonzero(np.isin(sources, [own, *sources[liked]])), graded)
    return np.sort(rng.permutation(free)[:UNLABELLED])


def auc_estimate(fitted: PositiveFit, rng: np.random.Generator, draws: int = 200) -> dict[str, Estimate]:
    """Returns "auc_pu", the held-out area under the ROC curve of favourites against ungraded images, if defined.

    Among the ungraded, liked ones hide, and to be ranked beside them is no mistake: with a share p of them it is
    p / 2 + (1 - p) times the area against what is not liked, so a lower bound of that (Elkan & Noto 2008, section 2).
    """
    count = len(fitted.liked)
    if not count:
        return {}
    resampled = [auc(fitted.liked[pick], fitted.held_out[pick]) for pick in rng.integers(0, count, (draws, count))]
    value, spread = auc(fitted.liked, fitted.held_out), np.array(resampled)[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(spread):
        return {}
    low, high = np.quantile(spread, [0.025, 0.975])
    return {"auc_pu": Estimate(value, float(low), float(high), count)}
