"""What the rater's use cases work with: database, store, models, and caches that can be rebuilt."""

import hashlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy
from cachetools import LRUCache

from konomi.errors import DataLoss, FailedPrecondition, NotFound
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.decoding.worker_process import Decoded
from konomi_chassis.lazy_value import LazyValue
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_rater.embedding.batching import Batcher, queue_limits
from konomi_rater.embedding.joined import Embedder
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import EmbeddingExecutor
from konomi_rater.measures.novelty import Reference, reference_of
from konomi_rater.replica.following import read_only
from konomi_rater.settings import RaterSettings
from konomi_rater.storage import tastes
from konomi_rater.storage.embeddings import SELF, EmbeddingMatrix, MatrixView
from konomi_rater.storage.files.head_file import StoredHead, from_bytes
from konomi_rater.storage.in_force import GradeColumn, Grades, GradesInMemory, Moment, grade_column
from konomi_rater.storage.label_chain import LabelChains
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.novelty_index import Archive, ArchiveView
from konomi_rater.usecases.vectors import Vectors

HEADS, ARTIFACTS = 64, 256
"""Rater versions, and names of their artifacts, that are kept in memory at most."""
LEAST_REFERENCE = 20
"""Base and real images below which every image of the taste says what is typical."""


@dataclass(frozen=True)
class Parts:
    """The objects a workspace joins; `clock` returns Unix time, `executor` embeds tastes' images in another's place."""

    engine: sqlalchemy.Engine
    store: ArtifactStore
    decoder: Decoder
    embedders: Embedders
    settings: RaterSettings
    clock: Callable[[], float]
    executor: EmbeddingExecutor | None = None


