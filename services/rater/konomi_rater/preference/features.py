"""The space a taste is learnt in: embeddings centred and partly whitened with what all of its images have in common.

A frozen encoder gives most of its variance to a few directions (for portraits: the style). Dividing by a power of the
standard deviation along each principal direction, learnt from unlabelled images, lets few labels speak about the rest.
Population scores, where a home has them (see `read_population`), are further columns.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from konomi.errors import FailedPrecondition

FOLDER = "population"


@dataclass(frozen=True)
class Population:
    """Linear population scores.

    Attributes:
        weights: (D, S) float64, one column a score.
    """

    weights: np.ndarray


def to_bytes(population: Population, embedder: str) -> bytes:
    """Serialises population scores for one embedder."""
    return save({"weights": population.weights.astype(np.float32)}, metadata={"embedder": embedder})


def read_population(folder: Path, embedder: str, dimensions: int) -> Population | None:
    """Returns every population score of an embedder, or None where there is none.

    Args:
        folder: the home's folder of population files; it may be missing.
        embedder: name of the taste's embedder; files of others are passed over.
        dimensions: D of its vectors.

    Raises:
        FailedPrecondition: a file is no safetensors file, or does not fit the embedder.
    """
    columns = [column for path in sorted(folder.glob("*.safetensors")) for column in _read(path, embedder, dimensions)]
    return Population(np.stack(columns, axis=1)) if columns else None


def _read(path: Path, embedder: str, dimensions: int) -> list[np.ndarray]:
    data = path.read_bytes()
    try:
        weights = load(data)["weights"].astype(np.float64)
        size = int.from_bytes(data[:8], "little")
        meant = json.loads(data[8 : 8 + size])["__metadata__"]["embedder"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise FailedPrecondition(
            f"expected population scores in models/{FOLDER}/{path.name} (a safetensors file with weights, and the "
            f"embedder in its metadata), found other bytes ({type(error).__name__}); remove the file or replace it",
            reason="POPULATION_UNREADABLE",
        ) from error
    if meant != embedder:
        return []
    columns = weights.reshape(len(weights), -1)
    if len(columns) != dimensions or not np.isfinite(columns).all():
        raise FailedPrecondition(
            f"expected finite weights of {dimensions} numbers for the embedder {embedder!r} in "
            f"models/{FOLDER}/{path.name}, found {len(columns)}; remove the file or replace it",
            reason="POPULATION_UNREADABLE",
        )
    return list(columns.T)


MAX_BACKGROUND = 5_000
"""Rows that the principal directions are learnt from; more change nothing but the time."""
WIDE, MAX_WIDE = 1024, 1024
"""Dimensions beyond which fewer rows do, and how many: directions then come from the products of rows, not columns."""
KEEP = 0.995
"""Share of the variance that is kept."""


@dataclass(frozen=True)
class Features:
    """An affine map from embeddings to features of mean square length 1, and to population scores of variance 1.

    Attributes:
        mean: (D,) float64, the centre of the taste's images.
        basis: (D, P + S) float64: principal directions, scaled; then the weights of the population scores.
        scores: S, how many of the columns are population scores.
    """

    mean: np.ndarray
    basis: np.ndarray
    scores: int = 0

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Maps embeddings (N, D) to features (N, P + S) float64."""
        return (embeddings.astype(np.float64) - self.mean) @ self.basis


def learn_features(
    background: np.ndarray, *, power: float, keep: float = KEEP, population: Population | None = None
) -> Features:
    """Learns one map; see learn_maps."""
    return learn_maps(background, (power,), keep=keep, population=population)[power]


def learn_maps(
    background: np.ndarray, powers: Iterable[float], *, keep: float = KEEP, population: Population | None = None
) -> dict[float, Features]:
    """Learns the maps of several whitening powers from unlabelled embeddings.

    Args:
        background: (N, D) unit embeddings of all images of the taste.
        powers: 0 keeps the encoder's own metric, 1 whitens fully.
        keep: share of the variance that is kept, 0..1.
        population: what others liked, if anything is known.

    Returns:
        A map a power; with fewer than two rows, the identity about the mean.
    """
    most = MAX_WIDE if background.shape[1] > WIDE else MAX_BACKGROUND
    rows = background[:: max(1, -(-len(background) // most))].astype(np.float64)
    mean = rows.mean(axis=0)
    centred = rows - mean
    values, vectors = _directions(centred)
    if not len(values) or values[0] <= 1e-12:
        return {power: Features(mean, np.eye(rows.shape[1])) for power in powers}
    count = int(np.searchsorted(np.cumsum(values) / values.sum(), keep)) + 1
    population_scores = _standardised(population, centred)
    maps = {}
    for power in powers:
        scales = values[:count] ** (-power / 2)
        length = np.sqrt((values[:count] * scales**2).sum())
        basis = vectors[:, :count] * scales / length
        maps[power] = Features(mean, np.hstack([basis, population_scores]), population_scores.shape[1])
    return maps


def _directions(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variances (K,), falling, and principal directions (D, K) of centred rows (N, D)."""
    if centred.shape[1] <= WIDE:
        values, vectors = np.linalg.eigh(centred.T @ centred / max(1, len(centred)))
        return values[::-1].clip(0.0), vectors[:, ::-1]
    values, left = np.linalg.eigh(centred @ centred.T / max(1, len(centred)))
    kept = np.flatnonzero(values > 1e-12 * max(float(values[-1]), 1e-300))[::-1]
    vectors = centred.T @ left[:, kept]
    return values[kept].clip(0.0), vectors / np.linalg.norm(vectors, axis=0).clip(1e-300)


def _standardised(population: Population | None, centred: np.ndarray) -> np.ndarray:
    """Returns the weights (D, S) of population scores of variance 1 on centred rows (N, D)."""
    if population is None:
        return np.zeros((centred.shape[1], 0))
    spread = (centred @ population.weights).std(axis=0)
    return population.weights[:, spread > 1e-9] / spread[spread > 1e-9]
