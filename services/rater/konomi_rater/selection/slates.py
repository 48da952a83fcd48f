"""The slate of the long tail, and what slates have found: islands noted before they were shown, likes not seen yet.

A slate gives half its places to what is probably good, 35 % to what the rater doubts most, 15 % to the novel but
plausible of the regions seen least. An island is a region predicted below the median before
it was shown, of whose first ten shown images three or more were liked. The mass of likes not seen yet is Good and
Turing's f1 / n (Good 1953, eq. 9): regions liked exactly once over liked showings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from konomi_rater.selection.acquisition import Pick, SuggestionReason

DOUBTFUL, NOVEL = 0.35, 0.15
ALIKE = 0.97
"""Cosine above which two images of a slate would be one."""
FIRST_SHOWN, LIKED_ENOUGH = 10, 3
LIKED = 4
"""The grade from which an image is liked: SSR."""


@dataclass(frozen=True)
class SlatePool:
    """Images a slate may show.

    Attributes:
        embeddings: (N, D) unit rows.
        utility: (N,) what the rater expects, 1..5.
        std: (N,) its doubt.
        novelty: (N,) mean distance to everything graded.
        plausible: (N,) bool, typical enough to be worth a look.
        regions: (N,) region of each.
        visits: (R,) how often each region was shown.
    """

    embeddings: np.ndarray
    utility: np.ndarray
    std: np.ndarray
    novelty: np.ndarray
    plausible: np.ndarray
    regions: np.ndarray
    visits: np.ndarray


@dataclass(frozen=True)
class ShownImage:
    """A graded image some slate showed; `sequence` is its label's."""

    region: int
    digest: str
    grade: int
    sequence: int


@dataclass(frozen=True)
class Island:
    """An island, and the label that made it one."""

    region: int
    shown: int
    liked: tuple[str, ...]
    sequence: int


@dataclass(frozen=True)
class Tail:
    """What slates have found.

    Attributes:
        islands: in the order they were found.
        unseen_likes: Good-Turing estimate, 0..1; 1 while nothing was liked.
        liked_showings: what it rests on.
    """

    islands: tuple[Island, ...]
    unseen_likes: float
    liked_showings: int


def choose(pool: SlatePool, count: int) -> list[Pick]:
    """Returns the slate, best first, the row of the different last; no two of its images are almost the same."""
    novel, doubtful = round(NOVEL * count), round(DOUBTFUL * count)
    free = np.ones(len(pool.utility), dtype=bool)
    picks = _best(pool, pool.utility, count - novel - doubtful, free, SuggestionReason.EXPLOIT)
    picks += _best(pool, pool.std, doubtful, free, SuggestionReason.UNCERTAIN)
    return picks + _different(pool, novel, free)


def discover(shown: Sequence[ShownImage], below: Mapping[int, bool]) -> Tail:
    """Returns what the slates of a taste have found.

    Args:
        shown: graded images slates showed.
        below: region to whether it was predicted below the median before it was first shown.
    """
    by_region: dict[int, list[ShownImage]] = {}
    for image in sorted(shown, key=lambda image: image.sequence):
        by_region.setdefault(image.region, []).append(image)
    candidates = [_island(region, images[:FIRST_SHOWN]) for region, images in by_region.items() if below.get(region)]
    likes = [sum(image.grade >= LIKED for image in images) for images in by_region.values()]
    total, once = sum(likes), sum(count == 1 for count in likes)
    islands = sorted((island for island in candidates if island is not None), key=lambda island: island.sequence)
    return Tail(tuple(islands), once / total if total else 1.0, total)


def predictions(utility: np.ndarray, regions: np.ndarray) -> tuple[dict[int, float], float]:
    """Returns the mean utility (N,) of each region (N,) that holds an image, and the median over these regions."""
    means = {int(region): float(utility[regions == region].mean()) for region in np.unique(regions)}
    return means, float(np.median(list(means.values()))) if means else 0.0


def _island(region: int, first: Sequence[ShownImage]) -> Island | None:
    liked = [image for image in first if image.grade >= LIKED]
    if len(liked) < LIKED_ENOUGH:
        return None
    return Island(region, len(first), tuple(image.digest for image in liked), liked[LIKED_ENOUGH - 1].sequence)


def _best(pool: SlatePool, value: np.ndarray, count: int, free: np.ndarray, reason: SuggestionReason) -> list[Pick]:
    picks: list[Pick] = []
    for row in np.argsort(-value, kind="stable"):
        if len(picks) >= count:
            break
        if free[row] and pool.plausible[row]:
            _take(pool, int(row), free)
            picks.append((int(row), reason))
    return picks


def _different(pool: SlatePool, count: int, free: np.ndarray) -> list[Pick]:
    """Takes the most novel plausible image of the region shown least, one by one."""
    visits = pool.visits.copy()
    picks: list[Pick] = []
    while len(picks) < count and (free & pool.plausible).any():
        rows = np.flatnonzero(free & pool.plausible)
        row = int(rows[np.lexsort((-pool.novelty[rows], visits[pool.regions[rows]]))[0]])
        _take(pool, row, free)
        visits[pool.regions[row]] += 1
        picks.append((row, SuggestionReason.NOVEL))
    return picks


def _take(pool: SlatePool, row: int, free: np.ndarray) -> None:
    free[row] = False
    free[pool.embeddings @ pool.embeddings[row] > ALIKE] = False
