"""What people in general like: linear heads on an embedder's vectors, read from files; a feature, never a label.

A file `models/population/NAME.safetensors` in the home holds `weights` (D,) or (D, S) and says for which embedder in
its metadata. Only the direction counts: a constant says nothing about one person's order. konomi ships none.
"""

import json
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
    columns = [found for path in sorted(folder.glob("*.safetensors")) for found in _read(path, embedder, dimensions)]
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
