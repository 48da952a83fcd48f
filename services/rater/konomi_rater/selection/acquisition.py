"""What to label next: a typical start, then of ten 8 that settle most doubt about what is liked, 2 at random.

What settles most doubt is the image whose grade would lower the posterior variance most, summed over the pool by the
squared chance of SSR or better (integrated variance reduction, Cohn 1996; targeted as by Picheny et al. 2010); each is
picked with the posterior conditioned on those picked before. So it lies between what is liked already and what is not
known yet: Thompson draws and the greatest mean teach the rater less, the greatest variance, an outlier's, less still
(LOG.md). The random two alone may feed calibration: what was sought out is no sample of anything.
"""

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from scipy.special import ndtr

from konomi_rater.measures.cells import k_means
from konomi_rater.preference.head import Head

MOST_ROWS = 10_000
"""Images that are clustered; a larger pool is thinned out evenly."""
MOST_COVERED = 200
"""Graded images that are looked at; of more, the last."""
NEIGHBOURS = 20


def typical(embeddings: "np.ndarray | RowsAt", covered: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the rows of `count` typical images, of the largest region without a graded one first.

    Pool and graded images are clustered together into as many regions as there will be graded images; of each region
    the image with the smallest mean distance to its neighbours there is taken.

    Args:
        embeddings: (N, D) the pool, any scale.
        covered: (L, D) the graded images, in the order they were graded.
        count: how many; cut to N.
        seed: of the clustering.
    """
    if count >= len(embeddings) or not count:
        return np.arange(min(count, len(embeddings)))
    covered = covered[-MOST_COVERED:]
    stride = max(1, min(len(embeddings) // MOST_ROWS, len(embeddings) // count))
    rows = np.arange(0, len(embeddings), stride)
    thinned = embeddings[rows]
    points = np.concatenate([thinned, covered.reshape(len(covered), thinned.shape[1])])
    regions = min(count + len(covered), len(points))
    members = k_means(points, regions, starts=1, seed=seed).labels_
    graded = np.bincount(members[len(rows) :], minlength=regions)
    members = members[: len(rows)]
    sizes = np.bincount(members, minlength=regions)
    order = [region for region in np.lexsort((-sizes, graded)) if sizes[region]]
    chosen = [rows[_densest(thinned, np.flatnonzero(members == region))] for region in order[:count]]
    return np.array(chosen, dtype=np.int64)


def _densest(embeddings: np.ndarray, rows: np.ndarray) -> int:
    """Returns which of `rows` lies nearest to its neighbours among them."""
    part = embeddings[rows].astype(np.float64)
    norms = np.einsum("ij,ij->i", part, part)
    distances = np.sqrt((norms[:, None] + norms[None] - 2 * part @ part.T).clip(0.0))
    near = np.sort(distances, axis=1)[:, 1 : NEIGHBOURS + 1]
    return int(rows[np.argmin(near.mean(axis=1))]) if near.size else int(rows[0])


TYPICAL_START = 15
MOST_CANDIDATES = 2000
"""Candidates whose joint posterior is held: n^2 memory, 32 MB; a larger pool is sampled."""
MOST_CONDITIONED = 64
"""Picks of one call after which the posterior stays: each costs n^2 work, and a longer list is chosen anew soon."""
RUNS_OUT = 0.25
"""Labelled share of a taste from which on random picks become more, until at twice the share all are: where most is
labelled already, what nobody will like was left out longest, and a rater that never saw it orders worse."""
RANDOM_EVERY = 5
"""Every fifth suggestion after the start is drawn at random; short batches go on where the last one stopped."""
REPEATS_FROM = 20
"""Labels from which on there are hidden repeats."""
FEW_REPEATS_FROM = 200
"""Labels from which on hidden repeats are half as frequent."""


class SuggestionReason(IntEnum):
    """Why an image is suggested; the numbers are the contract's."""

    UNSPECIFIED = 0
    EXPLOIT = 1
    UNCERTAIN = 2
    NOVEL = 3
    REPEAT_CHECK = 4
    RANDOM = 5
    TYPICAL = 6
    AUDIT = 7
    AUDIT_NOVEL = 8


@dataclass(frozen=True)
class RowsAt:
    """Rows of a matrix (M, D) at positions (N,), taken when they are asked for: a pool is as large as a library."""

    matrix: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self.matrix[self.positions[rows]])


def _among(embeddings: np.ndarray | RowsAt, rows: np.ndarray) -> np.ndarray | RowsAt:
    """Returns the rows at (K,) of these, taken later where these are."""
    return RowsAt(embeddings.matrix, embeddings.positions[rows]) if isinstance(embeddings, RowsAt) else embeddings[rows]


@dataclass(frozen=True)
class Pool:
    """Images that may be suggested.

    Attributes:
        embeddings: (N, D) unit rows.
        novelty: (N,) mean distance to everything graded.
        plausible: (N,) bool, typical enough to be worth a look.
        graded: (L, D) unit rows of what was graded so far, in that order; a start goes where none of them is.
        population: (N,) what people in general like, larger is better; None where nothing is known of it.
    """

    embeddings: np.ndarray | RowsAt
    novelty: np.ndarray
    plausible: np.ndarray
    graded: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    population: np.ndarray | None = None


