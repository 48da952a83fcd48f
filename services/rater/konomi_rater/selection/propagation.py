"""What a set that grows by itself may take in: liked as its least member, near its originals and no copy, typical, new.

A candidate passes when its lower bound reaches the lowest of the members (see `least_bound`),
when its cosine to the nearest original lies between the fifth percentile among the originals (or .2 below the
near-copy cut, if that is lower) and that cut, and when it is typical. Of those that pass the farthest from the set
come first, a duplicate of a member never, and the set at most doubles.
"""

from dataclasses import dataclass, field

import numpy as np

from konomi_rater.selection.selection import RejectionReason

NEAR_COPY = 0.95
"""Cosine to an original above which a candidate is a copy of it."""
DUPLICATE = 0.97
"""Cosine to a member above which a candidate adds nothing."""
PERCENTILE = 5
"""Percentile of the cosines among the originals below which a candidate has drifted away."""
WIDTH = 0.2
"""Least width of the band: some pictures are so like their own augmentations that only copies would lie in theirs."""
QUARTER = 25
"""Percentile of the bounds of what the owner graded SSR or better that is always enough."""
LEAST_LIKED = 4
"""Images graded SSR or better below which that percentile says nothing."""
ZOOMS = (1.05, 1.4)
"""Least and largest magnification of an augmentation, the upper half of Custom Diffusion's 0.4 to 1.4 (2212.04488,
section 3.2): the lower half shows an image on grey, which no embedder was made for."""


@dataclass(frozen=True)
class Band:
    """Cosines to the nearest original that are neither a copy nor a stranger.

    Attributes:
        low: below it a candidate has drifted.
        high: above it a candidate is a near-copy.
    """

    low: float
    high: float = NEAR_COPY


@dataclass(frozen=True)
class GrowthGate:
    """What candidates are held against.

    Attributes:
        originals: (S, D) unit rows of the images the set began with.
        members: (M, D) unit rows of the set as it is, originals among them.
        least: lower bound a candidate has to reach.
        allowed: band of the originals.
        duplicate_cosine: cosine to a member above which a candidate is a duplicate.
        room: how many may be taken in; never more than M.
    """

    originals: np.ndarray
    members: np.ndarray
    least: float
    allowed: Band
    duplicate_cosine: float = DUPLICATE
    room: int = 10_000


