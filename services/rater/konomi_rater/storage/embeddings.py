"""The images of a taste in memory: columns and one growing matrix, brought up to date from the database, never written.

A million images of 64 numbers take 256 MB of vectors and about 80 MB of columns.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from sqlalchemy import Connection, text

from konomi_rater.embedding.names import space_of
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.storage.columns import Column, DigestIndex, Digests, Names, Shared

BASE_UNITS = ("base",)
CHUNK = 20_000
"""Rows read at a time: bounds the memory of the first view, not the result."""
SELF = 1
ELSEWHERE = "elsewhere:"
"""Before the name of a model that made an image elsewhere: no unit of this home is taken for it."""
Parameters = Mapping[str, float]


class Provenances(Sequence[Provenance]):
    """How N images were made, put together when it is asked for: prompts, models and parameters, each by number."""

    def __init__(self, prompts: Shared[str], models: Shared[str], parameters: Shared[Parameters]) -> None:
        self._prompts, self._models, self._parameters = prompts, models, parameters

    def __len__(self) -> int:
        return len(self._prompts)

    @overload
    def __getitem__(self, at: int) -> Provenance: ...
    @overload
    def __getitem__(self, at: slice) -> "Provenances": ...
    def __getitem__(self, at: int | slice) -> "Provenance | Provenances":
        if isinstance(at, slice):
            return Provenances(self._prompts[at], self._models[at], self._parameters[at])
        return Provenance(self._prompts[at], self._models[at], self._parameters[at])

    def __iter__(self) -> Iterator[Provenance]:
        return map(Provenance, self._prompts, self._models, self._parameters)


@dataclass(frozen=True)
class MatrixView:
    """The images of a taste at one moment, oldest first; later images never change it.

    Attributes:
        rows: (N,) int64 row numbers, increasing.
        embeddings: (N, D) float32 unit rows.
        digests: N digests; `at` and `places` find them.
        sources: (N,) int64.
        units: N units, by number.
        nights: N nights, by number.
        prompts: N prompts, by number.
        provenances: how each of the N images was made.
        without_pixels: (N,) bool, whose pixels the storage policy took: never shown, drawn or chosen any more.
        generation: how often images were forgotten; indices of one generation mean nothing in another.
    """

    rows: np.ndarray
    embeddings: np.ndarray
    digests: Digests
    sources: np.ndarray
    units: Shared[str]
    nights: Shared[str]
    prompts: Shared[str]
    provenances: Provenances
    without_pixels: np.ndarray
    generation: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, digest: str) -> int | None:
        """Returns the index of a digest, or None."""
        return self.digests.at(digest)

    def provenances_at(self, positions: Sequence[int] | np.ndarray) -> list[Provenance | None]:
        """Returns how the images at positions (N,) were made; None at -1, a stranger's."""
        return [self.provenances[int(at)] if at >= 0 else None for at in positions]

    def indices(self, rows: np.ndarray) -> np.ndarray:
        """Turns row numbers that are in the view into indices."""
        return np.searchsorted(self.rows, rows)

    def own_units(self, least: int) -> dict[str, np.ndarray]:
        """Returns the indices (N,) of the taste's own images by unit, units of `least` or more, oldest first."""
        own = np.flatnonzero((self.sources == SELF) & self._named())
        numbers = self.units.numbers[own]
        order = np.argsort(numbers, kind="stable")
        parts = np.split(own[order], np.flatnonzero(np.diff(numbers[order])) + 1) if len(own) else []
        parts.sort(key=lambda part: int(part[0]))  # by the first image of each unit
        return {self.units[int(part[0])]: part for part in parts if len(part) >= least}

    def base(self, units: tuple[str, ...]) -> np.ndarray:
        """Returns the indices of the base model's own images."""
        names = set(units)
        numbers = [number for number, name in enumerate(self.units.items) if name in names]
        return np.flatnonzero(np.isin(self.units.numbers, numbers))

    def _named(self) -> np.ndarray:
        empty = [number for number, name in enumerate(self.units.items) if not name]
        return np.asarray(~np.isin(self.units.numbers, empty))


