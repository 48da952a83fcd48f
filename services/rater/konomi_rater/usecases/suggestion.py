"""What to show next: images worth a grade, hidden repeats among them, and the far but plausible."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import sqlalchemy
from cachetools import LRUCache

from konomi_rater.preference.comparisons import enough
from konomi_rater.preference.features import Features, learn_features
from konomi_rater.preference.fitting import learnt_pairs, quick_fit
from konomi_rater.preference.head import Head
from konomi_rater.preference.large_fit import WHOLE
from konomi_rater.preference.population.file import Population, joined
from konomi_rater.selection import acquisition
from konomi_rater.selection.acquisition import TYPICAL_START, Pool, RowsAt, SuggestionReason
from konomi_rater.storage import comparisons, image_records, labels, panel, tastes
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.image_records import Filter, ImageRow
from konomi_rater.storage.in_force import Grades, Moment, seen
from konomi_rater.storage.labels import LabelEntry
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.fitting.populations import populations_for
from konomi_rater.usecases.novelty_index import GradedIndex
from konomi_rater.usecases.scoring import TYPICAL_PERCENTILE, Scoring
from konomi_rater.usecases.workspace import Workspace

REPEAT_GAP = 10
"""Grades between an image and its hidden repeat at least."""
GRADED_NEIGHBOURS = 5
HEADS = 16
"""Working heads that are kept at most."""
MOST_FAR = 10_000
"""Candidates at most whose distance to everything graded is measured; of more, a sample drawn by the call's seed."""