class Workspace:
    """Database, store and models, with caches that hold nothing but what can be made again."""

    def __init__(self, parts: Parts) -> None:
        self.store, self.embedders, self.settings, self.clock = (
            parts.store,
            parts.embedders,
            parts.settings,
            parts.clock,
        )
        self._engine, self._decoder = parts.engine, parts.decoder
        self.label_chains = LabelChains()
        self._lock = threading.Lock()
        self._memories: dict[tuple[str, str], EmbeddingMatrix] = {}
        self._archives: dict[tuple[str, str], Archive] = {}
        self._grades: dict[str, GradesInMemory] = {}
        self._columns: LRUCache[tuple[str, str], GradeColumn] = LRUCache(HEADS)
        self._places: LRUCache[tuple[str, str, Moment, int, int], np.ndarray] = LRUCache(HEADS)
        # Caches change even when they are read, so every access holds the lock.
        self._heads: LRUCache[str, StoredHead] = LRUCache(HEADS)
        self._artifacts: LRUCache[tuple[str, int], str] = LRUCache(ARTIFACTS)
        self._references: LRUCache[tuple[str, str, int, tuple[str, ...]], tuple[int, int, Reference]] = LRUCache(HEADS)
        self._batcher = LazyValue(lambda: _batcher(parts))
        self._executor = parts.executor
        room = parts.settings.score_cache
        self.vectors = Vectors(parts.store, parts.embedders, self._batcher, room, parts.executor)

    def check_writable(self) -> None:
        """Raises FailedPrecondition where this rater only reads, before any work is done that it could not keep."""
        if self.settings.read_only:
            raise read_only(self.settings.writer)

    def follow(self) -> None:
        """Brings a rater that only reads up to what another one has written meanwhile.

        What a call reads of the database is of its own moment. This is for what is remembered: heads of versions that
        began to score are read before anybody waits for them, and a taste that was replaced by another is forgotten.
        """
        with self.reading() as connection:
            scoring = {row.taste: row for row in tastes.read_scoring(connection)}
        with self._lock:
            known = dict(self._artifacts)
            for key in [key for key in self._memories if key[0] not in scoring or scoring[key[0]].embedder != key[1]]:
                self._memories.pop(key, None)
                self._archives.pop(key, None)
        for (taste, number), artifact in known.items():
            row = scoring.get(taste)
            if row is None or (row.number == number and row.artifact != artifact):
                self.forget_versions(taste)
        for taste in {taste for taste, _ in known}:
            row = scoring.get(taste)
            if row is not None and row.artifact:
                self.stored_head(row.artifact)

    def reading(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """Gives a connection on one consistent snapshot."""
        return reading(self._engine)

    def writing(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """Gives the one write transaction; it is durable when the block ends."""
        return self._engine.begin()

    def close(self) -> None:
        """Ends the batching threads, the decoding children and the actors, and gives the database up."""
        if self._batcher.if_made is not None:
            self._batcher.if_made.close()
        if self._executor is not None:
            self._executor.close()
        self._decoder.close()
        self._engine.dispose()

    def embedder(self, taste: TasteRow) -> Embedder:
        """Returns the embedder of a taste."""
        return self.embedders.open(taste.embedder)

    def view(self, connection: sqlalchemy.Connection, taste: TasteRow) -> MatrixView:
        """Returns the images of a taste as they are now, under its embedder."""
        with self._lock:
            memory = self._memories.setdefault((taste.id, taste.embedder), EmbeddingMatrix(taste.id, taste.embedder))
        return memory.view(connection)

    def grades(self, connection: sqlalchemy.Connection, taste: str) -> Grades:
        """Returns the grades in force of a taste as they are now."""
        with self._lock:
            memory = self._grades.setdefault(taste, GradesInMemory(taste))
        return memory.at(connection)

    def grade_column(self, taste: TasteRow, view: MatrixView, grades: Grades) -> np.ndarray:
        """Returns the grade of every image of a view, 0 where ungraded: (N,) int8."""
        key = (taste.uid, taste.embedder)
        with self._lock:
            earlier = self._columns.get(key)
        column = grade_column(view, grades, earlier)
        with self._lock:
            self._columns[key] = column
        return column.grades

    def graded(self, taste: TasteRow, view: MatrixView, grades: Grades) -> np.ndarray:
        """Returns the positions of graded images that are in the view, in the order they were graded: (L,) int64."""
        key = (taste.uid, taste.embedder, grades.moment, view.generation, len(view))
        with self._lock:
            places = self._places.get(key)
        if places is None:
            places = view.digests.places(list(grades.every))
            places = places[places >= 0]
            with self._lock:
                self._places[key] = places
        return places

    def decode(self, digest: str) -> Decoded:
        """Returns a stored image decoded whole, in a limited child."""
        return self._decoder.decode(self.store.get(digest), "digest")

    def release(self, taste: TasteRow) -> None:
        """Gives up the memory and the index of a taste under the embedder it no longer has."""
        with self._lock:
            self._memories.pop((taste.id, taste.embedder), None)
            self._archives.pop((taste.id, taste.embedder), None)

    def archive(self, taste: TasteRow, view: MatrixView) -> ArchiveView:
        """Returns the index of all images of a taste, for positions of the view."""
        name = f"{taste.uid}-{hashlib.sha256(taste.embedder.encode()).hexdigest()[:12]}.faiss"
        with self._lock:
            archive = self._archives.setdefault(
                (taste.id, taste.embedder),
                Archive(self.settings.exact_rows, self._cache(name)),
            )
        return archive.at(view)

    def _cache(self, name: str) -> Path | None:
        """Returns where an index is kept between starts; a replica may share a home with the one that keeps it."""
        return None if self.settings.read_only else self.settings.home / "cache" / "novelty" / name

    def reference(self, taste: TasteRow, view: MatrixView, base_units: tuple[str, ...]) -> Reference:
        """Returns what is typical of a taste: the base model's own and the real images, or all while those are few."""
        key = (taste.id, taste.embedder, view.generation, base_units)
        with self._lock:
            at, size, reference = self._references.get(key, (-1, -1, None))
        if reference is not None and at == len(view):
            return reference  # nothing came since: counting the members of a large taste costs more than a score
        members = np.union1d(view.base(base_units), np.flatnonzero(view.sources != SELF))
        if len(members) < LEAST_REFERENCE:
            members = np.arange(len(view))
        if reference is None or size != len(members):
            most, size = self.settings.reference_images, len(members)
            chosen = members if size <= most else np.sort(np.random.default_rng(0).permutation(members)[:most])
            reference = reference_of(chosen, view.embeddings[chosen])
        with self._lock:
            self._references[key] = (len(view), size, reference)
        return reference

    def active_head(self, taste: TasteRow) -> StoredHead:
        """Returns the head that scores.

        Raises:
            FailedPrecondition: none was fitted, or it was fitted on the vectors of another embedder.
        """
        if not taste.active:
            raise FailedPrecondition(
                f"expected a fitted rater, tastes/{taste.id} has none; "
                "grade images with RecordLabels, then call FitRater",
                reason="RATER_NOT_FITTED",
            )
        head = self.head(taste.id, taste.active)
        if head.embedder != taste.embedder:
            raise FailedPrecondition(
                f"expected a rater fitted on vectors of {taste.embedder}, the embedder of tastes/{taste.id}, but "
                f"version {taste.active} was fitted on vectors of {head.embedder}; fit a new one with FitRater",
                reason="EMBEDDER_CHANGED",
            )
        return head

    def head(self, taste: str, number: int) -> StoredHead:
        """Returns the stored head of a version, read from the store at its first use."""
        return self.stored_head(self.artifact(taste, number))

    def forget_versions(self, taste: str) -> None:
        """Gives up what is remembered of a taste's versions and grades, because others have taken their numbers."""
        with self._lock:
            self._grades.pop(taste, None)
            for key in [key for key in self._artifacts if key[0] == taste]:
                del self._artifacts[key]

    def artifact(self, taste: str, number: int) -> str:
        """Returns the digest of a version's head, which never changes while its taste is not replaced."""
        with self._lock:
            artifact = self._artifacts.get((taste, number))
        if artifact is None:
            with self.reading() as connection:
                artifact = tastes.read_version(connection, taste, number).artifact
            with self._lock:
                self._artifacts[taste, number] = artifact
        return artifact

    def stored_head(self, artifact: str) -> StoredHead:
        """Returns a head by the digest of its artifact."""
        with self._lock:
            head = self._heads.get(artifact)
        if head is None:
            self.embedders.import_libraries()  # trees bring a library that must not be imported while torch is
            try:
                head = from_bytes(self.store.get(artifact))
            except NotFound as error:
                raise DataLoss(
                    "expected the rater version's artifact, found none in the store; fit the rater again",
                    reason="HEAD_MISSING",
                ) from error
            with self._lock:
                self._heads[artifact] = head
        return head


def _batcher(parts: Parts) -> Batcher:
    """Returns the queue of images to embed; how many pass at once depends on the device, which torch knows."""
    limits = queue_limits(parts.settings, parts.embedders.batch, parts.decoder.children)
    return Batcher(parts.decoder.decode, limits)
