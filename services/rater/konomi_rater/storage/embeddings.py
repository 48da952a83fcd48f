"""The embeddings of a taste in memory: one growing matrix, brought up to date from the database, never written back."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, text

from konomi_rater.embedding.names import space_of
from konomi_rater.preference.parameters import Provenance

BASE_UNITS = ("base",)


SELF = 1


@dataclass(frozen=True)
class MatrixView:
    """The images of a taste at one moment, oldest first; later images never change it.

    Attributes:
        rows: (N,) int64 row numbers, increasing.
        embeddings: (N, D) float32 unit rows.
        digests: N digests.
        units: N units.
        sources: (N,) int64.
        position: digest to index; may know later images too.
        provenances: how each of the N images was made.
        generation: how often images were forgotten; indices of one generation mean nothing in another.
    """

    rows: np.ndarray
    embeddings: np.ndarray
    digests: list[str]
    units: list[str]
    sources: np.ndarray
    position: dict[str, int]
    provenances: list[Provenance]
    generation: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, digest: str) -> int | None:
        """Returns the index of a digest, or None."""
        index = self.position.get(digest)
        return index if index is not None and index < len(self) else None

    def provenances_at(self, positions: Sequence[int] | np.ndarray) -> list[Provenance | None]:
        """Returns how the images at positions (N,) were made; None at -1, a stranger's."""
        return [self.provenances[at] if at >= 0 else None for at in positions]

    def indices(self, rows: np.ndarray) -> np.ndarray:
        """Turns row numbers that are in the view into indices."""
        return np.searchsorted(self.rows, rows)

    def own_units(self, least: int) -> dict[str, np.ndarray]:
        """Returns the indices (N,) of the taste's own images by unit, units of `least` or more, oldest first."""
        rows: dict[str, list[int]] = {}
        for row, unit in enumerate(self.units[: len(self)]):
            if unit and self.sources[row] == SELF:
                rows.setdefault(unit, []).append(row)
        return {unit: np.array(indices) for unit, indices in rows.items() if len(indices) >= least}

    def base(self, units: tuple[str, ...]) -> np.ndarray:
        """Returns the indices of the base model's own images."""
        names = set(units)
        return np.array([i for i, unit in enumerate(self.units[: len(self)]) if unit in names], dtype=np.int64)


class EmbeddingMatrix:
    """Follows the database; arrays double and forgetting makes new ones, so a view taken earlier stays valid."""

    def __init__(self, taste: str, embedder: str) -> None:
        self._taste, self._space = taste, space_of(embedder)
        self._lock = threading.Lock()
        self._count, self._forgotten, self._generation = 0, 0, 0
        self._rows = np.zeros(0, np.int64)
        self._sources = np.zeros(0, np.int64)
        self._embeddings = np.zeros((0, 0), np.float32)
        self._digests: list[str] = []
        self._units: list[str] = []
        self._position: dict[str, int] = {}
        self._provenances: list[Provenance] = []
        self._alike: dict[tuple[str, str, str], Provenance] = {}

    def view(self, connection: Connection) -> MatrixView:
        """Reads what is new, forgets what went, and returns the images as they are now."""
        with self._lock:
            self._forget(connection)
            last = int(self._rows[self._count - 1]) if self._count else 0
            new_rows = connection.execute(
                text(
                    "SELECT i.row, i.digest, i.unit, i.source, i.prompt, i.parameters, e.vector "
                    "FROM images AS i JOIN embeddings AS e "
                    "ON e.digest = i.digest AND e.embedder = :embedder "
                    "WHERE i.taste = :taste AND i.row > :last ORDER BY i.row"
                ),
                {"taste": self._taste, "embedder": self._space, "last": last},
            ).all()
            if new_rows:
                self._grow(list(new_rows))
            n = self._count
            return MatrixView(
                self._rows[:n],
                self._embeddings[:n],
                self._digests,
                self._units,
                self._sources[:n],
                self._position,
                self._provenances,
                self._generation,
            )

    def _forget(self, connection: Connection) -> None:
        forgotten = connection.execute(
            text(
                "SELECT sequence, row FROM images_forgotten WHERE taste = :taste AND sequence > :seen ORDER BY sequence"
            ),
            {"taste": self._taste, "seen": self._forgotten},
        ).all()
        if not forgotten:
            return
        self._forgotten = int(forgotten[-1].sequence)
        remaining = np.flatnonzero(~np.isin(self._rows[: self._count], [row.row for row in forgotten]))
        if len(remaining) == self._count:
            return
        self._rows, self._sources = self._rows[remaining], self._sources[remaining]
        self._embeddings = self._embeddings[remaining]
        self._digests, self._units = [self._digests[i] for i in remaining], [self._units[i] for i in remaining]
        self._provenances = [self._provenances[i] for i in remaining]
        self._position = {digest: i for i, digest in enumerate(self._digests)}
        self._count = len(remaining)
        self._generation += 1

    def _grow(self, new_rows: list) -> None:  # type: ignore[type-arg]
        vectors = np.stack([np.frombuffer(row.vector, "<f4") for row in new_rows])
        need, room = self._count + len(new_rows), len(self._rows)
        if need > room:
            room = max(need, 2 * room, 1024)
            rows, sources = np.zeros(room, np.int64), np.zeros(room, np.int64)
            embeddings = np.zeros((room, vectors.shape[1]), np.float32)
            rows[: self._count], sources[: self._count] = self._rows[: self._count], self._sources[: self._count]
            if self._count:
                embeddings[: self._count] = self._embeddings[: self._count]
            self._rows, self._sources, self._embeddings = rows, sources, embeddings
        part = slice(self._count, need)
        self._rows[part] = [row.row for row in new_rows]
        self._sources[part] = [row.source for row in new_rows]
        self._embeddings[part] = vectors
        self._digests.extend(row.digest for row in new_rows)
        self._units.extend(row.unit for row in new_rows)
        self._provenances.extend(self._shared_provenance(row.prompt, row.unit, row.parameters) for row in new_rows)
        self._position.update((row.digest, self._count + i) for i, row in enumerate(new_rows))
        self._count = need

    def _shared_provenance(self, prompt: str, unit: str, parameters: str) -> Provenance:
        """Returns one object for all images made alike: a prompt is read once, not once an image."""
        key = (prompt, unit, parameters)
        if key not in self._alike:
            self._alike[key] = Provenance(prompt, unit, json.loads(parameters))
        return self._alike[key]