@dataclass
class _Columns:
    """What is held of every image: a column a fact, all of one length."""

    rows: Column = field(default_factory=lambda: Column(np.int64))
    sources: Column = field(default_factory=lambda: Column(np.int64))
    units: Column = field(default_factory=lambda: Column(np.int32))
    models: Column = field(default_factory=lambda: Column(np.int32))
    nights: Column = field(default_factory=lambda: Column(np.int32))
    prompts: Column = field(default_factory=lambda: Column(np.int32))
    parameters: Column = field(default_factory=lambda: Column(np.int32))
    embeddings: Column = field(default_factory=lambda: Column(np.float32, 0))
    without_pixels: Column = field(default_factory=lambda: Column(np.bool_))
    digests: DigestIndex = field(default_factory=DigestIndex)

    def all(self) -> list[Column | DigestIndex]:
        """Returns the columns."""
        return list(vars(self).values())

    def kept(self, rows: np.ndarray) -> "_Columns":
        """Returns columns of the images at indices (K,) alone; these stay as they are, for the views taken of them."""
        return _Columns(**{name: column.kept(rows) for name, column in vars(self).items()})


_WITHOUT_PIXELS = "SELECT digest, 1 AS gone FROM images_without_pixels WHERE taste = :taste"

_PIXELS_SINCE = """
SELECT DISTINCT c.digest, EXISTS (
    SELECT 1 FROM images_without_pixels AS w WHERE w.taste = c.taste AND w.digest = c.digest
) AS gone FROM collected_images AS c WHERE c.taste = :taste AND c.sequence > :seen
"""


