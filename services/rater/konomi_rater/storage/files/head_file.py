"""A fitted head as one safetensors file with JSON in its header: data only, conditioned anew when it is read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from konomi.errors import DataLoss
from konomi_rater.measures.near_copy_order import NearCopyOrder, learn_near_copy_order
from konomi_rater.measures.novelty import Reference, reference_of
from konomi_rater.preference.calibration import Calibration, Curve
from konomi_rater.preference.features import Features
from konomi_rater.preference.gaussian_process import NO_PAIRS, Kernel
from konomi_rater.preference.head import Head, Sites, assemble, with_members
from konomi_rater.preference.ordinal import Scale
from konomi_rater.preference.provenance.origins import Origins
from konomi_rater.preference.provenance.parameters import Columns
from konomi_rater.preference.provenance.trees import Trees
from konomi_rater.preference.sparse_gaussian_process import SparseProcess

SCHEMA, ON_PAIRS, WITH_ORIGINS = "konomi.head/2", "konomi.head/3", "konomi.head/4"
"""A head that rests on comparisons too has the second: who knows the first alone would take pairs for images. One that
reads how images were made has the third."""
MEDIA_TYPE = "application/vnd.konomi.head+safetensors"
PROCESS = ("inputs", "outer", "inner", "weights", "members")
"""What is kept of a process on more labels than the file names; one on those it names is conditioned anew."""
SUPPORT_NEIGHBOURS = 5
"""Neighbours among the graded images whose distance decides what is unknown."""


@dataclass(frozen=True)
class StoredHead:
    """A head with the graded images it rests on.

    Attributes:
        head: the model.
        support: the graded images, indexed 0..n-1.
        embedder: what made the vectors it was fitted on.
        rows: (n, D) embeddings of these images.
        grades: (n,) their grades, 0 for one that was not graded.
    """

    head: Head
    support: Reference
    embedder: str
    rows: np.ndarray
    grades: np.ndarray

    @cached_property
    def near_copies(self) -> NearCopyOrder | None:
        """What puts near-copies in order; None where too little is graded. Learnt at its first use."""
        return learn_near_copy_order(self.rows, self.grades)

    def unknown(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns which rows (N, D) lie beyond the 99th percentile of the graded images' own distances: (N,) bool."""
        distances = self.support.index.distance(embeddings, np.full(len(embeddings), -1), SUPPORT_NEIGHBOURS)
        return distances > self.support.cut(99) + 1e-6


def to_bytes(head: Head, embeddings: np.ndarray, grades: np.ndarray, embedder: str) -> bytes:
    """Serialises a head.

    Args:
        head: the model.
        embeddings: (n, D) float32 it was fitted on.
        grades: (n,) integers 1..5; 0 for an image that was taken for unliked, ungraded.
        embedder: what made the embeddings.
    """
    calibration = head.calibration
    tensors = {
        "features.mean": head.features.mean,
        "features.basis": head.features.basis,
        "scale.cuts": head.scale.cuts,
        "scale.targets": head.scale.targets,
        "support": embeddings.astype(np.float32),
        "grades": grades.astype(np.int64),
        "sites.targets": head.sites.targets,
        "sites.noise": head.sites.noise,
        "members": head.drawn,
        "ssr.said": calibration.ssr.predicted,
        "ssr.held": calibration.ssr.observed,
        "ur.said": calibration.ur.predicted,
        "ur.held": calibration.ur.observed,
    }
    if len(head.sites.pairs):
        tensors["pairs"] = head.sites.pairs
    if len(head.features.origins) and head.whole:
        tensors["origins"] = head.sites.origins
    if not head.whole:
        tensors |= {f"process.{name}": getattr(head.process, name) for name in PROCESS}
    solid = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return save(solid, metadata={"konomi": json.dumps(_header(head, embedder), sort_keys=True)})


