"""What is looked for among a taste's images: the nearest to an image or to words, and what lies outside the known.

The latter are novel images, the best image of every region, and the slates of the long tail.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError
from konomi_rater.embedding.requests import Caller
from konomi_rater.measures.elites import Behaviour, find_elites, learn_behaviour, regions_of
from konomi_rater.measures.novelty import NEIGHBOURS
from konomi_rater.preference.head import Head
from konomi_rater.selection import slates
from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.selection.slates import SlatePool, Tail
from konomi_rater.storage import image_records, labels, tastes
from konomi_rater.storage import slates as slate_record
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.image_records import Filter, ImageRow
from konomi_rater.storage.in_force import Grades
from konomi_rater.storage.slates import Bet, SlateMap
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.images import Browsing
from konomi_rater.usecases.scoring import KAPPA, TYPICAL_PERCENTILE, Diversity, Score, Scoring
from konomi_rater.usecases.suggestion import Suggesting, far_sample
from konomi_rater.usecases.vectors import ImageInput
from konomi_rater.usecases.workspace import Workspace

MOST_RANKED = 10_000
"""Nearest images that the pages of a search can reach."""


@dataclass(frozen=True)
class Nearest:
    """Which of the nearest images are wanted: `count` after the first `skip`, with their scores where asked for."""

    count: int
    skip: int = 0
    with_scores: bool = False


@dataclass(frozen=True)
class SearchHit:
    """An image found, its score where it was asked for and a rater is fitted, its cosine similarity -1..1."""

    image: ImageRow
    score: Score | None
    similarity: float


@dataclass(frozen=True)
class Found:
    """A page of the nearest images, nearest first, and how many images all pages together reach."""

    hits: Sequence[SearchHit]
    total: int


class Searching:
    """The use case behind SearchImages."""

    def __init__(self, workspace: Workspace, browsing: Browsing) -> None:
        self._workspace, self._browsing = workspace, browsing

    def search(self, taste_id: str, query: ImageInput | str, page: Nearest, caller: Caller) -> Found:
        """Returns a page of the images nearest to an image or a text, with their cosine similarity.

        An image that is asked with is embedded for this search alone: it is neither stored nor added to the taste.

        Raises:
            FailedPrecondition: the taste has no images yet (NO_IMAGES), or its embedder's files are missing.
            InvalidArgument: the image cannot be read, the text is empty (TEXT_MISSING) or longer than the text tower
                reads (TEXT_TOO_LONG), or the embedder has none (NO_TEXT_TOWER).
            NotFound: there is no such taste, or no image of that digest.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
        if not len(view):
            raise FailedPrecondition(
                f"expected a taste with images to search among, but tastes/{taste_id} has none; add some first",
                reason="NO_IMAGES",
            )
        vector = self._vector(taste, view, query, caller)
        most = min(page.skip + page.count, MOST_RANKED)
        similarities, positions = self._workspace.archive(taste, view).search(vector, most)
        inside = positions[0] >= 0
        nearest, cosines = positions[0][inside], similarities[0][inside][page.skip :]
        ended = len(nearest) < min(most, len(view))  # an approximate index looks into the nearest cells alone
        with self._workspace.reading() as connection:
            images = image_records.read_rows(connection, taste_id, view.rows[nearest[page.skip :]].tolist())
        scores = self._browsing.scores(taste, view, images) if page.with_scores else [None] * len(images)
        hits = [SearchHit(*one) for one in zip(images, scores, cosines.tolist(), strict=True)]
        return Found(hits, len(nearest) if ended else min(len(view), MOST_RANKED))

    def _vector(self, taste: TasteRow, view: MatrixView, query: ImageInput | str, caller: Caller) -> np.ndarray:
        """Returns the unit vector (1, D) of what is searched with."""
        if isinstance(query, str):
            if not query.strip():
                raise InvalidArgument("expected words to search for, found none", reason="TEXT_MISSING", field="text")
            return self._workspace.embedder(taste).embed_texts([query])
        vectors = self._workspace.vectors
        result = vectors.collect(vectors.request(taste.embedder, view, [query], caller))[0]
        if isinstance(result, KonomiError):
            raise result
        return result[None]


LEAST_BASE = 20
"""Base images below which all images say what the main directions are."""


@dataclass(frozen=True)
class NoveltyFinding:
    """One image; `score` and `local_rank` are None before the first fit."""

    image: ImageRow
    score: Score | None
    novelty: float
    local_rank: float | None


@dataclass(frozen=True)
class EliteArchive:
    """The best image of each filled cell, with how much of the space they cover."""

    elites: list[tuple[int, ImageRow, Score]]
    cells: int
    coverage: float
    qd_score: float
    diversity: Diversity


def _directions(view: MatrixView, base: np.ndarray) -> np.ndarray:
    """Returns the unit rows whose spread says what the main directions are: the base model's, or all while few."""
    return np.asarray(view.embeddings[base] if len(base) >= LEAST_BASE else view.embeddings)


