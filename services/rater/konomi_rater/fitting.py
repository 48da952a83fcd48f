"""Fits a rater version: every kind of head in grouped cross-validation, then the best one on all labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from konomi_rater.calibration import temperature
from konomi_rater.features import Features
from konomi_rater.metrics import Estimate, Predictions, estimates, spearman
from konomi_rater.preference import RECIPES, Head, feature_maps, fit_head

FOLDS = 5
LEAST_LABELS = 5
MARGIN = 0.02
"""A later recipe must beat an earlier one's cross-validated SRCC by this much: smaller gaps are ties."""


@dataclass(frozen=True)
class Training:
    """Everything a fit reads.

    Attributes:
        embeddings: (n, D) unit rows of the graded images.
        grades: (n,) integers 1..5.
        groups: n group keys; near-duplicates share one (prompt and seed) and never straddle a fold.
        drawn: (n,) bool, graded when shown at random.
        background: (N, D) unit rows of all images of the taste.
    """

    embeddings: np.ndarray
    grades: np.ndarray
    groups: Sequence[str]
    drawn: np.ndarray
    background: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A fitted head and what is known of it."""

    head: Head
    metrics: Mapping[str, Estimate]
    candidates: Mapping[str, float]
    alarms: Sequence[str]


@dataclass(frozen=True)
class Step:
    """Progress of a fit."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class _HeldOut:
    """Predictions of each label by a head that did not see its group: latent mean and predictive variance."""

    mean: np.ndarray
    variance: np.ndarray


def fit(training: Training, seed: int) -> Iterator[Step | Fitted]:
    """Yields progress, then the fitted version.

    Args:
        training: labels and background.
        seed: of folds and bootstrap.
    """
    rng = np.random.default_rng(seed)
    maps = feature_maps(training.background)
    kinds = [kind for kind, recipe in RECIPES.items() if len(training.grades) >= recipe.needs]
    folds = make_folds(training.groups, rng)
    heads: dict[str, Head] = {}
    held: dict[str, _HeldOut] = {}
    for done, kind in enumerate(kinds):
        yield Step("cross-validation", done, len(kinds) + 1)
        heads[kind] = fit_head(kind, maps[RECIPES[kind].power], training.embeddings, training.grades)
        held[kind] = _cross_validate(heads[kind], training, folds)
    candidates = {kind: spearman(training.grades, found.mean) for kind, found in held.items()}
    candidates = {kind: value for kind, value in candidates.items() if np.isfinite(value)}
    kind = _best(kinds, candidates)
    yield Step("quality", len(kinds), len(kinds) + 1)
    head, metrics = _measure(heads[kind], held[kind], training, rng)
    yield Fitted(head, metrics, candidates, alarms(training, metrics))


def quick_fit(embeddings: np.ndarray, grades: np.ndarray, background: np.ndarray) -> Head:
    """Fits one head without measuring it, for choosing what to label next.

    Args:
        embeddings: (n, D) of the graded images.
        grades: (n,) integers 1..5.
        background: (N, D) of all images of the taste.
    """
    kind = max((k for k, recipe in RECIPES.items() if len(grades) >= recipe.needs), key=lambda k: RECIPES[k].needs)
    return fit_head(kind, _map_of(kind, background), embeddings, grades)


def make_folds(groups: Sequence[str], rng: np.random.Generator) -> list[np.ndarray]:
    """Returns the rows of each fold; groups stay whole, sizes are as even as they can be."""
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    count = min(FOLDS, len(names))
    sizes = np.bincount(members)
    load, fold_of = np.zeros(count), np.zeros(len(names), dtype=int)
    shuffled = rng.permutation(len(names))
    for name in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[name] = int(np.argmin(load))
        load[fold_of[name]] += sizes[name]
    return [np.flatnonzero(fold_of[members] == fold) for fold in range(count)]


def alarms(training: Training, metrics: Mapping[str, Estimate]) -> list[str]:
    """Returns what the owner should know before trusting the version, in plain sentences."""
    found = []
    top = int((training.grades == 5).sum())
    if top < 3:
        found.append(f"Only {top} UR labels: probabilities of UR rest on the order of the lower grades.")
    srcc = metrics.get("srcc")
    if srcc is None:
        found.append("Too few independent labels to measure the rater: grade more images.")
    elif srcc.low <= 0:
        found.append(
            f"On unseen labels the rater is not surely better than chance (srcc {srcc.low:.2f} to {srcc.high:.2f}): "
            "grade more images."
        )
    return found


def _map_of(kind: str, background: np.ndarray) -> Features:
    return feature_maps(background)[RECIPES[kind].power]


def _cross_validate(head: Head, training: Training, folds: Sequence[np.ndarray]) -> _HeldOut:
    count = len(training.grades)
    mean, variance = np.zeros(count), np.ones(count)
    if len(folds) < 2:
        return _HeldOut(mean, variance)
    for fold in folds:
        rest = np.setdiff1d(np.arange(count), fold)
        member = fit_head(
            head.kind, head.features, training.embeddings[rest], training.grades[rest], head.process.kernel
        )
        mean[fold], doubt = member.latent(training.embeddings[fold])
        variance[fold] = doubt + member.process.kernel.noise
    return _HeldOut(mean, variance)


def _best(kinds: Sequence[str], candidates: Mapping[str, float]) -> str:
    best = kinds[0]
    for kind in kinds[1:]:
        if candidates.get(kind, -1.0) > candidates.get(best, -1.0) + MARGIN:
            best = kind
    return best


def _measure(
    head: Head, held: _HeldOut, training: Training, rng: np.random.Generator
) -> tuple[Head, dict[str, Estimate]]:
    if held.mean.std() == 0:
        return head, {}
    factor = temperature(held.mean, held.variance, training.grades, training.drawn, head.scale)
    calibrated = replace(head, temperature=factor)
    noise = head.process.kernel.noise
    said = calibrated.judge(held.mean, (held.variance - noise).clip(1e-9))
    return calibrated, estimates(training.grades, Predictions(said.utility, said.probabilities), rng)
