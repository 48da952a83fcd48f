"""A fitted head as one safetensors file with JSON in its header: data only, conditioned anew when it is read."""

import json
from dataclasses import asdict, dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from konomi.errors import DataLoss
from konomi_rater.features import Features
from konomi_rater.gaussian_process import Kernel, condition
from konomi_rater.novelty import Reference, reference_of
from konomi_rater.ordinal import Scale
from konomi_rater.preference import Head

SCHEMA = "konomi.head/1"
MEDIA_TYPE = "application/vnd.konomi.head+safetensors"
SUPPORT_NEIGHBOURS = 5
"""Neighbours among the graded images whose distance decides what is unknown."""


@dataclass(frozen=True)
class StoredHead:
    """A head with the graded images it rests on.

    Attributes:
        head: the model.
        support: the graded images, indexed 0..n-1.
    """

    head: Head
    support: Reference

    def unknown(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns which rows (N, D) lie beyond the 99th percentile of the graded images' own distances: (N,) bool."""
        distances = self.support.index.distance(embeddings, np.full(len(embeddings), -1), SUPPORT_NEIGHBOURS)
        return distances > self.support.cut(99) + 1e-6


def to_bytes(head: Head, embeddings: np.ndarray, grades: np.ndarray, embedder: str) -> bytes:
    """Serialises a head.

    Args:
        head: the model.
        embeddings: (n, D) float32 it was fitted on.
        grades: (n,) integers 1..5.
        embedder: what made the embeddings.
    """
    facts = {
        "schema": SCHEMA,
        "kind": head.kind,
        "embedder": embedder,
        "kernel": asdict(head.process.kernel),
        "temperature": head.temperature,
    }
    tensors = {
        "features.mean": head.features.mean,
        "features.basis": np.ascontiguousarray(head.features.basis),
        "scale.cuts": head.scale.cuts,
        "scale.targets": head.scale.targets,
        "support": np.ascontiguousarray(embeddings, np.float32),
        "grades": np.ascontiguousarray(grades, np.int64),
    }
    return save(tensors, metadata={"konomi": json.dumps(facts, sort_keys=True)})


def from_bytes(data: bytes) -> StoredHead:
    """Reads a head back and conditions it on its labels.

    Raises:
        DataLoss: the bytes are not a head of this schema.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["konomi"])
        if facts["schema"] != SCHEMA:
            raise KeyError(facts["schema"])
        kernel, scale = Kernel(**facts["kernel"]), Scale(tensors["scale.cuts"], tensors["scale.targets"])
        features = Features(tensors["features.mean"], tensors["features.basis"])
        support, grades = tensors["support"], tensors["grades"]
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataLoss(
            f"expected a stored rater head ({SCHEMA}), found other bytes ({type(error).__name__}); fit the rater again",
            reason="HEAD_UNREADABLE",
        ) from error
    process = condition(kernel, features(support), scale.targets[grades - 1])
    head = Head(facts["kind"], features, process, scale, facts["temperature"])
    return StoredHead(head, reference_of(np.arange(len(support)), support, SUPPORT_NEIGHBOURS))
