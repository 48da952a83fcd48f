"""Boosted trees on how images were made, stacked on a head's out-of-fold scores: the only file that knows LightGBM.

They learn what the head leaves over (stacked generalisation, Wolpert 1992, as a residual), so an image of which
nothing is known but its pixels keeps the head's score. Parameters are few and axis-aligned: there trees win from 50
labels on; on embeddings, dense and rotated, they lose and are never used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from konomi_rater.preference.ordinal import Check, never
from konomi_rater.preference.provenance.parameters import Columns, Provenance, learn_columns

LEAST_LABELS = 50
ROUNDS = 60
SETTINGS = {
    "objective": "l2",
    "learning_rate": 0.05,
    "num_leaves": 7,
    "min_child_samples": 5,
    "feature_fraction": 0.5,
    "lambda_l2": 1.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""The default of 20 rows a leaf could not split 40 rows at all."""


@dataclass(frozen=True)
class Trees:
    """Fitted trees.

    Attributes:
        columns: the table they read, beside the head's score.
        weight: what their answer is multiplied by, 0..1.
        text: the model in LightGBM's own text format.
    """

    columns: Columns
    weight: float
    text: str

    def __call__(self, latent: np.ndarray, provenances: Sequence[Provenance | None]) -> np.ndarray:
        """Returns what to add to a head's latent means (N,); 0 where nothing is known of how an image was made."""
        recorded = np.array([provenance is not None for provenance in provenances], dtype=bool)
        added = np.zeros(len(latent))
        if recorded.any():
            rows = np.column_stack([self.columns.table(provenances)[recorded], latent[recorded]])
            booster = _lightgbm().Booster(model_str=self.text)
            added[recorded] = self.weight * booster.predict(rows, num_threads=1)
        return added


@dataclass(frozen=True)
class Stacked:
    """Trees with what they say of labels they had not seen: (n,) latent units."""

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
    """Fits trees on what a head leaves over; None where nothing differs in how the images were made.

    Args:
        latent: (n,) the head's out-of-fold latent means.
        targets: (n,) latent targets.
        provenances: how each image was made.
        folds: rows of each fold, the head's own.
        seed: of the trees.
        check: asked before every training whether anybody waits.
    """
    columns = learn_columns(provenances)
    if not len(columns) or len(targets) < LEAST_LABELS:
        return None
    rows, rest = np.column_stack([columns.table(provenances), latent]), targets - latent
    held_out = np.zeros(len(targets))
    for fold in folds:
        check()
        others = np.setdiff1d(np.arange(len(targets)), fold)
        held_out[fold] = _train(rows[others], rest[others], seed).predict(rows[fold], num_threads=1)
    weight = float(np.clip(held_out @ rest / max(held_out @ held_out, 1e-12), 0.0, 1.0))
    return Stacked(Trees(columns, weight, _train(rows, rest, seed).model_to_string()), weight * held_out)


def _train(rows: np.ndarray, targets: np.ndarray, seed: int) -> Any:
    lightgbm = _lightgbm()
    data = lightgbm.Dataset(rows, targets, params={"verbose": -1, "min_data_in_bin": 1})
    return lightgbm.train({**SETTINGS, "seed": seed % 2**31}, data, ROUNDS)


def _lightgbm() -> Any:
    """Imports LightGBM at its first use: it takes seconds, and most tastes never need it."""
    import lightgbm

    return lightgbm
