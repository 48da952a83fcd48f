"""A population in one safetensors file: linear scores of an embedder's vectors, and JSON in the header of their making.

Neither ratings nor names of those who rated are in it: the weights of the mean over all of them, counts, and what was
said of the consent. A file without the JSON, made elsewhere, needs `embedder` in its header alone.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from konomi.errors import FailedPrecondition
from konomi_rater.preference.metrics import Estimate

FOLDER, ENDING = "population", ".safetensors"


@dataclass(frozen=True)
class PopulationSource:
    """Where ratings came from.

    Attributes:
        kind: "ratings" of a file, "taste" of this home or "bundle".
        raters: people it holds.
        consent: what was said of their consent.
    """

    kind: str
    raters: int
    consent: str


@dataclass(frozen=True)
class PopulationRecord:
    """How a population was made; all counts are of what was used.

    Attributes:
        raters: people who were heard.
        ratings: their ratings.
        images: images they rated.
        created: Unix time.
        sources: where the ratings came from.
        members: unique ids of the tastes among them: none of these takes it for other people's.
        srcc: rank agreement with the mean of all on images it was not fitted on; None where it could not be measured.
        request: sha256 of the request it answers, its id included; empty where that had none.
    """

    raters: int = 0
    ratings: int = 0
    images: int = 0
    created: float = 0.0
    sources: tuple[PopulationSource, ...] = ()
    members: tuple[str, ...] = ()
    srcc: Estimate | None = None
    request: str = ""


@dataclass(frozen=True)
class Population:
    """Linear population scores.

    Attributes:
        weights: (D, S) float64, one column a score.
        name: of its file, without the ending.
        digest: sha256 of the file.
        embedder: name of the embedder whose vectors it reads.
        record: how it was made.
    """

    weights: np.ndarray
    name: str = ""
    digest: str = ""
    embedder: str = ""
    record: PopulationRecord = PopulationRecord()


def to_bytes(population: Population, embedder: str) -> bytes:
    """Serialises population scores for one embedder."""
    facts = {"embedder": embedder, "konomi": json.dumps(asdict(population.record), sort_keys=True)}
    return save({"weights": np.ascontiguousarray(population.weights, np.float32)}, metadata=facts)


def read_populations(folder: Path, embedder: str, dimensions: int) -> tuple[Population, ...]:
    """Returns every population of an embedder, by name.

    Args:
        folder: the home's folder of population files; it may be missing.
        embedder: name of the taste's embedder; files of others are passed over.
        dimensions: D of its vectors.

    Raises:
        FailedPrecondition: a file is no safetensors file, or does not fit the embedder.
    """
    found = [population for population in read_all(folder) if population.embedder == embedder]
    for population in found:
        if len(population.weights) != dimensions or not np.isfinite(population.weights).all():
            raise FailedPrecondition(
                f"expected finite weights of {dimensions} numbers for the embedder {embedder!r} in "
                f"models/{FOLDER}/{population.name}{ENDING}, found {len(population.weights)}; remove the file or "
                "replace it",
                reason="POPULATION_UNREADABLE",
            )
    return tuple(found)


def read_all(folder: Path) -> list[Population]:
    """Returns the populations of every embedder, by name; FailedPrecondition names a file that is none."""
    paths = sorted(folder.glob(f"*{ENDING}"), key=lambda path: path.stem)  # "a-b" follows "a", with endings it does not
    return [from_bytes(path.read_bytes(), path.stem) for path in paths]


def from_bytes(data: bytes, name: str) -> Population:
    """Reads a population back.

    Raises:
        FailedPrecondition: the bytes are none; the message names the file and what to do.
    """
    try:
        weights = load(data)["weights"].astype(np.float64)
        facts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        record = _record(json.loads(facts.get("konomi", "{}")))
        embedder = str(facts["embedder"])
        columns = weights.reshape(len(weights), -1)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise FailedPrecondition(
            f"expected population scores in models/{FOLDER}/{name}{ENDING} (a safetensors file with weights, and the "
            f"embedder in its metadata), found other bytes ({type(error).__name__}); remove the file or replace it",
            reason="POPULATION_UNREADABLE",
        ) from error
    return Population(columns, name, hashlib.sha256(data).hexdigest(), embedder, record)


def joined(populations: Sequence[Population]) -> Population | None:
    """Returns the scores of several populations side by side, named by their digests; None where there is none."""
    if not populations:
        return None
    weights = np.hstack([population.weights for population in populations])
    return Population(weights, digest="+".join(population.digest for population in populations))


def _record(facts: Mapping[str, Any]) -> PopulationRecord:
    known = dict(facts)
    known["sources"] = tuple(PopulationSource(**source) for source in known.get("sources", ()))
    known["members"] = tuple(str(member) for member in known.get("members", ()))
    known["srcc"] = Estimate(**known["srcc"]) if known.get("srcc") else None
    return PopulationRecord(**known)