class EmbeddingMatrix:
    """Follows the database; arrays grow and forgetting makes new ones, so a view taken earlier stays valid."""

    def __init__(self, taste: str, embedder: str) -> None:
        self._taste, self._space = taste, space_of(embedder)
        self._lock = threading.Lock()
        self._forgotten, self._generation, self._collected = 0, 0, 0
        self._columns = _Columns()
        self._units: Names[str] = Names()
        self._models: Names[str] = Names()
        self._nights: Names[str] = Names()
        self._prompts: Names[str] = Names()
        self._texts: Names[str] = Names()
        self._parameters: list[Parameters] = []

    def view(self, connection: Connection) -> MatrixView:
        """Reads what is new, forgets what went, and returns the images as they are now."""
        with self._lock:
            forgot = self._forget(connection)
            self._read_new(connection)
            self._follow_pixels(connection, whole=forgot)
            return self._view(self._visible(connection))

    def _view(self, n: int) -> MatrixView:
        columns = self._columns
        units = Shared(columns.units.head(n), self._units.names)
        prompts = Shared(columns.prompts.head(n), self._prompts.names)
        models = Shared(columns.models.head(n), self._models.names)
        return MatrixView(
            rows=columns.rows.head(n),
            embeddings=columns.embeddings.head(n),
            digests=Digests(columns.digests, n),
            sources=columns.sources.head(n),
            units=units,
            nights=Shared(columns.nights.head(n), self._nights.names),
            prompts=prompts,
            provenances=Provenances(prompts, models, Shared(columns.parameters.head(n), self._parameters)),
            without_pixels=columns.without_pixels.head(n),
            generation=self._generation,
        )

    def _visible(self, connection: Connection) -> int:
        """Returns how many images this connection's snapshot knows: another one may have brought later ones."""
        newest = text("SELECT COALESCE(MAX(row), 0) FROM images WHERE taste = :taste")
        last = connection.execute(newest, {"taste": self._taste}).scalar_one()
        rows = self._columns.rows.head(len(self._columns.rows))
        return int(np.searchsorted(rows, last, side="right"))

    def _read_new(self, connection: Connection) -> None:
        columns = self._columns
        last = int(columns.rows.head(len(columns.rows))[-1]) if len(columns.rows) else 0
        new = connection.execute(
            text(
                "SELECT i.row, i.digest, i.unit, i.night, i.source, i.prompt, i.parameters, i.elsewhere_model, "
                "e.vector, EXISTS (SELECT 1 FROM images_without_pixels AS w "
                "WHERE w.taste = i.taste AND w.digest = i.digest) AS without_pixels "
                "FROM images AS i JOIN embeddings AS e ON e.digest = i.digest AND e.embedder = :embedder "
                "WHERE i.taste = :taste AND i.row > :last ORDER BY i.row"
            ),
            {"taste": self._taste, "embedder": self._space, "last": last},
            execution_options={"yield_per": CHUNK},
        )
        for part in new.partitions(CHUNK):
            self._grow(connection, list(part))

    def _follow_pixels(self, connection: Connection, *, whole: bool) -> None:
        """Follows the log of what was collected and came back; reads the state whole where the log is another one."""
        bound: dict[str, object] = {"taste": self._taste, "seen": self._collected}
        newest = text("SELECT COALESCE(MAX(sequence), 0) FROM collected_images WHERE taste = :taste")
        last = int(connection.execute(newest, bound).scalar_one())
        if last == self._collected and not whole:
            return
        column, count = self._columns.without_pixels, len(self._columns.rows)
        whole = whole or last < self._collected
        if whole:
            column = column.changed(np.arange(count), np.zeros(count, bool))
        states = connection.execute(text(_WITHOUT_PIXELS if whole else _PIXELS_SINCE), bound).all()
        places = self._columns.digests.places([state.digest for state in states])
        gone = np.array([state.gone for state in states], bool)
        self._columns.without_pixels = column.changed(places[places >= 0], gone[places >= 0])
        self._collected = last

    def _forget(self, connection: Connection) -> bool:
        """Drops the images that were forgotten; says whether any were."""
        forgotten = connection.execute(
            text(
                "SELECT sequence, row FROM images_forgotten WHERE taste = :taste AND sequence > :seen ORDER BY sequence"
            ),
            {"taste": self._taste, "seen": self._forgotten},
        ).all()
        if not forgotten:
            return False
        self._forgotten = int(forgotten[-1].sequence)
        held = self._columns.rows.head(len(self._columns.rows))
        remaining = np.flatnonzero(~np.isin(held, [row.row for row in forgotten]))
        if len(remaining) < len(held):
            self._columns = self._columns.kept(remaining)
            self._generation += 1
        return True

    def _grow(self, connection: Connection, new: list[Any]) -> None:
        columns = self._columns
        vectors = np.frombuffer(b"".join(row.vector for row in new), "<f4").reshape(len(new), -1)
        if not len(columns.rows):
            columns.embeddings = Column(np.float32, vectors.shape[1])
            if len(new) == CHUNK:
                count = text("SELECT images FROM taste_counts WHERE taste = :taste")
                images = int(connection.execute(count, {"taste": self._taste}).scalar_one())
                for column in columns.all():
                    column.reserve(images + CHUNK)
        columns.rows.extend([row.row for row in new])
        columns.sources.extend([row.source for row in new])
        columns.units.extend([self._units.number(row.unit) for row in new])
        columns.models.extend([self._models.number(_model(row.unit, row.elsewhere_model)) for row in new])
        columns.nights.extend([self._nights.number(row.night) for row in new])
        columns.prompts.extend([self._prompts.number(row.prompt) for row in new])
        columns.parameters.extend([self._number(row.parameters) for row in new])
        columns.embeddings.extend(vectors)
        columns.without_pixels.extend([row.without_pixels for row in new])
        columns.digests.extend([row.digest for row in new])

    def _number(self, stored: str) -> int:
        """Returns one number for all images of the same parameters, which are read once, not once an image."""
        number = self._texts.number(stored)
        if number == len(self._parameters):
            self._parameters.append(json.loads(stored))
        return number


def _model(unit: str, elsewhere: str) -> str:
    """Returns the name a rater tells an image's model by; empty where nobody knows it."""
    return unit or (ELSEWHERE + elsewhere if elsewhere else "")


def view_of(digests: Sequence[str], embeddings: np.ndarray, units: Sequence[str], sources: np.ndarray) -> MatrixView:
    """Returns a view of images of no database, numbered from 1: N digests, (N, D) unit rows, their origins."""
    names: Names[str] = Names()
    numbers = np.array([names.number(unit) for unit in units], np.int32)
    nothing = np.zeros(len(digests), np.int32)
    return MatrixView(
        rows=np.arange(1, len(digests) + 1),
        embeddings=embeddings,
        digests=Digests(DigestIndex(digests), len(digests)),
        sources=sources,
        units=Shared(numbers, names.names),
        nights=Shared(nothing, [""]),
        prompts=Shared(nothing, [""]),
        provenances=Provenances(Shared(nothing, [""]), Shared(numbers, names.names), Shared(nothing, [{}])),
        without_pixels=np.zeros(len(digests), bool),
    )