class Exploring:
    """The use case behind ExploreNovelty."""

    def __init__(self, workspace: Workspace, scoring: Scoring, suggesting: Suggesting) -> None:
        self._workspace, self._scoring, self._suggesting = workspace, scoring, suggesting

    def explore(
        self, taste_id: str, criteria: Filter, count: int, cells: int, seed: int
    ) -> tuple[list[NoveltyFinding], EliteArchive | None]:
        """Returns the images least like anything graded that are still typical, and the elites where asked for.

        Args:
            taste_id: the taste.
            criteria: which images may be found.
            count: how many of the far.
            cells: cells of the elite archive; 0 for none.
            seed: of the cells, and of the candidates looked at where there are too many.
        """
        taste, view, images, grades = self._suggesting.explore(taste_id, criteria, count, seed)
        positions = view.indices(np.array([image.row for image in images], np.int64))
        novelty = self._suggesting.novelty(taste, view, positions, grades)
        ranks = self._local_ranks(taste, view, positions)
        scores = self._scoring.score_known(taste, view, positions) if taste.active and images else [None] * len(images)
        findings = [
            NoveltyFinding(image, score, float(far), rank)
            for image, score, far, rank in zip(images, scores, novelty, ranks, strict=True)
        ]
        return findings, self._elites(taste_id, criteria, cells, seed) if cells and taste.active else None

    def _local_ranks(self, taste: TasteRow, view: MatrixView, positions: np.ndarray) -> list[float] | list[None]:
        """Returns the share of its own neighbours each image beats (Lehman & Stanley 2011, local competition)."""
        if not taste.active or not len(positions):
            return [None] * len(positions)
        prediction = self._scoring.predict_known(taste, view)
        lower = prediction.utility - KAPPA * prediction.std
        _, near = self._workspace.archive(taste, view).search(view.embeddings[positions], NEIGHBOURS + 1)
        ranks = []
        for row, own in zip(near, positions, strict=True):
            others = row[(row >= 0) & (row != own)][:NEIGHBOURS]
            ranks.append(float(np.mean(lower[others] < lower[own])) if len(others) else 1.0)
        return ranks

    def _elites(self, taste_id: str, criteria: Filter, cells: int, seed: int) -> EliteArchive:
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = self._workspace.grade_column(taste, view, self._workspace.grades(connection, taste_id))
            positions = image_records.admit(view, criteria, grades, with_pixels=True)
            prediction = self._scoring.predict_known(taste, view)
            lower = (prediction.utility - KAPPA * prediction.std)[positions]
            if criteria.min_utility is not None:
                kept = prediction.utility[positions] >= criteria.min_utility
                positions, lower = positions[kept], lower[kept]
            behaviour = learn_behaviour(_directions(view, view.base(BASE_UNITS)))
            best = find_elites(behaviour(view.embeddings[positions]), lower, cells, seed)
            chosen = positions[best.rows]
            images = image_records.read_rows(connection, taste_id, view.rows[chosen].tolist())
        scores = self._scoring.score_known(taste, view, chosen)
        elites = list(zip(best.cells.tolist(), images, scores, strict=True))
        spread = self._scoring.diversity(taste, view, view.embeddings[chosen], chosen)
        return EliteArchive(elites, best.count, best.coverage, best.qd_score, spread)


REGIONS = 64
KEPT = 16
"""Tastes whose main directions are kept at most."""
SLATE = 40
"""Images of a slate where nobody says how many."""


@dataclass(frozen=True)
class Discovery:
    """What the slates of a taste have found.

    Attributes:
        tail: islands and likes not seen yet.
        bets: region to what was predicted of it.
        regions: how many in all.
        labels_since_island: labels since the first slate, or since the last island.
    """

    tail: Tail
    bets: dict[int, Bet]
    regions: int
    labels_since_island: int


@dataclass(frozen=True)
class _Space:
    """How a taste's space is divided, and how often each region was shown."""

    behaviour: Behaviour
    divided: SlateMap
    seen: dict[int, int]

    def regions(self, embeddings: np.ndarray) -> np.ndarray:
        """Returns the region of unit rows (N, D): (N,)."""
        return regions_of(self.behaviour(embeddings), self.divided.regions, self.divided.seed)