@dataclass(frozen=True)
class GrowthOutcome:
    """The outcome of N candidates.

    Attributes:
        taken: rows taken in, farthest from the set first.
        rejected: row to reason, all others.
        cosines: (N,) cosine to the nearest original.
        passed: how many passed the gate, those there was no room for among them.
        liked: how many reached the lowest bound: what the rater's opinion alone lets through.
        allowed: the band.
    """

    taken: list[int]
    rejected: dict[int, RejectionReason]
    cosines: np.ndarray
    passed: int
    liked: int
    allowed: Band
    duplicate_of: dict[int, int] = field(default_factory=dict)
    """Row to the member, by its place, that it duplicates."""

    @property
    def mean_cosine(self) -> float:
        """Mean cosine of all candidates to their nearest original, 0 where there are none."""
        return float(self.cosines.mean()) if len(self.cosines) else 0.0

    @property
    def standard_error(self) -> float:
        """Standard error of that mean, 0 below two candidates."""
        count = len(self.cosines)
        return float(self.cosines.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0


def band(cosines: np.ndarray, high: float = NEAR_COPY) -> Band:
    """Returns the band of a set of originals.

    Args:
        cosines: (C,) among the originals, or of a single one to its augmentations.
        high: the near-copy cut.
    """
    low = float(np.percentile(cosines, PERCENTILE)) if len(cosines) else 0.0
    return Band(max(0.0, min(low, high - WIDTH)), high)


def among(originals: np.ndarray) -> np.ndarray:
    """Returns the cosine of every pair of unit rows (S, D), each pair once."""
    return np.asarray((originals @ originals.T)[np.triu_indices(len(originals), 1)])


def least_bound(members: np.ndarray, liked: np.ndarray) -> float:
    """Returns the lower bound a candidate has to reach: the lowest of the members, or what the owner's likes are worth.

    A graded image's bound knows its own grade: a single original graded UR has one that hardly any image nobody graded
    can reach. So the lower quartile of what the owner graded SSR or better is enough: a member need be no better.

    Args:
        members: (M,) lower bounds of the set.
        liked: (L,) lower bounds of the images the owner graded SSR or better.
    """
    least = float(members.min())
    return least if len(liked) < LEAST_LIKED else min(least, float(np.percentile(liked, QUARTER)))


def augmentations(pixels: np.ndarray, count: int = 32) -> list[np.ndarray]:
    """Returns crops of an image, half of them mirrored: what is still taken for the same picture.

    Args:
        pixels: (H, W, 3) uint8.
        count: how many; magnifications are spread evenly over ZOOMS, places over the image by the golden ratio.
    """
    height, width = pixels.shape[:2]
    crops = []
    for index in range(count):
        zoom = ZOOMS[0] + (ZOOMS[1] - ZOOMS[0]) * (index + 0.5) / count
        high, wide = max(1, round(height / zoom)), max(1, round(width / zoom))
        down, across = (index * 0.6180339887) % 1.0, (index * 0.7548776662) % 1.0
        top, left = round(down * (height - high)), round(across * (width - wide))
        crop = pixels[top : top + high, left : left + wide]
        crops.append(np.ascontiguousarray(crop[:, ::-1] if index % 2 else crop))
    return crops


def grow(
    embeddings: np.ndarray, bounds: np.ndarray, refused: dict[int, RejectionReason], gate: GrowthGate
) -> GrowthOutcome:
    """Returns which candidates the set takes in; every candidate is taken or has exactly one reason.

    Args:
        embeddings: (N, D) unit rows of the candidates.
        bounds: (N,) their lower bounds.
        refused: rows refused before the gate, for example untypical ones, with their reason.
        gate: what they are held against.
    """
    total = len(embeddings)
    cosines = (embeddings @ gate.originals.T).max(axis=1) if total else np.zeros(0)
    liked = bounds >= gate.least - 1e-9
    rejected: dict[int, RejectionReason] = {}
    for row in range(total):
        if cosines[row] > gate.allowed.high:
            rejected[row] = RejectionReason.NEAR_COPY
        elif cosines[row] < gate.allowed.low:
            rejected[row] = RejectionReason.DRIFTED
        elif row in refused:
            rejected[row] = refused[row]
        elif not liked[row]:
            rejected[row] = RejectionReason.LOWER_BOUND
    passed = np.array([row for row in range(total) if row not in rejected], dtype=np.int64)
    taken: list[int] = []
    for place, nearness in farthest_first(embeddings[passed], gate.members):
        row = int(passed[place])
        if nearness > gate.duplicate_cosine:
            rejected[row] = RejectionReason.DUPLICATE
        elif len(taken) >= min(gate.room, len(gate.members)):
            rejected[row] = RejectionReason.SURPLUS
        else:
            taken.append(row)
    return GrowthOutcome(taken, rejected, cosines, len(passed), int(liked.sum()), gate.allowed)


def farthest_first(embeddings: np.ndarray, members: np.ndarray) -> list[tuple[int, float]]:
    """Returns all rows, each the farthest from the set and from those before it, with that cosine (Gonzalez 1985).

    Args:
        embeddings: (N, D) unit rows.
        members: (M, D) unit rows of the set.
    """
    left = np.ones(len(embeddings), dtype=bool)
    nearest = (embeddings @ members.T).max(axis=1) if len(embeddings) else np.zeros(0)
    order = []
    for _ in range(len(embeddings)):
        row = int(np.argmin(np.where(left, nearest, np.inf)))
        left[row] = False
        order.append((row, float(nearest[row])))
        nearest = np.maximum(nearest, embeddings @ embeddings[row])
    return order
