"""Scores a whole library with a head in one pass over the matrix of its embeddings: blocks side by side, in float32.

A library's order needs three digits, not nine. In single precision the same operations move half the bytes; what an
owner is shown of one image is still computed in double precision.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.preference.features import Features
from konomi_rater.preference.gaussian_process import Process
from konomi_rater.preference.head import Head, Prediction
from konomi_rater.preference.ordinal import Check, never
from konomi_rater.preference.parameters import Provenance

BLOCK = 4096
"""Rows a thread works on at a time: small enough for its intermediate results to stay near the processor."""
LIBRARY = 20_000
"""Rows from which on a library is scored this way; below, double precision costs nothing worth saving."""
TOLERANCE = 2e-3
"""How far a utility may be from the one in double precision: where a calibration curve is steep."""

_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class SingleFeatures(Features):
    """The same map in float32, with the mean taken off after the product."""

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Maps embeddings (N, D) to features (N, P + S) float32."""
        return embeddings.astype(np.float32, copy=False) @ self.basis - self.mean @ self.basis


def rescore(
    head: Head,
    embeddings: np.ndarray,
    provenances: Sequence[Provenance | None],
    threads: int,
    earlier: Prediction | None = None,
    check: Check = never,
) -> Prediction:
    """Predicts every row of a library.

    Blocks begin at multiples of BLOCK and the last is filled up with zeros, so that a row's numbers depend neither on
    how many rows follow nor on when they came: a library that grew is scored like one that was there at once.

    Args:
        head: the rater that scores.
        embeddings: (N, D) float32 unit rows.
        provenances: how each of the N images was made.
        threads: blocks worked on at once.
        earlier: what this function said of the first rows; whole blocks of it are taken as they are.
        check: asked before every block whether anybody waits.

    Returns:
        What `head.predict` says, within TOLERANCE.
    """
    fast = single(head)
    done = 0 if earlier is None else len(earlier.utility) // BLOCK * BLOCK

    def block(start: int) -> Prediction:
        check()
        rows = embeddings[start : start + BLOCK]
        count = len(rows)
        if count < BLOCK:
            rows = np.concatenate([rows, np.zeros((BLOCK - count, rows.shape[1]), rows.dtype)])
        mean, variance = fast.latent(rows, [*provenances[start : start + count], *[None] * (BLOCK - count)])
        prediction = fast.judge(mean.astype(np.float64), variance.astype(np.float64))
        return Prediction(*(getattr(prediction, f.name)[:count] for f in fields(Prediction)))

    parts = _side_by_side(block, range(done, len(embeddings), BLOCK), threads)
    if earlier is not None:
        parts.insert(0, Prediction(*(getattr(earlier, f.name)[:done] for f in fields(Prediction))))
    return Prediction(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Prediction)))


def single(head: Head) -> Head:
    """Returns a head that computes in float32; one on inducing points stays as it is, its factors do not bear it."""
    if not isinstance(head.process, Process):
        return head
    features = SingleFeatures(**_arrays(head.features))
    return replace(head, features=features, process=Process(**_arrays(head.process)))


def linear(embeddings: np.ndarray, weights: np.ndarray, bias: float, threads: int) -> np.ndarray:
    """Returns embeddings @ weights + bias of a whole matrix: (N,) float32, read once, from as many threads.

    Args:
        embeddings: (N, D) float32.
        weights: (D,).
        bias: added to every row.
        threads: parts worked on at once.
    """
    scores = np.empty(len(embeddings), np.float32)
    single_weights = np.ascontiguousarray(weights, np.float32)

    def part(start: int) -> None:
        rows = slice(start, start + 8 * BLOCK)
        np.dot(embeddings[rows], single_weights, out=scores[rows])

    _side_by_side(part, range(0, len(embeddings), 8 * BLOCK), threads)
    scores += np.float32(bias)
    return scores


def _side_by_side(work: Any, starts: range, threads: int) -> list[Any]:
    with _ONE_AT_A_TIME, threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(work, starts))


def _arrays(holder: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass with its arrays in float32."""
    values = {f.name: getattr(holder, f.name) for f in fields(holder)}
    return {name: v.astype(np.float32) if isinstance(v, np.ndarray) else v for name, v in values.items()}