class Slating:
    """The use case behind slates of SuggestImages and the discovery of ExploreNovelty."""

    def __init__(self, workspace: Workspace, suggesting: Suggesting) -> None:
        self._workspace, self._suggesting = workspace, suggesting
        self._lock = threading.Lock()
        self._behaviours: LRUCache[tuple[str, str, int, int, int], Behaviour] = LRUCache(KEPT)

    def draw(
        self, taste_id: str, criteria: Filter, count: int, seed: int
    ) -> list[tuple[ImageRow, SuggestionReason, int]]:
        """Returns a slate, each image with its reason and region; empty while too little is graded to predict.

        Of more than MOST_FAR candidates a sample drawn by the seed is looked at, and of the others the regions' means.

        Args:
            taste_id: the taste.
            criteria: which images may be shown; ungraded ones where it names no grade.
            count: how many; 0 for the usual number.
            seed: of the regions, where this is the first slate.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = self._workspace.grades(connection, taste_id)
            stored_map = slate_record.read_map(connection, taste_id, taste.embedder)
            last = labels.last_sequence(connection, taste_id)
            seen = slate_record.visits(connection, taste_id, taste.embedder)
        positions = self._suggesting.candidates(taste, view, criteria, grades)
        head = self._suggesting.working_head(taste, view, grades)
        if head is None or not len(positions):
            return []
        divided = stored_map or SlateMap(REGIONS, seed % 2**31, len(view.base(BASE_UNITS)), last)
        positions = positions[far_sample(len(positions), seed)]
        behaviour = self._behaviour(taste, view, divided.base_count)
        pool = self._pool(taste, view, positions, head, grades, _Space(behaviour, divided, seen))
        picks = slates.choose(pool, count or SLATE)
        means, median = self._expected(view, positions, head, _Space(behaviour, divided, seen))
        shown = {view.digests[positions[row]]: int(pool.regions[row]) for row, _ in picks}
        bets = [Bet(region, means[region], median) for region in sorted(set(shown.values()))]
        with self._workspace.writing() as connection:
            now = self._workspace.clock()
            slate_record.keep_map(connection, taste_id, taste.embedder, divided, now)
            slate_record.keep_slate(connection, taste_id, taste.embedder, bets, shown, now)
        with self._workspace.reading() as connection:
            picked = view.rows[positions[[row for row, _ in picks]]]
            images = image_records.read_rows(connection, taste_id, picked.tolist())
        return [(image, reason, int(pool.regions[row])) for image, (row, reason) in zip(images, picks, strict=True)]

    def discovery(self, taste_id: str) -> Discovery | None:
        """Returns what slates have found; None before the first."""
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            divided = slate_record.read_map(connection, taste_id, taste.embedder)
            if divided is None:
                return None
            bets = slate_record.bets(connection, taste_id, taste.embedder)
            below = {region: bet.predicted < bet.median for region, bet in bets.items()}
            tail = slates.discover(slate_record.shown(connection, taste_id, taste.embedder), below)
            since = max([divided.after, *(island.sequence for island in tail.islands)])
            count = slate_record.labels_after(connection, taste_id, since)
        return Discovery(tail, bets, divided.regions, count)

    def regions_shown(self, taste: TasteRow, view: MatrixView, divided: SlateMap) -> Callable[[np.ndarray], np.ndarray]:
        """Returns what tells the region of unit rows (N, D), (N,), as the slates of this division do."""
        return _Space(self._behaviour(taste, view, divided.base_count), divided, {}).regions

    def _behaviour(self, taste: TasteRow, view: MatrixView, base_count: int) -> Behaviour:
        """Returns the main directions, kept: the same base images say the same for ever."""
        base = view.base(BASE_UNITS)[:base_count]
        key = (taste.uid, taste.embedder, view.generation, base_count, 0 if len(base) >= LEAST_BASE else len(view))
        with self._lock:
            behaviour = self._behaviours.get(key)
        if behaviour is None:
            behaviour = learn_behaviour(_directions(view, base))
            with self._lock:
                self._behaviours[key] = behaviour
        return behaviour

    def _expected(
        self, view: MatrixView, positions: np.ndarray, head: Head, space: "_Space"
    ) -> tuple[dict[int, float], float]:
        """Returns the mean utility of each region and the median over them, over MOST_FAR images and the candidates."""
        among = np.union1d(far_sample(len(view), space.divided.seed), positions)
        utility = head.predict(view.embeddings[among], view.provenances_at(among)).utility
        return slates.predictions(utility, space.regions(view.embeddings[among]))

    def _pool(
        self,
        taste: TasteRow,
        view: MatrixView,
        positions: np.ndarray,
        head: Head,
        grades: Grades,
        space: "_Space",
    ) -> SlatePool:
        rows = view.embeddings[positions]
        regions, seen = space.regions(rows), space.seen
        prediction = head.predict(rows, view.provenances_at(positions))
        reference = self._workspace.reference(taste, view, BASE_UNITS)
        visits = np.zeros(space.divided.regions, np.int64)
        for region, count in seen.items():
            if region < len(visits):
                visits[region] = count
        return SlatePool(
            embeddings=rows,
            utility=prediction.utility,
            std=prediction.std,
            novelty=self._suggesting.novelty(taste, view, positions, grades),
            plausible=reference.index.distance(rows, positions) <= reference.cut(TYPICAL_PERCENTILE),
            regions=regions,
            visits=visits,
        )
