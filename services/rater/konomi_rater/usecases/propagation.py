"""Grows a set by itself: candidates held against its originals and its least member, and the farthest taken in."""

from dataclasses import dataclass, field

import numpy as np
import sqlalchemy

from konomi.errors import InvalidArgument
from konomi_rater.selection.propagation import (
    DUPLICATE,
    NEAR_COPY,
    Band,
    GrowthGate,
    GrowthOutcome,
    among,
    augmentations,
    band,
    grow,
    least_bound,
)
from konomi_rater.selection.selection import SSR, UR, RejectionReason
from konomi_rater.storage import image_records, tastes
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.image_records import Filter, ImageRow
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.scoring import Scoring
from konomi_rater.usecases.selection import SelectedImage, Selection
from konomi_rater.usecases.workspace import Workspace

MOST_ORIGINALS = 16


@dataclass(frozen=True)
class GrowthRequest:
    """What is asked for; the fields and defaults are the contract's."""

    originals: tuple[str, ...]
    members: tuple[str, ...]
    count: int
    candidates: Filter = field(default_factory=Filter)
    kappa: float = 1.0
    near_copy_cosine: float = NEAR_COPY
    duplicate_cosine: float = DUPLICATE
    typicality_percentile: float = 95.0
    base_units: tuple[str, ...] = BASE_UNITS
    version: int = 0


class Growing:
    """The use case behind the policy "propagate" of SelectImages."""

    def __init__(self, workspace: Workspace, scoring: Scoring) -> None:
        self._workspace, self._scoring = workspace, scoring

    def grow(self, taste_id: str, request: GrowthRequest) -> Selection:
        """Chooses what a set takes in.

        Raises:
            NotFound: no such taste.
            FailedPrecondition: it has no fitted rater.
            InvalidArgument: no originals, or an original or member the taste does not know.
        """
        _check_originals(request)
        workspace = self._workspace
        with workspace.reading() as connection:
            taste = tastes.read_scored_by(connection, taste_id, request.version)
            view = workspace.view(connection, taste)
            workspace.active_head(taste)
            grades = workspace.grade_column(taste, view, workspace.grades(connection, taste_id))
            images = self._candidates(connection, taste, view, request, grades)
            liked = image_records.admit(view, Filter(grades=(SSR, UR)), grades)
        originals = _positions(view, request.originals, "originals")
        members = np.union1d(originals, _positions(view, request.members, "members"))
        at = view.indices(np.array([image.row for image in images], dtype=np.int64))
        # a candidate's unit is not its members': neither is liked for its name
        prediction = self._scoring.predict_known(taste, view, compares_models=True)
        bounds = prediction.utility - request.kappa * prediction.std
        gate = GrowthGate(
            originals=view.embeddings[originals],
            members=view.embeddings[members],
            least=least_bound(bounds[members], bounds[liked]),
            allowed=self._band(taste, view, originals, request),
            duplicate_cosine=request.duplicate_cosine,
            room=request.count,
        )
        growth = grow(view.embeddings[at], bounds[at], self._refused(taste, view, images, at, request), gate)
        return self._selection(taste, view, images, at, growth)

    def _selection(
        self, taste: TasteRow, view: MatrixView, images: list[ImageRow], at: np.ndarray, growth: GrowthOutcome
    ) -> Selection:
        """Returns the images a growth took in with their scores, and what became of the others."""
        picked = at[growth.taken]
        self._workspace.store.use(images[row].facts.digest for row in growth.taken)
        scores = self._scoring.score_known(taste, view, picked, compares_models=True)
        return Selection(
            chosen=[
                SelectedImage(images[row].facts.digest, images[row].facts.prompt, 0, score)
                for row, score in zip(growth.taken, scores, strict=True)
            ],
            base=[],
            considered=len(images),
            rejections=[(images[row].facts.digest, reason, "") for row, reason in sorted(growth.rejected.items())],
            version=taste.active,
            diversity=self._scoring.diversity(taste, view, view.embeddings[picked], picked),
            largest_cell_share=0.0,
            growth=growth,
        )

    def _candidates(
        self,
        connection: sqlalchemy.Connection,
        taste: TasteRow,
        view: MatrixView,
        request: GrowthRequest,
        grades: np.ndarray,
    ) -> list[ImageRow]:
        """Returns the images asked for, less those that are in the set already or without pixels."""
        inside = view.digests.places([*request.originals, *request.members])
        positions = np.setdiff1d(image_records.admit(view, request.candidates, grades, with_pixels=True), inside)
        return image_records.read_rows(connection, taste.id, view.rows[positions].tolist())

    def _band(self, taste: TasteRow, view: MatrixView, originals: np.ndarray, request: GrowthRequest) -> Band:
        """Returns the band among the originals; a single one is compared with its augmentations."""
        embeddings = view.embeddings[originals]
        if len(originals) > 1:
            return band(among(embeddings), request.near_copy_cosine)
        pixels = self._workspace.decode(view.digests[int(originals[0])]).pixels
        crops = self._workspace.embedder(taste).embed(augmentations(pixels), keep=False)
        crops = crops / np.linalg.norm(crops, axis=1, keepdims=True).clip(1e-12)
        return band(crops @ embeddings[0], request.near_copy_cosine)

    def _refused(
        self, taste: TasteRow, view: MatrixView, images: list[ImageRow], at: np.ndarray, request: GrowthRequest
    ) -> dict[int, RejectionReason]:
        """Returns what the gate need not look at: graded below SSR by the owner, unknown to the rater, untypical."""
        if not len(at):
            return {}
        refused: dict[int, RejectionReason] = {}
        reference = self._workspace.reference(taste, view, request.base_units)
        cut = reference.cut(request.typicality_percentile) if request.typicality_percentile < 100 else np.inf
        strange = reference.index.distance(view.embeddings[at], at) > cut
        unknown = self._workspace.active_head(taste).unknown(view.embeddings[at])
        for row, image in enumerate(images):
            if image.grade:
                if image.grade < SSR:
                    refused[row] = RejectionReason.GRADE
            elif strange[row]:
                refused[row] = RejectionReason.UNTYPICAL
            elif unknown[row]:
                refused[row] = RejectionReason.UNKNOWN
        return refused


def _check_originals(request: GrowthRequest) -> None:
    if not 1 <= len(request.originals) <= MOST_ORIGINALS:
        raise InvalidArgument(
            f"expected 1 to {MOST_ORIGINALS} originals for the policy propagate, found {len(request.originals)}; "
            "name the images the set began with",
            reason="ORIGINALS_REQUIRED",
            field="originals",
        )


def _positions(view: MatrixView, digests: tuple[str, ...], name: str) -> np.ndarray:
    positions = [view.at(digest) for digest in digests]
    for digest, position in zip(digests, positions, strict=True):
        if position is None:
            raise InvalidArgument(
                f"expected images of the taste among the {name}, found {digest[:12]}, which it does not know; "
                "add it with AddImages",
                reason="IMAGE_UNKNOWN",
                field=name,
            )
    return np.array(positions, dtype=np.int64)
