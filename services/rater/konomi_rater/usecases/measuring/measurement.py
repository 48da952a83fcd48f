"""Measures a set of images, known to the taste or not, against a reference: the figures a night logs of every unit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from konomi.errors import FailedPrecondition, KonomiError
from konomi_rater.embedding.requests import Caller
from konomi_rater.measures import coverage, two_sample
from konomi_rater.measures.cells import Cells, divide
from konomi_rater.measures.coverage import Spread
from konomi_rater.measures.graded import GradedMeasures, graded_measures
from konomi_rater.measures.two_sample import Prdc
from konomi_rater.selection.selection import SSR
from konomi_rater.storage import tastes
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.vectors import ImageInput
from konomi_rater.usecases.workspace import Workspace

MOST_REFERENCE = 1000
"""Images of the base model at most that stand for it where no reference is named."""


@dataclass(frozen=True)
class MeasureRequest:
    """What is measured; the fields are the contract's."""

    digests: Sequence[str]
    reference: Sequence[str] = ()
    sources: Sequence[str] = ()
    near_copy: float = coverage.NEAR_COPY
    seed: int = 0


@dataclass(frozen=True)
class ImageMeasures:
    """The figures of a set; `kid` is (value, low, high)."""

    n: int
    reference_n: int
    kid: tuple[float, float, float]
    cmmd: float
    prdc: Prdc
    liked_cells: int
    likes_covered: float
    reference_likes_covered: float
    near_copies: float
    reference_near_copies: float
    spread: Spread
    graded: GradedMeasures | None


class Measuring:
    """The use case behind MeasureImages."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def measure(self, taste_id: str, request: MeasureRequest, caller: Caller) -> ImageMeasures:
        """Measures stored images.

        Raises:
            NotFound: a digest the store does not hold.
            InvalidArgument: one of them is no image.
            FailedPrecondition: no reference was named and the taste knows no image of the base model.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = self._workspace.grades(connection, taste_id).every
        rows = self._vectors(taste, view, request.digests, caller)
        if request.reference:
            reference = self._vectors(taste, view, request.reference, caller)
        else:
            reference = _base_rows(view, set(request.digests), request.seed)
        sources = _known_rows(view, request.sources)
        liked = _known_rows(view, [digest for digest, entry in grades.items() if entry.grade >= SSR])
        cells = self._cells(view, reference, request.seed)
        filled, liked_cells = cells.of(rows), cells.of(liked) if len(liked) else np.zeros(0, np.int64)
        rng = np.random.default_rng(request.seed % 2**63)
        return ImageMeasures(
            n=len(rows),
            reference_n=len(reference),
            kid=two_sample.mmd_interval(rows, reference, two_sample.cubic, rng),
            cmmd=two_sample.mmd(rows, reference, two_sample.gaussian),
            prdc=two_sample.prdc(rows, reference),
            liked_cells=len(np.unique(liked_cells)),
            likes_covered=coverage.covered(liked_cells, filled),
            reference_likes_covered=coverage.covered(liked_cells, cells.of(reference)),
            near_copies=_share_above(rows, sources, request.near_copy),
            reference_near_copies=_share_above(reference, sources, request.near_copy),
            spread=coverage.spread(filled, len(cells.shares)),
            graded=_graded(view, rows, {digest: entry.grade for digest, entry in grades.items()}),
        )

    def _vectors(self, taste: TasteRow, view: MatrixView, digests: Sequence[str], caller: Caller) -> np.ndarray:
        """Returns the unit rows of stored images, (N, D) float64."""
        inputs = [ImageInput(digest=digest) for digest in digests]
        vectors = self._workspace.vectors.collect(self._workspace.vectors.request(taste.embedder, view, inputs, caller))
        for item in vectors:
            if isinstance(item, KonomiError):
                raise item
        return np.array(vectors, np.float64)

    def _cells(self, view: MatrixView, reference: np.ndarray, seed: int) -> Cells:
        base = view.base(BASE_UNITS)
        rows = view.embeddings[base] if len(base) else reference.astype(np.float32)
        return divide(rows, self._workspace.settings.cells, seed)


def _base_rows(view: MatrixView, without: set[str], seed: int) -> np.ndarray:
    left_out = view.digests.places(list(without))
    base = np.setdiff1d(view.base(BASE_UNITS), left_out)
    if len(base) < 2:
        raise FailedPrecondition(
            "expected images of the base model to compare with, found fewer than two; name a reference",
            reason="REFERENCE_MISSING",
        )
    drawn = np.sort(np.random.default_rng(seed % 2**63).permutation(base)[:MOST_REFERENCE])
    return np.asarray(view.embeddings[drawn], np.float64)


def _known_rows(view: MatrixView, digests: Sequence[str]) -> np.ndarray:
    """Returns the unit rows of the images the view knows, (K, D)."""
    places = view.digests.places(digests)
    return np.asarray(view.embeddings[places[places >= 0]])


def _graded(view: MatrixView, rows: np.ndarray, grades: Mapping[str, int]) -> GradedMeasures | None:
    """Returns how rows (N, D) lie to the graded images of the view."""
    digests = sorted(grades)
    places = view.digests.places(digests)
    given = np.array([grades[digest] for digest in digests], np.int64)
    known = (places >= 0) & (given > 0)
    return graded_measures(rows, view.embeddings[places[known]].astype(np.float64), given[known] >= SSR)


def _share_above(rows: np.ndarray, sources: np.ndarray, cut: float) -> float:
    return float((coverage.nearest_source(rows, sources) > cut).mean()) if len(rows) else 0.0
