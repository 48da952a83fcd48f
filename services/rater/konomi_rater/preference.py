"""The ordinal head: a Gaussian process over whitened embeddings whose latent value is cut into five grades.

Labels become normal scores of their grade (ordinal.py), a process is conditioned on them (gaussian_process.py) and
its predictive distribution is cut back into P(grade) (Chu & Ghahramani 2005, with a Gaussian likelihood).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from konomi_rater.features import Features, learn_features
from konomi_rater.gaussian_process import Kernel, Process, condition, optimise
from konomi_rater.ordinal import Scale, grade_probabilities, scale_of, utility

DECIMALS = 9
"""Predictions are rounded to it: a matrix product's last bits depend on the rows beside, a score must not."""
BLOCK = 8192
"""Rows predicted at a time: bounds the memory, not the result."""


@dataclass(frozen=True)
class Recipe:
    """How one kind of head is made.

    Attributes:
        power: whitening of the features, 0..1.
        start: kernel to start from; a part that is 0 stays out.
        needs: labels below which this kind is not tried.
    """

    power: float
    start: Kernel
    needs: int = 0


RECIPES: Mapping[str, Recipe] = {
    "gp": Recipe(0.5, Kernel(linear=0.5, rbf=0.5, length=1.0, noise=0.4), needs=30),
    "ridge": Recipe(0.5, Kernel(linear=1.0, rbf=0.0, noise=0.4)),
    "gp_white": Recipe(0.75, Kernel(linear=0.5, rbf=0.5, length=1.0, noise=0.4), needs=30),
}
"""Every kind of head, in order of preference: "ridge" is Bayesian ridge, a process with the linear kernel alone."""


@dataclass(frozen=True)
class Prediction:
    """What a head thinks of N images.

    Attributes:
        utility: (N,) expected grade, 1..5.
        std: (N,) the doubt in it.
        probabilities: (N, 5) P(grade), rows sum to 1.
    """

    utility: np.ndarray
    std: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Head:
    """A fitted preference model.

    Attributes:
        kind: name of its recipe.
        features: map from embeddings to features.
        process: the conditioned process.
        scale: cuts of the latent scale.
        temperature: factor on the predictive standard deviation, from calibration.
    """

    kind: str
    features: Features
    process: Process
    scale: Scale
    temperature: float = 1.0

    def latent(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the latent posterior mean and variance of embeddings (N, D): two of (N,)."""
        parts = [self.process.predict(self.features(block)) for block in _blocks(embeddings)]
        return np.concatenate([mean for mean, _ in parts]), np.concatenate([variance for _, variance in parts])

    def predict(self, embeddings: np.ndarray) -> Prediction:
        """Returns utility, doubt and P(grade) of embeddings (N, D)."""
        if not len(embeddings):
            return Prediction(np.zeros(0), np.zeros(0), np.zeros((0, 5)))
        return self.judge(*self.latent(embeddings))

    def judge(self, mean: np.ndarray, variance: np.ndarray) -> Prediction:
        """Turns latent means and variances (N,) into grades."""
        squared = self.temperature**2
        noise = self.process.kernel.noise * squared
        value, std = utility(mean, variance * squared, noise, self.scale)
        shares = grade_probabilities(mean, variance * squared + noise, self.scale)
        return Prediction(value.round(DECIMALS), std.round(DECIMALS), shares.round(DECIMALS))


def fit_head(
    kind: str, features: Features, embeddings: np.ndarray, grades: np.ndarray, start: Kernel | None = None
) -> Head:
    """Fits one kind of head.

    Args:
        kind: name of a recipe.
        features: map learnt from the taste's unlabelled images.
        embeddings: (n, D) of the labelled images.
        grades: (n,) integers 1..5.
        start: kernel to start from; with it only a few steps are taken, as in a fold of a cross-validation.
    """
    scale = scale_of(grades)
    targets, inputs = scale.targets[grades - 1], features(embeddings)
    kernel = optimise(start or RECIPES[kind].start, inputs, targets, steps=8 if start else 40)
    return Head(kind, features, condition(kernel, inputs, targets), scale)


def feature_maps(background: np.ndarray) -> dict[float, Features]:
    """Learns the feature map of every whitening power a recipe asks for."""
    return {power: learn_features(background, power=power) for power in {r.power for r in RECIPES.values()}}


def _blocks(embeddings: np.ndarray) -> list[np.ndarray]:
    return [embeddings[start : start + BLOCK] for start in range(0, len(embeddings), BLOCK)]