class Suggesting:
    """The use cases behind SuggestImages and ExploreNovelty."""

    def __init__(self, workspace: Workspace, scoring: Scoring) -> None:
        self._workspace, self._scoring = workspace, scoring
        self._lock = threading.Lock()
        self._heads: LRUCache[tuple[str, str, Moment, int, int, int], Head] = LRUCache(HEADS)
        self._features: LRUCache[tuple[str, str, int, int, str], Features] = LRUCache(HEADS)
        self._graded: LRUCache[tuple[str, str], GradedIndex] = LRUCache(HEADS)

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
            grades = self._workspace.grades(connection, taste_id)
            positions = self.candidates(taste, view, criteria, grades)
            past = self._past(connection, taste_id) if repeats else (0, set())
        labelled = len(grades.every)
        rng = np.random.default_rng((seed % 2**63, labelled))
        again = _shown_again(view, self._repeats(*past, grades.every, count, rng))
        hidden = [(at, SuggestionReason.REPEAT_CHECK) for at in again]
        if criteria == Filter():
            lot = np.random.default_rng((seed % 2**63, labelled, 1)).random()  # leaves the queue's own draws alone
            hidden += self._held_out(taste, view, positions, grades, count, float(lot))
            positions = positions[~np.isin(positions, [at for at, _ in hidden])]
        head = self.working_head(taste, view, grades)
        pool = self._pool(taste, view, positions, grades, population=head is None or labelled < TYPICAL_START)
        if novel:
            pool = self._with_distances(pool, taste, view, positions, grades, seed)
        judged = labelled + (head.compared if head is not None else 0)
        picks = acquisition.suggest(pool, head, judged, max(0, count - len(hidden)), novel, rng)
        chosen = [(int(view.rows[positions[row]]), reason) for row, reason in picks]
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
        self, taste: TasteRow, view: MatrixView, positions: np.ndarray, grades: Grades, count: int, lot: float
    ) -> list[tuple[int, SuggestionReason]]:
        """Returns hidden grades that are due, of at most their share of a call; `lot`, 0..1, rounds that share."""
        settings = self._workspace.settings

        def farthest(of_unit: np.ndarray, most: int) -> list[int]:
            pool = self._with_distances(self._pool(taste, view, of_unit, grades), taste, view, of_unit, grades, 0)
            picks = acquisition.suggest(pool, None, 0, most, most, np.random.default_rng(0))
            return [int(of_unit[row]) for row, reason in picks if reason is SuggestionReason.NOVEL]

        most = int(count * settings.audit_share + lot)
        return panel.due(view, grades.every, positions, settings.audit_grades, most, farthest)

    def explore(
        self, taste_id: str, criteria: Filter, count: int, seed: int
    ) -> tuple[TasteRow, MatrixView, list[ImageRow], Grades]:
        """Returns the images least like anything graded that are still typical of the taste, most novel first.

        Of more than MOST_FAR candidates a sample drawn by the seed is looked at.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = self._workspace.grades(connection, taste_id)
            positions = self.candidates(taste, view, criteria, grades)
            pool = self._pool(taste, view, positions, grades)
            pool = self._with_distances(pool, taste, view, positions, grades, seed)
            picks = acquisition.suggest(pool, None, len(grades.every), count, count, np.random.default_rng(0))
            novel = [int(positions[row]) for row, reason in picks if reason is SuggestionReason.NOVEL]
            return taste, view, image_records.read_rows(connection, taste_id, view.rows[novel].tolist()), grades

    def candidates(self, taste: TasteRow, view: MatrixView, criteria: Filter, grades: Grades) -> np.ndarray:
        """Returns the positions that may be shown: those with pixels a filter admits, ungraded if it names no grade."""
        column = self._workspace.grade_column(taste, view, grades)
        asked = criteria if criteria.grades else replace(criteria, grades=(0,))
        positions = image_records.admit(view, asked, column, with_pixels=True)
        if criteria.min_utility is None:
            return positions
        utility = self._scoring.predict_known(taste, view).utility
        return np.asarray(positions[utility[positions] >= criteria.min_utility])

    def _pool(
        self, taste: TasteRow, view: MatrixView, positions: np.ndarray, grades: Grades, *, population: bool = False
    ) -> Pool:
        """Returns the candidates, with what people in general like only where it is asked for."""
        embeddings = RowsAt(view.embeddings, positions)
        graded = view.embeddings[self._workspace.graded(taste, view, grades)[-acquisition.MOST_COVERED :]]
        scores = self._population(taste, view) if population else None
        liked = _liking(embeddings[np.arange(len(positions))] @ scores.weights) if scores is not None else None
        return Pool(embeddings, np.zeros(len(positions)), np.ones(len(positions), dtype=bool), graded, liked)

    def _with_distances(
        self, pool: Pool, taste: TasteRow, view: MatrixView, positions: np.ndarray, grades: Grades, seed: int
    ) -> Pool:
        """Returns the candidates with how far and how plausible they are; those beyond the sample are not plausible."""
        looked_at = far_sample(len(positions), seed)
        own = positions[looked_at]
        novelty, plausible = np.zeros(len(positions)), np.zeros(len(positions), dtype=bool)
        novelty[looked_at] = self.novelty(taste, view, own, grades)
        reference = self._workspace.reference(taste, view, BASE_UNITS)
        plausible[looked_at] = reference.index.distance(view.embeddings[own], own) <= reference.cut(TYPICAL_PERCENTILE)
        return replace(pool, novelty=novelty, plausible=plausible)

    def _population(self, taste: TasteRow, view: MatrixView) -> Population | None:
        """Returns what others like, without what the version that scores has dropped."""
        with self._workspace.reading() as connection:
            uses = tastes.read_version(connection, taste.id, taste.active).populations if taste.active else ()
        dropped = {use.digest for use in uses if not use.used}
        found = populations_for(self._workspace, taste, view.embeddings.shape[1])
        return joined([population for population in found if population.digest not in dropped])

    def novelty(self, taste: TasteRow, view: MatrixView, positions: np.ndarray, grades: Grades) -> np.ndarray:
        """Returns how far images (N,) of the view are from everything graded, or from all while nothing is: (N,)."""
        graded = self._workspace.graded(taste, view, grades)
        if not len(graded):
            return self._workspace.archive(taste, view).distance(view.embeddings[positions], positions)
        with self._lock:
            index = self._graded.setdefault((taste.uid, taste.embedder), GradedIndex())
        return index.distance(view, graded, view.embeddings[positions], GRADED_NEIGHBOURS)

    def working_head(self, taste: TasteRow, view: MatrixView, grades: Grades) -> Head | None:
        """Fits on grades and pairs of this moment, so that a batch learns from the one before without a new version."""
        with self._workspace.reading() as connection:
            moment = comparisons.moment(connection, taste.id)
        key = (taste.uid, taste.embedder, grades.moment, moment, view.generation, len(view))
        with self._lock:
            head = self._heads.get(key)
        if head is None:
            head = self._fitted_now(taste, view, grades)
            if head is not None:
                with self._lock:
                    self._heads[key] = head
        return head

    def _fitted_now(self, taste: TasteRow, view: MatrixView, grades: Grades) -> Head | None:
        """Fits on what was graded and compared; None while that is too little."""
        entries = list(seen(grades.training, view).values())
        if len(entries) <= WHOLE:
            entries.sort(key=lambda entry: entry.digest)
        graded = [entry.digest for entry in entries]
        with self._workspace.reading() as connection:
            compared = comparisons.learnable(connection, taste.id, view, graded, grades.panel)
        values = np.array([entry.grade for entry in entries], np.int64)
        if not enough(values, compared.said):
            return None
        pairs = learnt_pairs(compared.said, len(entries))
        places = view.digests.places([*graded, *compared.images] if len(pairs) else graded)
        population = self._population(taste, view)
        features = self._learnt_features(taste, view, population)
        return quick_fit(view.embeddings[places], values, view.embeddings, population, pairs, features)

    def _learnt_features(self, taste: TasteRow, view: MatrixView, population: Population | None) -> Features:
        """Returns the map of a taste's images, which stays the same from one grade to the next."""
        key = (taste.uid, taste.embedder, view.generation, len(view), population.digest if population else "")
        with self._lock:
            features = self._features.get(key)
        if features is None:
            features = learn_features(view.embeddings, population=population)
            with self._lock:
                self._features[key] = features
        return features

    def _past(self, connection: sqlalchemy.Connection, taste: str) -> tuple[int, set[str]]:
        """Returns the last entry of the log, and the images that were shown again before."""
        return labels.last_sequence(connection, taste), labels.repeated(connection, taste)

    def _repeats(
        self, last: int, repeated: set[str], grades: dict[str, LabelEntry], count: int, rng: np.random.Generator
    ) -> list[str]:
        """Draws graded images to show again, unmarked: never one that was repeated before or graded just now."""
        if not last:
            return []
        old = sorted(d for d, entry in grades.items() if d not in repeated and entry.sequence <= last - REPEAT_GAP)
        share = self._workspace.settings.repeat_share
        return [old[i] for i in acquisition.repeats(len(old), len(grades), count, share, rng)]


def _shown_again(view: MatrixView, digests: Sequence[str]) -> list[int]:
    """Returns where images are that can be shown again: those the view knows with pixels."""
    places = view.digests.places(digests)
    places = places[places >= 0]
    return [int(at) for at in places[~view.without_pixels[places]]]


def far_sample(count: int, seed: int) -> np.ndarray:
    """Returns which of `count` candidates are looked at for how far they are: all, or MOST_FAR drawn by the seed."""
    if count <= MOST_FAR:
        return np.arange(count)
    return np.sort(np.random.default_rng((seed % 2**63, count)).permutation(count)[:MOST_FAR])


def _liking(scores: np.ndarray) -> np.ndarray:
    """Joins population scores (N, S) of unlike scales into one, (N,)."""
    return np.asarray((scores / scores.std(axis=0).clip(1e-12)).mean(axis=1))
