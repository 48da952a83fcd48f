"""P6: exact neighbour search against untouched faiss and against what BLAS allows, and the inverted file against exact.

Question: how fast are the 16 nearest of 64 queries among N x 512 unit rows (N = 1,000,000; --small: 20,000)?
Method: rows of 2,000 overlapping clusters with a falling spectrum, as embeddings have; queries are other draws. Two
threads each. Untouched faiss runs in a child process of its own, on the same rows; konomi, the child and a bare sgemm
of the same product take turns, five rounds, medians. Recall is counted against the child's answers. About 8 GB of
memory; 10 to 15 minutes, most of it the learning of the inverted file.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.measures.novelty import NeighbourIndex

ROWS, SMALL = 1_000_000, 20_000
DIMENSIONS, QUERIES, NEAREST, RECALLED, ROUNDS, THREADS = 512, 64, 16, 10, 5, 2
CLUSTERS = 2000
CHILD = """
import sys, time, faiss, numpy as np
rows, queries = np.load(sys.argv[1], mmap_mode="r"), np.load(sys.argv[2])
k, threads = int(sys.argv[3]), int(sys.argv[4])
faiss.omp_set_num_threads(threads)
index = faiss.IndexFlatIP(rows.shape[1])
for start in range(0, len(rows), 100_000):
    index.add(np.ascontiguousarray(rows[start : start + 100_000]))
print("ready", flush=True)
for line in sys.stdin:
    began = time.perf_counter()
    found = index.search(queries, k)
    print(time.perf_counter() - began, flush=True)
    np.save(sys.argv[5], found[1], allow_pickle=False)
"""


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the figures of P6."""
    count = SMALL if arguments.small else ROWS
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(THREADS):
        held, queries = _draw(count, arguments.seed)
        place = Path(folder)
        np.save(place / "rows.npy", held, allow_pickle=False)
        np.save(place / "queries.npy", queries, allow_pickle=False)
        index = NeighbourIndex(DIMENSIONS, exact_rows=count)
        index.add(np.arange(count), held)
        times = _interleave(index, held, queries, place)
        truth = np.load(place / "found.npy", allow_pickle=False)
        exact = _recall(index.search(queries, NEAREST)[1], truth, NEAREST)
        removed = _seconds(lambda: index.remove(np.arange(0, count, 100)))
        index = NeighbourIndex(DIMENSIONS, exact_rows=count - 1)
        learnt = _seconds(lambda: index.add(np.arange(count), held))
        rough = statistics.median(_seconds(lambda: index.search(queries, NEAREST)) for _ in range(ROUNDS))
        recalled = _recall(index.search(queries, RECALLED)[1], truth[:, :RECALLED], RECALLED)
    size = f"64 queries, {count:,} x {DIMENSIONS}"
    ours, theirs, bound = (statistics.median(times[name]) for name in ("konomi", "faiss", "sgemm"))
    return [
        _row(f"exact search against untouched faiss ({size}), times as fast", theirs / ours, 1.0, "x", ROUNDS),
        _row("exact search, seconds against untouched faiss", ours, theirs, "s", ROUNDS),
        _row(
            "bare sgemm of the same product, against exact search: share of the bound",
            bound,
            ours,
            "s",
            ROUNDS,
        ),
        _row(f"recall@{NEAREST} of exact search", exact, 1.0, "share", QUERIES),
        _row("inverted file, seconds against exact search", rough, ours, "s", ROUNDS),
        _row(f"recall@{RECALLED} of the inverted file", recalled, 0.95, "share", QUERIES),
        _row("deleting 1 % of an exact index, seconds", removed, None, "s", 1),
        _row("learning and filling the inverted file, seconds", learnt, None, "s", 1),
    ]


def _draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows (count, D) and queries (QUERIES, D), unit length float32."""
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, DIMENSIONS + 1) ** -0.5).astype(np.float32)
    centres = rng.standard_normal((min(CLUSTERS, count // 10), DIMENSIONS), dtype=np.float32) * spectrum

    def draw(n: int) -> np.ndarray:
        made = np.empty((n, DIMENSIONS), np.float32)
        for start in range(0, n, 50_000):
            part = made[start : start + 50_000]
            part[:] = centres[rng.integers(0, len(centres), len(part))]
            part += 0.7 * spectrum * rng.standard_normal(part.shape, dtype=np.float32)
            part /= np.linalg.norm(part, axis=1, keepdims=True)
        return made

    return draw(count), draw(QUERIES)


def _interleave(index: NeighbourIndex, held: np.ndarray, queries: np.ndarray, place: Path) -> dict[str, list[float]]:
    """Times konomi, untouched faiss and sgemm in turns."""
    command = [sys.executable, "-c", CHILD, str(place / "rows.npy"), str(place / "queries.npy")]
    command += [str(NEAREST), str(THREADS), str(place / "found.npy")]
    times: dict[str, list[float]] = {"konomi": [], "faiss": [], "sgemm": []}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        for _ in range(ROUNDS + 1):
            times["konomi"].append(_seconds(lambda: index.search(queries, NEAREST)))
            times["sgemm"].append(_seconds(lambda: queries @ held.T))
            child.stdin.write("go\n")
            child.stdin.flush()
            times["faiss"].append(json.loads(child.stdout.readline()))
        child.stdin.close()
    return {name: found[1:] for name, found in times.items()}


def _recall(found: np.ndarray, truth: np.ndarray, k: int) -> float:
    pairs = zip(found[:, :k], truth[:, :k], strict=True)
    return float(np.mean([len(np.intersect1d(one, other)) / k for one, other in pairs]))


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _row(what: str, value: float, baseline: float | None, unit: str, n: int) -> dict[str, Any]:
    return {"id": "P6", "what": what, "value": value, "baseline": baseline, "unit": unit, "n": n}
