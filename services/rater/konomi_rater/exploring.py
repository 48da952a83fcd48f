"""The far and plausible, how each stands among its neighbours, and the best image of every region."""

from dataclasses import dataclass

import numpy as np

from konomi_rater import catalogue, labels, tastes
from konomi_rater.catalogue import Filter, ImageRow
from konomi_rater.elites import find_elites, learn_behaviour
from konomi_rater.memory import View
from konomi_rater.novelty import NEIGHBOURS
from konomi_rater.scoring import BASE_UNITS, KAPPA, Diversity, Score, Scoring
from konomi_rater.suggesting import Suggesting
from konomi_rater.tastes import TasteRow
from konomi_rater.workspace import Workspace

LEAST_BASE = 20
"""Base images below which all images say what the main directions are."""


@dataclass(frozen=True)
class Finding:
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


class Exploring:
    """The use case behind ExploreNovelty."""

    def __init__(self, workspace: Workspace, scoring: Scoring, suggesting: Suggesting) -> None:
        self._workspace, self._scoring, self._suggesting = workspace, scoring, suggesting

    def explore(
        self, taste_id: str, wanted: Filter, count: int, cells: int, seed: int
    ) -> tuple[list[Finding], EliteArchive | None]:
        """Returns the images least like anything graded that are still typical, and the elites where asked for.

        Args:
            taste_id: the taste.
            wanted: which images may be found.
            count: how many of the far.
            cells: cells of the elite archive; 0 for none.
            seed: of the cells.
        """
        taste, view, images = self._suggesting.explore(taste_id, wanted, count)
        positions = view.indices(np.array([image.row for image in images], np.int64))
        with self._workspace.reading() as connection:
            grades = labels.grades_in_force(connection, taste_id)
        novelty = self._suggesting.novelty(taste, view, positions, grades)
        ranks = self._local_ranks(taste, view, positions)
        scores = self._scoring.score_known(taste, view, positions) if taste.active and images else [None] * len(images)
        findings = [
            Finding(image, score, float(far), rank)
            for image, score, far, rank in zip(images, scores, novelty, ranks, strict=True)
        ]
        return findings, self._elites(taste_id, wanted, cells, seed) if cells and taste.active else None

    def _local_ranks(self, taste: TasteRow, view: View, positions: np.ndarray) -> list[float] | list[None]:
        """Returns the share of its own neighbours each image beats (Lehman & Stanley 2011, local competition)."""
        if not taste.active or not len(positions):
            return [None] * len(positions)
        said = self._scoring.predict_known(taste, view)
        lower = said.utility - KAPPA * said.std
        _, near = self._workspace.archive(taste, view).search(view.embeddings[positions], NEIGHBOURS + 1)
        ranks = []
        for row, own in zip(near, positions, strict=True):
            others = row[(row >= 0) & (row != own)][:NEIGHBOURS]
            ranks.append(float(np.mean(lower[others] < lower[own])) if len(others) else 1.0)
        return ranks

    def _elites(self, taste_id: str, wanted: Filter, cells: int, seed: int) -> EliteArchive:
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            rows = catalogue.select(connection, taste_id, wanted, int(view.rows[-1]) if len(view) else 0)
            positions = view.indices(rows)
            said = self._scoring.predict_known(taste, view)
            lower = (said.utility - KAPPA * said.std)[positions]
            if wanted.min_utility is not None:
                kept = said.utility[positions] >= wanted.min_utility
                positions, lower = positions[kept], lower[kept]
            base = view.base(BASE_UNITS)
            measured = learn_behaviour(view.embeddings[base] if len(base) >= LEAST_BASE else view.embeddings)
            found = find_elites(measured(view.embeddings[positions]), lower, cells, seed)
            chosen = positions[found.rows]
            images = catalogue.read_rows(connection, taste_id, view.rows[chosen].tolist())
        scores = self._scoring.score_known(taste, view, chosen)
        elites = list(zip(found.cells.tolist(), images, scores, strict=True))
        spread = self._scoring.diversity(taste, view, view.embeddings[chosen], chosen)
        return EliteArchive(elites, found.count, found.coverage, found.qd_score, spread)