Pick = tuple[int, SuggestionReason]


def suggest(
    pool: Pool, head: Head | None, labelled: int, count: int, novel: int, rng: np.random.Generator
) -> list[Pick]:
    """Chooses up to `count` rows of the pool, each with its reason, in the order to show them.

    Args:
        pool: the candidates.
        head: the model so far; None before there is one.
        labelled: images graded so far.
        count: how many.
        novel: how many of them shall be novel.
        rng: source of randomness.
    """
    free = np.ones(len(pool.embeddings), dtype=bool)
    picks = _novel(pool, min(novel, count), free)
    remaining = count - len(picks)
    start = remaining if head is None else min(remaining, max(0, TYPICAL_START - labelled))
    picks += _start(pool, start, free, rng)
    if head is not None and len(picks) < count:
        picks += _mixed(pool, head, labelled, count - len(picks), free, rng)
    return picks


def repeats(old: int, labelled: int, count: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draws which graded images are shown again, unmarked, to measure a person against herself.

    Args:
        old: images that may be: graded a while ago and never shown again so far.
        labelled: images graded so far; none is repeated among the first.
        count: images shown in all.
        share: share of repeats from REPEATS_FROM to 200 labels; half of it later.
        rng: source of randomness.

    Returns:
        Numbers below `old`.
    """
    if labelled < REPEATS_FROM:
        return np.zeros(0, np.int64)
    due = count * share / (1 if labelled < FEW_REPEATS_FROM else 2)
    return rng.permutation(old)[: int(due + rng.random())]


def _novel(pool: Pool, count: int, free: np.ndarray) -> list[Pick]:
    """Takes the farthest plausible images one by one, each also far from those just taken."""
    rows = np.flatnonzero(pool.plausible & free) if count else np.zeros(0, np.int64)
    embeddings, distance = pool.embeddings[rows], pool.novelty[rows]
    picks: list[Pick] = []
    while len(picks) < min(count, len(rows)):
        at = int(np.argmax(distance))
        free[rows[at]] = False
        picks.append((int(rows[at]), SuggestionReason.NOVEL))
        distance = np.minimum(distance, 1.0 - embeddings @ embeddings[at])
        distance[at] = -np.inf
    return picks


def _start(pool: Pool, count: int, free: np.ndarray, rng: np.random.Generator) -> list[Pick]:
    """Takes typical images, half of them from the population's top where one is known; past a start, a fifth random."""
    seed, drawn = int(rng.integers(2**31)), max(0, count - TYPICAL_START) // 5
    liked = (count - drawn) // 2 if pool.population is not None else 0
    picks: list[Pick] = []
    if pool.population is not None:
        order = np.argsort(-np.where(free, pool.population, -np.inf), kind="stable")
        picks += [(int(row), SuggestionReason.EXPLOIT) for row in order[: min(liked, int(free.sum()))]]
        free[[row for row, _ in picks]] = False
    rows = np.flatnonzero(free)
    chosen = rows[typical(_among(pool.embeddings, rows), pool.graded, count - drawn - liked, seed)]
    free[chosen] = False
    random = rng.permutation(np.flatnonzero(free))[:drawn]
    free[random] = False
    return (
        picks
        + [(int(row), SuggestionReason.TYPICAL) for row in chosen]
        + [(int(row), SuggestionReason.RANDOM) for row in random]
    )


def _mixed(pool: Pool, head: Head, labelled: int, count: int, free: np.ndarray, rng: np.random.Generator) -> list[Pick]:
    rows = rng.permutation(np.flatnonzero(free))[:MOST_CANDIDATES]
    features = head.features(pool.embeddings[rows])
    mean, covariance = head.process.mean(features), head.process.covariance(features)
    noise = head.process.kernel.noise
    liked = ndtr((mean - head.scale.cuts[-2]) / np.sqrt(np.diag(covariance).clip(1e-9))) ** 2
    gain = _settled(covariance, liked, noise)
    open_ = np.ones(len(rows), dtype=bool)
    picks: list[Pick] = []
    for step in range(min(count, len(rows))):
        share = (labelled + step) / (labelled + len(pool.embeddings))
        late = share > RUNS_OUT and rng.random() < share / RUNS_OUT - 1
        if late or (labelled + step) % RANDOM_EVERY == RANDOM_EVERY - 1:
            row, reason = int(rng.choice(np.flatnonzero(open_))), SuggestionReason.RANDOM
        else:
            row, reason = int(np.argmax(np.where(open_, gain, -np.inf))), SuggestionReason.UNCERTAIN
        open_[row] = False
        picks.append((int(rows[row]), reason))
        if step < min(count, MOST_CONDITIONED) - 1:
            column = covariance[:, row] / np.sqrt(covariance[row, row].clip(1e-12) + noise)
            covariance -= np.outer(column, column)
            gain = _settled(covariance, liked, noise)
    free[[row for row, _ in picks]] = False
    return picks


def _settled(covariance: np.ndarray, weight: np.ndarray, noise: float) -> np.ndarray:
    """Returns by how much a grade of each image would lower the weighted sum of all variances: (N,)."""
    return (covariance**2 @ weight) / (np.diag(covariance) + noise)