def _header(head: Head, embedder: str) -> dict[str, Any]:
    """Returns what the file's header says of a head: everything that is no array."""
    calibration, origins, kernel = head.calibration, head.features.origins, asdict(head.process.kernel)
    if not len(origins):  # then the file is what it was before there were any
        del kernel["origin"], kernel["origins"]
    schema = ON_PAIRS if len(head.sites.pairs) else SCHEMA
    return {
        "schema": WITH_ORIGINS if len(origins) else schema,
        "kind": head.kind,
        "embedder": embedder,
        "kernel": kernel,
        "population_scores": head.features.scores,
        "calibration": {
            "temperature": calibration.temperature,
            "shift": calibration.shift,
            "ssr_weight": calibration.ssr.weight,
            "ur_weight": calibration.ur.weight,
            "random": calibration.random,
        },
        "trees": None if head.trees is None else asdict(head.trees),
        **({"origins": asdict(origins)} if len(origins) else {}),
    }


def from_bytes(data: bytes) -> StoredHead:
    """Reads a head back and conditions it on its labels.

    Raises:
        DataLoss: the bytes are not a head of this schema.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        facts = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["konomi"])
        if facts["schema"] not in (SCHEMA, ON_PAIRS, WITH_ORIGINS):
            raise KeyError(facts["schema"])
        head, support, embedder = _assembled(facts, tensors), tensors["support"], str(facts["embedder"])
        grades = tensors["grades"]
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        raise DataLoss(
            f"expected a stored rater head ({SCHEMA}), found other bytes ({type(error).__name__}); fit the rater again",
            reason="HEAD_UNREADABLE",
        ) from error
    known = reference_of(np.arange(len(support)), support, SUPPORT_NEIGHBOURS)
    return StoredHead(head, known, embedder, support, grades)


def _assembled(facts: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Head:
    features = Features(tensors["features.mean"], tensors["features.basis"], facts["population_scores"])
    if "origins" in facts:
        features = features.with_origins(Origins(**{name: tuple(values) for name, values in facts["origins"].items()}))
    scale = Scale(tensors["scale.cuts"], tensors["scale.targets"])
    sites = Sites(tensors["sites.targets"], tensors["sites.noise"], tensors.get("pairs", NO_PAIRS))
    kernel, drawn = Kernel(**facts["kernel"]), tensors["members"]
    if "process.weights" in tensors:
        process = SparseProcess(kernel, **{name: tensors[f"process.{name}"] for name in PROCESS})
        head = Head(facts["kind"], features, process, scale, sites, drawn=drawn, whole=False)
    else:
        inputs = features(tensors["support"])
        if "origins" in tensors:
            inputs[:, inputs.shape[1] - kernel.origins :] = tensors["origins"]
        head = with_members(assemble(facts["kind"], features, inputs, scale, kernel, sites), inputs, drawn)
    calibration, stored = facts["calibration"], facts["trees"]
    return replace(
        head,
        calibration=Calibration(
            calibration["temperature"],
            calibration["shift"],
            Curve(tensors["ssr.said"], tensors["ssr.held"], calibration["ssr_weight"]),
            Curve(tensors["ur.said"], tensors["ur.held"], calibration["ur_weight"]),
            calibration["random"],
        ),
        trees=None if stored is None else trees_of(stored),
    )


def trees_of(stored: Mapping[str, Any]) -> Trees:
    """Returns the trees a header holds; those of earlier versions know the rest alone."""
    columns = _columns(stored["columns"])
    if "forest" not in stored:
        return Trees(columns, "", stored["text"], (1.0, 0.0, stored["weight"]))
    own, forest, rest = stored["weights"]
    return Trees(columns, stored["forest"], stored["rest"], (own, forest, rest), stored["doubt"])


def _columns(stored: Mapping[str, list[str]]) -> Columns:
    return Columns(tuple(stored["parameters"]), tuple(stored["words"]), tuple(stored["units"]))
