"""A forest on how images were made, stacked on a head's out-of-fold scores: the only file that knows LightGBM.

Extremely randomised trees (Geurts et al. 2006) on parameters, words and models alone. What they say and what the head
says are weighed against each other on labels neither had seen, by weights that are not negative (stacked regressions,
Breiman 1996): a head that knows nothing gets none, and adds no noise. An image of which nothing is known but its
pixels keeps the head's score. Parameters are few and axis-aligned: there trees win; on embeddings, dense and rotated,
they lose and are never used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from konomi_rater.preference.ordinal import Check, never
from konomi_rater.preference.provenance.parameters import Columns, Provenance, learn_columns

LEAST_LABELS = 50
ROUNDS = 200
SETTINGS = {
    "objective": "l2",
    "boosting": "rf",
    "extra_trees": True,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction_bynode": 0.7,
    "num_leaves": 64,
    "min_child_samples": 2,
    "min_sum_hessian_in_leaf": 0.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""The default of 20 rows a leaf could not split 40 rows at all."""


@dataclass(frozen=True)
class Trees:
    """A fitted forest.

    Attributes:
        columns: the table it reads.
        weight: what its answer is multiplied by, 0 or more.
        text: the model in LightGBM's own text format.
        own: what the head's latent mean is multiplied by beside it, 0 or more.
        doubt: variance of the sum, beside the head's own.
        on_rest: an earlier version's: they read the head's latent mean as their last column and were added to it.
    """

    columns: Columns
    weight: float
    text: str
    own: float = 1.0
    doubt: float = 0.0
    on_rest: bool = False

    def __call__(
        self, mean: np.ndarray, variance: np.ndarray, provenances: Sequence[Provenance | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns latent means and variances (N,) with what is known of how images were made; as they are without."""
        recorded = np.array([provenance is not None for provenance in provenances], dtype=bool)
        if not recorded.any():
            return mean, variance
        mean, variance = mean.copy(), variance.copy()
        made = [provenance for provenance in provenances if provenance is not None]
        if self.on_rest:
            rows = np.column_stack([self.columns.table(made), mean[recorded]])
            mean[recorded] += self.weight * _lightgbm().Booster(model_str=self.text).predict(rows, num_threads=1)
            return mean, variance
        said = self._said(made)
        mean[recorded] = self.own * mean[recorded] + self.weight * said
        variance[recorded] = self.own**2 * variance[recorded] + self.doubt
        return mean, variance

    def _said(self, provenances: Sequence[Provenance]) -> np.ndarray:
        """Returns what the forest says of images (N,); of those that were made alike once."""
        places: dict[tuple[str, str, int], int] = {}
        alike, first = np.zeros(len(provenances), np.int64), []
        for row, one in enumerate(provenances):
            place = places.setdefault((one.prompt, one.unit, id(one.parameters)), len(first))
            alike[row] = place
            if place == len(first):
                first.append(one)
        booster = _lightgbm().Booster(model_str=self.text)
        return np.asarray(booster.predict(self.columns.table(first), num_threads=1))[alike]


@dataclass(frozen=True)
class Stacked:
    """A forest with the latent means of labels neither it nor the head had seen: (n,)."""

    trees: Trees
    held_out: np.ndarray


def stack(
    latent: np.ndarray,
    targets: np.ndarray,
    provenances: Sequence[Provenance],
    folds: Sequence[np.ndarray],
    seed: int,
    check: Check = never,
) -> Stacked | None:
    """Fits a forest and weighs it against a head; None where nothing differs in how the images were made.

    Args:
        latent: (n,) the head's out-of-fold latent means.
        targets: (n,) latent targets.
        provenances: how each image was made.
        folds: rows of each fold.
        seed: of the forest.
        check: asked before every training whether anybody waits.
    """
    columns = learn_columns(provenances)
    if not len(columns) or len(targets) < LEAST_LABELS:
        return None
    rows, held_out = columns.table(provenances), np.zeros(len(targets))
    for fold in folds:
        check()
        others = np.setdiff1d(np.arange(len(targets)), fold)
        held_out[fold] = _train(rows[others], targets[others], seed).predict(rows[fold], num_threads=1)
    own, weight = (float(part) for part in nnls(np.column_stack([latent, held_out]), targets)[0])
    trees = Trees(columns, weight, _train(rows, targets, seed).model_to_string(), own)
    return Stacked(trees, own * latent + weight * held_out)


def _train(rows: np.ndarray, targets: np.ndarray, seed: int) -> Any:
    lightgbm = _lightgbm()
    data = lightgbm.Dataset(rows, targets, params={"verbose": -1, "min_data_in_bin": 1})
    return lightgbm.train({**SETTINGS, "seed": seed % 2**31}, data, ROUNDS)


def _lightgbm() -> Any:
    """Imports LightGBM at its first use: it takes seconds, and most tastes never need it."""
    import lightgbm

    return lightgbm
