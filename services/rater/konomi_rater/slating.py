"""Draws slates of the long tail, notes what is predicted of a region before it shows, says what they found."""

from dataclasses import dataclass

import numpy as np

from konomi_rater import catalogue, panel, slate_record, slates, tastes
from konomi_rater.acquisition import Reason
from konomi_rater.catalogue import Filter, ImageRow
from konomi_rater.elites import learn_behaviour, regions_of
from konomi_rater.labels import LabelEntry
from konomi_rater.memory import View
from konomi_rater.preference import Head
from konomi_rater.scoring import BASE_UNITS, TYPICAL_PERCENTILE
from konomi_rater.slate_record import Bet, SlateMap
from konomi_rater.slates import SlatePool, Tail
from konomi_rater.suggesting import Suggesting
from konomi_rater.tastes import TasteRow
from konomi_rater.workspace import Workspace

REGIONS = 64
SLATE = 40
"""Images of a slate where nobody says how many."""
LEAST_BASE = 20
"""Base images below which all images say what the main directions are."""


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


class Slating:
    """The use case behind slates of SuggestImages and the discovery of ExploreNovelty."""

    def __init__(self, workspace: Workspace, suggesting: Suggesting) -> None:
        self._workspace, self._suggesting = workspace, suggesting

    def draw(self, taste_id: str, wanted: Filter, count: int, seed: int) -> list[tuple[ImageRow, Reason, int]]:
        """Returns a slate, each image with its reason and region; empty while too little is graded to predict.

        Args:
            taste_id: the taste.
            wanted: which images may be shown; ungraded ones where it names no grade.
            count: how many; 0 for the usual number.
            seed: of the regions, where this is the first slate.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            training, aside = panel.split(connection, taste_id)
            known = slate_record.read_map(connection, taste_id, taste.embedder)
            last, seen = (
                slate_record.last_label(connection, taste_id),
                slate_record.visits(connection, taste_id, taste.embedder),
            )
            rows = self._suggesting.candidates(connection, taste, wanted, {**training, **aside})
        head = self._suggesting.working_head(taste, view, training)
        if head is None or not len(rows):
            return []
        divided = known or SlateMap(REGIONS, seed % 2**31, len(view.base(BASE_UNITS)), last)
        regions = self._regions(view, divided)
        positions = view.indices(rows)
        pool = self._pool(taste, view, positions, head, {**training, **aside}, regions, seen)
        picks = slates.choose(pool, count or SLATE)
        means, median = slates.predictions(
            head.predict(view.embeddings, view.made_at(np.arange(len(view)))).utility, regions
        )
        shown = {view.digests[positions[row]]: int(pool.regions[row]) for row, _ in picks}
        bets = [Bet(region, means[region], median) for region in sorted(set(shown.values()))]
        with self._workspace.writing() as connection:
            now = self._workspace.clock()
            slate_record.keep_map(connection, taste_id, taste.embedder, divided, now)
            slate_record.keep_slate(connection, taste_id, taste.embedder, bets, shown, now)
        with self._workspace.reading() as connection:
            images = catalogue.read_rows(connection, taste_id, [int(rows[row]) for row, _ in picks])
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

    def _regions(self, view: View, divided: SlateMap) -> np.ndarray:
        """Returns the region of every image of the view, (N,)."""
        base = view.base(BASE_UNITS)[: divided.base_count]
        measured = learn_behaviour(view.embeddings[base] if len(base) >= LEAST_BASE else view.embeddings)
        return regions_of(measured(view.embeddings), divided.regions, divided.seed)

    def _pool(
        self,
        taste: TasteRow,
        view: View,
        positions: np.ndarray,
        head: Head,
        grades: dict[str, LabelEntry],
        regions: np.ndarray,
        seen: dict[int, int],
    ) -> SlatePool:
        rows = view.embeddings[positions]
        said = head.predict(rows, view.made_at(positions))
        reference = self._workspace.reference(taste, view, BASE_UNITS)
        visits = np.zeros(int(regions.max(initial=0)) + 1, np.int64)
        for region, count in seen.items():
            if region < len(visits):
                visits[region] = count
        return SlatePool(
            embeddings=rows,
            utility=said.utility,
            std=said.std,
            novelty=self._suggesting.novelty(taste, view, positions, grades),
            plausible=reference.index.distance(rows, positions) <= reference.cut(TYPICAL_PERCENTILE),
            regions=regions[positions],
            visits=visits,
        )
