"""What to label next: typical images first, then of ten 5 Thompson draws, 3 of the largest doubt, 2 at random.

taste.md, section 5: the mix keeps ranking and average precision, greedy choices lose the ranking; the random two
alone may feed calibration. Largest doubt is picked greedily with the posterior conditioned on what was picked.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from konomi_rater.cells import medoids
from konomi_rater.preference import Head

TYPICAL_START = 20
MOST_CANDIDATES = 1200
"""Candidates whose joint posterior is drawn: n^3 work, so a larger pool is sampled."""
PATTERN = "TVTRTVTVTR"
"""Ten suggestions: Thompson, variance, random."""


class Reason(IntEnum):
    """Why an image is suggested; the numbers are the contract's."""

    UNSPECIFIED = 0
    EXPLOIT = 1
    UNCERTAIN = 2
    NOVEL = 3
    REPEAT_CHECK = 4
    RANDOM = 5
    TYPICAL = 6


@dataclass(frozen=True)
class Pool:
    """Images that may be suggested.

    Attributes:
        embeddings: (N, D) unit rows.
        novelty: (N,) mean distance to everything graded.
        plausible: (N,) bool, typical enough to be worth a look.
    """

    embeddings: np.ndarray
    novelty: np.ndarray
    plausible: np.ndarray


Pick = tuple[int, Reason]


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
    wanted = count - len(picks)
    start = wanted if head is None else min(wanted, max(0, TYPICAL_START - labelled))
    picks += _typical(pool, start, head is None, free, rng)
    if head is not None and len(picks) < count:
        picks += _mixed(pool, head, count - len(picks), free, rng)
    return picks


def _novel(pool: Pool, count: int, free: np.ndarray) -> list[Pick]:
    """Takes the farthest plausible images one by one, each also far from those just taken."""
    distance = np.where(pool.plausible, pool.novelty, -np.inf)
    picks: list[Pick] = []
    while len(picks) < count and free.any() and np.isfinite(distance[free]).any():
        row = int(np.argmax(np.where(free, distance, -np.inf)))
        free[row] = False
        picks.append((row, Reason.NOVEL))
        distance = np.minimum(distance, 1.0 - pool.embeddings @ pool.embeddings[row])
    return picks


def _typical(pool: Pool, count: int, mixed: bool, free: np.ndarray, rng: np.random.Generator) -> list[Pick]:
    """Takes typical images; past the typical start and without a model, every fifth is random."""
    rows = np.flatnonzero(free)
    random_share = max(0, count - TYPICAL_START) // 5 if mixed else 0
    seed = int(rng.integers(2**31))
    chosen = rows[medoids(pool.embeddings[rows], count - random_share, seed)] if len(rows) and count else rows[:0]
    free[chosen] = False
    rest = np.flatnonzero(free)
    drawn = rng.permutation(rest)[:random_share]
    free[drawn] = False
    return [(int(r), Reason.TYPICAL) for r in chosen] + [(int(r), Reason.RANDOM) for r in drawn]


def _mixed(pool: Pool, head: Head, count: int, free: np.ndarray, rng: np.random.Generator) -> list[Pick]:
    rows = rng.permutation(np.flatnonzero(free))[:MOST_CANDIDATES]
    features = head.features(pool.embeddings[rows])
    mean, covariance = head.process.mean(features), head.process.covariance(features)
    root = (
        np.linalg.cholesky(covariance + 1e-6 * np.trace(covariance) / len(rows) * np.eye(len(rows)))
        if len(rows)
        else covariance
    )
    variance = np.diag(covariance).copy()
    known = np.zeros((len(rows), 0))
    open_ = np.ones(len(rows), dtype=bool)
    picks: list[Pick] = []
    for step in range(min(count, len(rows))):
        kind = PATTERN[step % len(PATTERN)]
        if kind == "T":
            draw = mean + root @ rng.standard_normal(len(rows))
            row, reason = int(np.argmax(np.where(open_, draw, -np.inf))), Reason.EXPLOIT
        elif kind == "V":
            row, reason = int(np.argmax(np.where(open_, variance, -np.inf))), Reason.UNCERTAIN
        else:
            row, reason = int(rng.choice(np.flatnonzero(open_))), Reason.RANDOM
        open_[row] = False
        picks.append((int(rows[row]), reason))
        column = (covariance[:, row] - known @ known[row]) / np.sqrt(
            variance[row].clip(1e-12) + head.process.kernel.noise
        )
        known = np.hstack([known, column[:, None]])
        variance = (variance - column**2).clip(0.0)
    free[[row for row, _ in picks]] = False
    return picks
