"""A home of any size for the growth benchmark: images of clustered embeddings, and the log a simulated owner leaves.

Images and vectors are inserted in bulk; labels, undos, repeats, comparisons and the panel by the product itself.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, text

from konomi_chassis.storage.database import open_database
from konomi_rater.storage import comparisons, image_records, labels, panel, tastes
from konomi_rater.storage.comparisons import ComparisonEntry
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.panel import PanelRule
from konomi_rater.storage.schema import MIGRATIONS

TASTE, EMBEDDER, DIMENSIONS = "growth", "starter", 64
CLUSTERS, CHUNK = 500, 20_000
CUTS = (0.4, 0.7, 0.88, 0.96)
RANDOM, REPEAT, UNCERTAIN = 5, 4, 2


@dataclass(frozen=True)
class Size:
    """How much a home holds."""

    labels: int
    images: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.labels}-{self.images}"


def digest_at(row: int) -> str:
    """Returns the digest of an image."""
    return hashlib.sha256(f"growth/{row}".encode()).hexdigest()


def embeddings(images: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields unit rows (CHUNK, D) float32 of clusters of unequal weight, with the falling spectrum encoders have."""
    rng = np.random.default_rng(seed)
    spectrum = np.geomspace(1.0, 0.15, DIMENSIONS).astype(np.float32)
    centres = rng.standard_normal((CLUSTERS, DIMENSIONS), np.float32) * spectrum
    weights = rng.dirichlet(np.full(CLUSTERS, 0.5))
    for start in range(0, images, CHUNK):
        count = min(CHUNK, images - start)
        rows = centres[rng.choice(CLUSTERS, count, p=weights)]
        rows = rows + 0.6 * rng.standard_normal((count, DIMENSIONS), np.float32) * spectrum
        yield rows / np.linalg.norm(rows, axis=1, keepdims=True)


def utility(rows: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns what the simulated owner really likes of unit rows (N, D): a slope and bumps about favourites, (N,)."""
    rng = np.random.default_rng((seed, 1))
    slope = rng.standard_normal(DIMENSIONS)
    favourites = next(embeddings(CHUNK, seed))[rng.integers(0, CHUNK, 30)]
    heights = rng.normal(0.0, 1.5, 30)
    near = np.exp(-(1.0 - rows @ favourites.T) / 0.15)
    return np.asarray(rows @ slope / np.linalg.norm(slope) * 3.0 + near @ heights, np.float64)


def grade(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the grades 1..5 an owner gives to utilities (N,), with noise."""
    noisy = (values - values.mean()) / values.std() + rng.normal(0.0, 0.5, len(values))
    return np.asarray(1 + np.searchsorted(np.quantile(noisy, CUTS), noisy))


def build(home: Path, size: Size, seed: int = 0) -> None:
    """Writes the database of a home, unless it is there."""
    if (home / "built").exists():
        return
    engine = open_database(home / "databases" / "rater.sqlite", MIGRATIONS)
    values = []
    with engine.begin() as connection:
        tastes.create(connection, TASTE, "", EMBEDDER, "starter", 0.0)
        for start, rows in zip(range(0, size.images, CHUNK), embeddings(size.images, seed), strict=True):
            digests = [digest_at(start + i) for i in range(len(rows))]
            connection.execute(_IMAGES, [_image(start + i, digest) for i, digest in enumerate(digests)])
            image_records.remember_embeddings(connection, EMBEDDER, dict(zip(digests, rows, strict=True)))
            values.append(utility(rows, seed))
    with engine.begin() as connection:
        _log(connection, np.concatenate(values), size.labels, np.random.default_rng((seed, 2)))
    engine.dispose()
    (home / "built").write_text(size.name)


_IMAGES = text(
    "INSERT INTO images (taste, digest, source, prompt, seed, unit, night, parents, licence, consent, parameters, "
    "width, height, created) VALUES (:taste, :digest, 1, :prompt, :seed, :unit, :night, '[]', '', '', :parameters, "
    "512, 512, :created)"
)


def _image(row: int, digest: str) -> dict[str, object]:
    block = row // 2000
    return {
        "taste": TASTE,
        "digest": digest,
        "prompt": f"portrait of person {row % 997}, style {row % 31}",
        "seed": row,
        "unit": "base" if block % 10 == 0 else f"unit-{block}",
        "night": f"night-{block // 4}",
        "parameters": json.dumps({"guidance_scale": 5.0 + row % 4, "steps": 20.0}, sort_keys=True),
        "created": float(row),
    }


def _log(connection: Connection, values: np.ndarray, count: int, rng: np.random.Generator) -> None:
    """Records grades, a tenth of them repeats, changed minds or undos, and a comparison for every hundred."""
    order, rule = rng.permutation(len(values))[:count], PanelRule(100, 200, 0.5)
    grades = grade(values, rng)
    for start in range(0, count, 1000):
        part = order[start : start + 1000]
        reasons = np.where(rng.random(len(part)) < 0.2, RANDOM, UNCERTAIN)
        new = [
            NewLabel(digest_at(int(row)), int(grades[row]), reason=int(reason))
            for row, reason in zip(part, reasons, strict=True)
        ]
        entries = labels.record(connection, TASTE, new, float(start))
        panel.set_aside(connection, TASTE, entries, rule, float(start), start)
        again = part[rng.random(len(part)) < 0.05]
        labels.record(
            connection, TASTE, [NewLabel(digest_at(int(r)), int(grades[r]), reason=REPEAT) for r in again], 0.0
        )
        changed = part[rng.random(len(part)) < 0.03]
        for entry in labels.record(connection, TASTE, [NewLabel(digest_at(int(row)), 1) for row in changed], 0.0):
            labels.undo(connection, TASTE, entry.sequence, float(start))
        for left, right in part[: len(part) // 100 * 2].reshape(-1, 2):
            pair = ComparisonEntry(digest_at(int(left)), digest_at(int(right)), tie=False)
            comparisons.record(connection, TASTE, pair, float(start))
