"""Trees on how images were made, stacked on a head's out-of-fold scores: the only file that knows LightGBM.

Two kinds: a forest of extremely randomised trees (Geurts et al. 2006) on parameters, words and models alone, and
boosted trees on what the head leaves over. Head, forest and rest are weighed on labels none of them had seen, by
weights that are not negative (stacked regressions, Breiman 1996) and have a prior: a head that knows nothing adds
little noise, and few labels move no weight far. An image of which nothing is known but its pixels keeps the head's
score. Parameters are few and axis-aligned: there trees win; on embeddings, dense and rotated, they lose and are never
used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from konomi_rater.preference.ordinal import Check, never
from konomi_rater.preference.provenance.parameters import Columns, Provenance, learn_columns

LEAST_LABELS = 30
ALIKE = {
    "objective": "l2",
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
FOREST_ROUNDS, REST_ROUNDS = 200, 60
FOREST = {
    "boosting": "rf",
    "extra_trees": True,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction_bynode": 0.7,
    "num_leaves": 64,
    "min_child_samples": 2,
    "min_sum_hessian_in_leaf": 0.0,
}
REST = {
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_child_samples": 5,
    "feature_fraction": 0.5,
    "lambda_l2": 1.0,
}
"""The default of 20 rows a leaf could not split 40 rows at all."""
USUAL, PULL = (1.0, 1.0, 0.0), 2.0
"""What the weights of head, forest and rest are pulled towards, and how strongly: as by so many labels in each one's
own direction. Without it, 30 labels that a good head happens to order badly take its whole weight away (LOG.md)."""


@dataclass(frozen=True)
class Trees:
    """Fitted trees, and what each says is multiplied by.

    Attributes:
        columns: the table they read.
        forest: the forest in LightGBM's own text format; empty of an earlier version.
        rest: the boosted trees in the same; they read the head's latent mean as their last column.
        weights: of the head's latent mean, of the forest, of the rest; each 0 or more.
        doubt: variance of the sum, beside the head's own.
    """

    columns: Columns
    forest: str
    rest: str
    weights: tuple[float, float, float]
    doubt: float = 0.0

    def __call__(
        self, mean: np.ndarray, variance: np.ndarray, provenances: Sequence[Provenance | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns latent means and variances (N,) with what is known of how images were made; as they are without."""
        recorded = np.array([provenance is not None for provenance in provenances], dtype=bool)
        if not recorded.any():
            return mean, variance
        mean, variance = mean.copy(), variance.copy()
        made, own = [provenance for provenance in provenances if provenance is not None], mean[recorded]
        parts = (own, self._of_forest(made), self._of_rest(made, own))
        mean[recorded] = sum(weight * part for weight, part in zip(self.weights, parts, strict=True))
        variance[recorded] = self.weights[0] ** 2 * variance[recorded] + self.doubt
        return mean, variance

    def _of_forest(self, provenances: Sequence[Provenance]) -> np.ndarray:
        """Returns what the forest says of images (N,); of those that were made alike it is asked once."""
        if not self.forest or not self.weights[1]:
            return np.zeros(len(provenances))
        places: dict[tuple[str, str, int], int] = {}
        alike = np.zeros(len(provenances), np.int64)
        first: list[Provenance] = []
        for row, one in enumerate(provenances):
            place = places.setdefault((one.prompt, one.unit, id(one.parameters)), len(first))
            alike[row] = place
            if place == len(first):
                first.append(one)
        booster = _lightgbm().Booster(model_str=self.forest)
        return np.asarray(booster.predict(self.columns.table(first), num_threads=1))[alike]

    def _of_rest(self, provenances: Sequence[Provenance], latent: np.ndarray) -> np.ndarray:
        if not self.weights[2]:
            return np.zeros(len(provenances))
        rows = np.column_stack([self.columns.table(provenances), latent])
        return np.asarray(_lightgbm().Booster(model_str=self.rest).predict(rows, num_threads=1))


@dataclass(frozen=True)
class Stacked:
    """Trees with the latent means of labels neither they nor the head had seen: (n,)."""

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
    """Fits trees and weighs them against a head; None where nothing differs in how the images were made.

    Args:
        latent: (n,) the head's out-of-fold latent means.
        targets: (n,) latent targets.
        provenances: how each image was made.
        folds: rows of each fold.
        seed: of the trees.
        check: asked before every training whether anybody waits.
    """
    columns = learn_columns(provenances)
    if not len(columns) or len(targets) < LEAST_LABELS:
        return None
    table = columns.table(provenances)
    beside, left = np.column_stack([table, latent]), targets - latent
    unseen = np.zeros((2, len(targets)))
    for fold in folds:
        check()
        others = np.setdiff1d(np.arange(len(targets)), fold)
        # the mean of the others falls as the fold's own rises: left in, it would look like knowledge turned upside down
        told = _forest(table[others], targets[others], seed).predict(table[fold], num_threads=1)
        unseen[0, fold] = told - targets[others].mean() + targets.mean()
        unseen[1, fold] = _rest(beside[others], left[others], seed).predict(beside[fold], num_threads=1)
    parts = np.column_stack([latent, *unseen])
    own, forest, rest = _weights(parts, targets)
    texts = (_forest(table, targets, seed).model_to_string(), _rest(beside, left, seed).model_to_string())
    return Stacked(Trees(columns, *texts, (own, forest, rest)), parts @ [own, forest, rest])


def _weights(parts: np.ndarray, targets: np.ndarray) -> tuple[float, float, float]:
    """Returns the weights of the columns of parts (n, 3), 0 or more, by least squares with a prior about USUAL."""
    pull = np.sqrt(PULL)
    found = nnls(np.vstack([parts, pull * np.eye(3)]), np.append(targets, pull * np.array(USUAL)))[0]
    own, forest, rest = (float(weight) for weight in found)
    return own, forest, rest


def _forest(rows: np.ndarray, targets: np.ndarray, seed: int) -> Any:
    return _train(rows, targets, FOREST | {"seed": seed % 2**31}, FOREST_ROUNDS)


def _rest(rows: np.ndarray, targets: np.ndarray, seed: int) -> Any:
    return _train(rows, targets, REST | {"seed": seed % 2**31}, REST_ROUNDS)


def _train(rows: np.ndarray, targets: np.ndarray, settings: dict[str, Any], rounds: int) -> Any:
    lightgbm = _lightgbm()
    data = lightgbm.Dataset(rows, targets, params={"verbose": -1, "min_data_in_bin": 1})
    return lightgbm.train({**ALIKE, **settings}, data, rounds)


def _lightgbm() -> Any:
    """Imports LightGBM at its first use: it takes seconds, and most tastes never need it."""
    import lightgbm

    return lightgbm
