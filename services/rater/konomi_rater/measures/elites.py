"""The best image of every region: a CVT-MAP-Elites archive over the main directions of the base model's images.

Vassiliades, Chatzilygeroudis & Mouret 2018 (1610.05729) with pyribs' CVTArchive; the measures are the first four
principal components, in units of the base images' own spread. Cells are drawn wider than those images lie, so that
what goes beyond them fills new cells: coverage and QD-score (Pugh, Soros & Stanley 2016) grow with it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from konomi_rater.measures.cells import k_means

MEASURES = 4
BOUND = 4.0
"""Standard deviations beyond which a measure is cut."""
SPREAD = 1.5
"""Standard deviation of the points the cells are drawn for; the base images' own is 1."""
SAMPLES_PER_CELL = 50
FLOOR = 1.0
"""Lower bound from which quality counts: the utility of the lowest grade."""


@dataclass(frozen=True)
class Behaviour:
    """What is measured of an image.

    Attributes:
        mean: (D,) centre of the base images.
        basis: (D, M) principal directions divided by their standard deviation.
    """

    mean: np.ndarray
    basis: np.ndarray

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Maps unit rows (N, D) to measures (N, M), each within ±BOUND."""
        return ((embeddings - self.mean) @ self.basis).clip(-BOUND, BOUND)


@dataclass(frozen=True)
class FilledCells:
    """The filled cells.

    Attributes:
        rows: (E,) row of each elite among the candidates, by cell.
        cells: (E,) its cell.
        count: cells in all.
        qd_score: sum over the elites of objective minus FLOOR, never below 0 for one.
    """

    rows: np.ndarray
    cells: np.ndarray
    count: int
    qd_score: float

    @property
    def coverage(self) -> float:
        """Share of the cells that hold an elite, 0..1."""
        return len(self.rows) / self.count


def learn_behaviour(base: np.ndarray) -> Behaviour:
    """Learns the measures from base images (N, D), fewer than MEASURES where they span less."""
    rows = base.astype(np.float64)
    mean = rows.mean(axis=0)
    _, values, directions = np.linalg.svd(rows - mean, full_matrices=False)
    spread = values / np.sqrt(max(1, len(rows)))
    count = max(1, min(MEASURES, int((spread > 1e-6 * max(spread[0], 1e-12)).sum())))
    return Behaviour(mean, directions[:count].T / spread[:count].clip(1e-9))


def find_elites(measures: np.ndarray, objectives: np.ndarray, cells: int, seed: int) -> FilledCells:
    """Returns the candidate of the highest objective in each cell.

    Args:
        measures: (N, M).
        objectives: (N,) lower bounds.
        cells: how many.
        seed: of the cells; the same seed and number of measures give the same cells for ever.
    """
    from ribs.archives import CVTArchive  # it brings pandas: whoever asks for no elites shall not wait for it

    width = measures.shape[1]
    archive = CVTArchive(
        solution_dim=1,
        centroids=_centres(cells, width, seed),
        ranges=[(-BOUND, BOUND)] * width,
        qd_score_offset=FLOOR,
        solution_dtype=np.int64,
    )
    if len(measures):
        archive.add(np.arange(len(measures))[:, None], np.maximum(objectives, FLOOR), measures)
    elites = archive.data(["solution", "index"])
    order = np.argsort(elites["index"])
    return FilledCells(
        elites["solution"][order, 0].astype(np.int64),
        elites["index"][order].astype(np.int64),
        cells,
        float(archive.stats.qd_score),
    )


def regions_of(measures: np.ndarray, cells: int, seed: int) -> np.ndarray:
    """Returns the cell each row of measures (N, M) lies in, (N,): the one whose centre is nearest."""
    centres = _centres(cells, measures.shape[1], seed)
    halves = 0.5 * np.einsum("ij,ij->i", centres, centres)
    return np.asarray(np.argmax(measures @ centres.T - halves, axis=1), np.int64)


@lru_cache(maxsize=16)
def _centres(cells: int, width: int, seed: int) -> np.ndarray:
    """Returns the centres (cells, width) of a centroidal Voronoi tessellation of the measures' space."""
    rng = np.random.default_rng(seed % 2**63)
    samples = (SPREAD * rng.standard_normal((SAMPLES_PER_CELL * cells, width))).clip(-BOUND, BOUND)
    fitted = k_means(samples, cells, starts=1, seed=seed, most_rounds=50)
    return np.asarray(fitted.cluster_centers_, np.float64)
