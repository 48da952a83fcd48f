"""What to show next: images worth a grade, hidden repeats among them, and the far but plausible."""

import threading
from dataclasses import replace

import numpy as np
import sqlalchemy
from cachetools import LRUCache

from konomi_rater.measures.novelty import reference_of
from konomi_rater.preference import features
from konomi_rater.preference.features import Population
from konomi_rater.preference.fitting import LEAST_LABELS, quick_fit
from konomi_rater.preference.head import Head
from konomi_rater.selection import acquisition
from konomi_rater.selection.acquisition import Pool, SuggestionReason
from konomi_rater.storage import collected, image_records, labels, panel, tastes
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.image_records import Filter, ImageRow
from konomi_rater.storage.labels import LabelEntry
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.scoring import TYPICAL_PERCENTILE
from konomi_rater.usecases.workspace import Workspace

REPEAT_GAP = 10
"""Grades between an image and its hidden repeat at least."""
GRADED_NEIGHBOURS = 5
EVERY_ROW = 2**62
HEADS = 16
"""Working heads that are kept at most."""


class Suggesting:
    """The use cases behind SuggestImages and ExploreNovelty."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._heads: LRUCache[tuple[str, str, int], Head] = LRUCache(HEADS)

    def suggest(
        self, taste_id: str, criteria: Filter, count: int, novel: int, seed: int, *, repeats: bool
    ) -> list[tuple[ImageRow, SuggestionReason]]:
        """Returns up to `count` images to grade next, in the order to show them, each with its reason.

        A hidden repeat carries no grade: whoever shows it must not know which it is. Where no filter says what is
        wanted, hidden grades of the newest unit that are still due are among them.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            training, aside = panel.split(connection, taste_id)
            grades = {**training, **aside}
            rows = self.candidates(connection, taste, criteria, grades)
            past = labels.read(connection, taste_id, 0, -1, in_force=False) if repeats else []
            gone = collected.without_pixels(connection, taste_id)
        rng = np.random.default_rng((seed % 2**63, len(grades)))
        repeated = [digest for digest in self._repeats(past, grades, count, rng) if digest not in gone]
        again = [at for digest in repeated if (at := view.at(digest)) is not None]
        hidden = [(at, SuggestionReason.REPEAT_CHECK) for at in again]
        if criteria == Filter():
            lot = np.random.default_rng((seed % 2**63, len(grades), 1)).random()  # leaves the queue's own draws alone
            hidden += self._held_out(taste, view, rows, grades, count, float(lot))
            rows = rows[~np.isin(rows, view.rows[[at for at, _ in hidden]])]
        positions = view.indices(rows)
        head = self.working_head(taste, view, training)
        pool = self._pool(taste, view, positions, grades, far=novel > 0)
        picks = acquisition.suggest(pool, head, len(grades), max(0, count - len(hidden)), novel, rng)
        chosen = [(int(rows[row]), reason) for row, reason in picks]
        for at, reason in hidden:
            chosen.insert(int(rng.integers(len(chosen) + 1)), (int(view.rows[at]), reason))
        with self._workspace.reading() as connection:
            images = image_records.read_rows(connection, taste_id, [row for row, _ in chosen])
        reasons = [reason for _, reason in chosen]
        self._workspace.store.use(image.facts.digest for image in images)
        return [
            (replace(image, grade=0) if reason is SuggestionReason.REPEAT_CHECK else image, reason)
            for image, reason in zip(images, reasons, strict=True)
        ]

    def _held_out(
        self, taste: TasteRow, view: MatrixView, rows: np.ndarray, grades: dict[str, LabelEntry], count: int, lot: float
    ) -> list[tuple[int, SuggestionReason]]:
        """Returns hidden grades that are due, of at most their share of a call; `lot`, 0..1, rounds that share."""
        settings = self._workspace.settings

        def farthest(positions: np.ndarray, most: int) -> list[int]:
            pool = self._pool(taste, view, positions, grades, far=True)
            picks = acquisition.suggest(pool, None, 0, most, most, np.random.default_rng(0))
            return [int(positions[row]) for row, reason in picks if reason is SuggestionReason.NOVEL]

        most = int(count * settings.audit_share + lot)
        return panel.due(view, grades, view.indices(rows), settings.audit_grades, most, farthest)

    def explore(self, taste_id: str, criteria: Filter, count: int) -> tuple[TasteRow, MatrixView, list[ImageRow]]:
        """Returns the images least like anything graded that are still typical of the taste, most novel first."""
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = labels.grades_in_force(connection, taste_id)
            rows = self.candidates(connection, taste, criteria, grades)
            pool = self._pool(taste, view, view.indices(rows), grades, far=True)
            picks = acquisition.suggest(pool, None, len(grades), count, count, np.random.default_rng(0))
            novel = [int(rows[row]) for row, reason in picks if reason is SuggestionReason.NOVEL]
            return taste, view, image_records.read_rows(connection, taste_id, novel)

    def candidates(
        self, connection: sqlalchemy.Connection, taste: TasteRow, criteria: Filter, grades: dict[str, LabelEntry]
    ) -> np.ndarray:
        """Returns the rows that may be shown: those with pixels the filter admits, ungraded where it names no grade."""
        rows = image_records.select(
            connection, taste.id, criteria if criteria.grades else _ungraded(criteria), EVERY_ROW
        )
        gone = collected.rows_without_pixels(connection, taste.id)
        rows = rows[~np.isin(rows, gone)] if len(gone) else rows
        return rows if criteria.min_utility is None else self._above(connection, taste, rows, criteria.min_utility)

    def _above(self, connection: sqlalchemy.Connection, taste: TasteRow, rows: np.ndarray, least: float) -> np.ndarray:
        view = self._workspace.view(connection, taste)
        head = self._workspace.active_head(taste).head
        at = view.indices(rows)
        return rows[head.predict(view.embeddings[at], view.provenances_at(at)).utility >= least]

    def _pool(
        self, taste: TasteRow, view: MatrixView, positions: np.ndarray, grades: dict[str, LabelEntry], *, far: bool
    ) -> Pool:
        """Returns the candidates; how far and how plausible they are only where it is asked for."""
        embeddings = view.embeddings[positions]
        graded = view.embeddings[_positions(view, grades)]
        population = self._population(taste, view)
        liked = _liking(embeddings @ population.weights) if population is not None else None
        novelty, plausible = np.zeros(len(positions)), np.ones(len(positions), dtype=bool)
        if far:
            novelty = self.novelty(taste, view, positions, grades)
            reference = self._workspace.reference(taste, view, BASE_UNITS)
            plausible = reference.index.distance(embeddings, positions) <= reference.cut(TYPICAL_PERCENTILE)
        return Pool(embeddings, novelty, plausible, graded, liked)

    def _population(self, taste: TasteRow, view: MatrixView) -> Population | None:
        folder = self._workspace.embedders.folder / features.FOLDER
        return features.read_population(folder, taste.embedder, view.embeddings.shape[1])

    def novelty(
        self, taste: TasteRow, view: MatrixView, positions: np.ndarray, grades: dict[str, LabelEntry]
    ) -> np.ndarray:
        """Returns how far images (N,) of the view are from everything graded, or from all while nothing is: (N,)."""
        graded = _positions(view, grades)
        if not len(graded):
            return self._workspace.archive(taste, view).distance(view.embeddings[positions], positions)
        index = reference_of(graded, view.embeddings[graded]).index
        return index.distance(view.embeddings[positions], np.full(len(positions), -1), GRADED_NEIGHBOURS)

    def working_head(self, taste: TasteRow, view: MatrixView, grades: dict[str, LabelEntry]) -> Head | None:
        """Fits on the grades of this moment, so that a batch learns from the one before without a new version."""
        usable = {digest: entry for digest, entry in grades.items() if view.at(digest) is not None}
        if len(usable) < LEAST_LABELS or len({entry.grade for entry in usable.values()}) < 2:
            return None
        key = (taste.id, labels.digest_of(usable), len(view))
        with self._lock:
            head = self._heads.get(key)
        if head is None:
            digests = sorted(usable)
            positions = np.array([view.position[digest] for digest in digests])
            values = np.array([usable[digest].grade for digest in digests])
            head = quick_fit(view.embeddings[positions], values, view.embeddings, self._population(taste, view))
            with self._lock:
                self._heads[key] = head
        return head

    def _repeats(
        self, past: list[LabelEntry], grades: dict[str, LabelEntry], count: int, rng: np.random.Generator
    ) -> list[str]:
        """Draws graded images to show again, unmarked: never one that was repeated before or graded just now."""
        last = past[-1].sequence if past else 0
        repeated = {entry.digest for entry in past if entry.reason == SuggestionReason.REPEAT_CHECK}
        old = sorted(d for d, entry in grades.items() if d not in repeated and entry.sequence <= last - REPEAT_GAP)
        share = self._workspace.settings.repeat_share
        return [old[i] for i in acquisition.repeats(len(old), len(grades), count, share, rng)]


def _ungraded(criteria: Filter) -> Filter:
    return Filter((0,), criteria.units, criteria.sources, criteria.nights, criteria.digests, criteria.prompt_contains)


def _positions(view: MatrixView, grades: dict[str, LabelEntry]) -> np.ndarray:
    """Returns the positions of graded images that are in the view, in the order they were graded."""
    by_time = sorted(grades.values(), key=lambda entry: entry.sequence)
    return np.array([at for entry in by_time if (at := view.at(entry.digest)) is not None], dtype=np.int64)


def _liking(scores: np.ndarray) -> np.ndarray:
    """Joins population scores (N, S) of unlike scales into one, (N,)."""
    return np.asarray((scores / scores.std(axis=0).clip(1e-12)).mean(axis=1))
