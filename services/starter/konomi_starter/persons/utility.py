"""Gold utility: what a simulated person truly likes, hidden from konomi."""

import hashlib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from konomi.errors import InvalidArgument
from konomi_starter.data.captions import ATTRIBUTES, TASTE_ATTRIBUTES, Record

QUANTILES = (0.30, 0.60, 0.82, 0.94)
"""Where R, SR, SSR and UR begin among the base model's own images."""


@dataclass(frozen=True)
class Person:
    """A simulated person.

    Attributes:
        name: what the report calls the person.
        weights: "attribute=value" to its contribution to the utility; what is not named counts 0.
        noise: standard deviation of the label noise, as a share 0..1 of the utility's own.
    """

    name: str
    weights: Mapping[str, float]
    noise: float

    def utility(self, record: Record) -> float:
        """Returns the true utility of an image with these attributes; its unit is that of the weights."""
        return math.fsum(self.weights.get(f"{name}={record[name]}", 0.0) for name in TASTE_ATTRIBUTES)


def read_person(path: Path) -> Person:
    """Reads a person from JSON {"name", "weights", "noise"}.

    Raises:
        InvalidArgument: the file is not JSON, a key is missing or unknown, or a number is out of range.
    """
    try:
        data = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidArgument(f"expected a person as a JSON file at {path.name}, could not read it: {error}") from error
    if not isinstance(data, dict) or not isinstance(data.get("weights"), dict):
        raise InvalidArgument('expected {"name": …, "weights": {"attribute=value": number, …}, "noise": 0..1}')
    unknown = set(data) - {"name", "weights", "noise"}
    if unknown:
        raise InvalidArgument(f"expected the keys name, weights and noise, also found {', '.join(sorted(unknown))}")
    allowed = {f"{name}={value}" for name in TASTE_ATTRIBUTES for value in ATTRIBUTES[name]}
    for key, value in data["weights"].items():
        if key not in allowed:
            raise InvalidArgument(
                f"no attribute value {key!r}; `konomi demo --attributes --json` lists them", field=f"weights.{key}"
            )
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidArgument(f"expected a finite number for {key!r}, found {value!r}", field=f"weights.{key}")
    noise = data.get("noise", 0.0)
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise <= 1:
        raise InvalidArgument(f"expected noise from 0 to 1, found {noise!r}", field="noise")
    return Person(str(data.get("name") or path.stem), {k: float(v) for k, v in data["weights"].items()}, float(noise))


def random_person(seed: int, noise: float = 0.2) -> Person:
    """Draws a person whose every attribute value weighs N(0, 1)."""
    rng = random.Random(f"person-{seed}")
    weights = {f"{name}={value}": round(rng.gauss(0, 1), 3) for name in TASTE_ATTRIBUTES for value in ATTRIBUTES[name]}
    return Person(f"person-{seed}", weights, noise)


@dataclass(frozen=True)
class Tiers:
    """Where each grade begins, fixed once on images of the base model.

    Attributes:
        cuts: four ascending utilities; a utility above cut k is at least grade k + 2.
        spread: standard deviation of the utility on those images; scales the label noise.
    """

    cuts: tuple[float, ...]
    spread: float

    def grade(self, utility: float) -> int:
        """Returns the grade 1 (N) .. 5 (UR) of a utility."""
        return 1 + sum(utility > cut for cut in self.cuts)


def fix_tiers(utilities: Sequence[float]) -> Tiers:
    """Fixes the tiers at the 30/60/82/94 % quantiles.

    Raises:
        InvalidArgument: fewer than 20 images.
    """
    if len(utilities) < 20:
        raise InvalidArgument(f"expected at least 20 images to fix tiers on, came {len(utilities)}")
    values = np.asarray(utilities, np.float64)
    return Tiers(tuple(float(q) for q in np.quantile(values, QUANTILES)), float(values.std()))


def spoken_grade(person: Person, tiers: Tiers, utility: float, digest: str, seed: int) -> int:
    """Returns the grade the person says: the true one blurred by the label noise of this image and seed."""
    rng = random.Random(hashlib.sha256(f"{seed}-{digest}".encode()).digest())
    return tiers.grade(utility + person.noise * tiers.spread * rng.gauss(0, 1))
