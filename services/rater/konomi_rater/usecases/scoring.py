"""Scores images of a taste with its active rater version: utility, doubt, P(grade), typicality, novelty, unknown."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from cachetools import LRUCache

from konomi.errors import KonomiError
from konomi_rater.embedding.requests import Caller
from konomi_rater.measures.diversity import vendi
from konomi_rater.measures.signature import signatures
from konomi_rater.preference.batch_prediction import LIBRARY, rescore
from konomi_rater.preference.head import Head, Prediction
from konomi_rater.preference.ordinal import Check, never
from konomi_rater.storage import tastes
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.vectors import ImageInput, VectorRequest, digest_of
from konomi_rater.usecases.workspace import Workspace

KAPPA = 1.0
TYPICAL_PERCENTILE = 95.0
PREDICTIONS = 16
"""Rater versions whose predictions of a whole library are kept at most."""


@dataclass(frozen=True)
class Score:
    """What the rater thinks of one image, as the contract has it; the last two are empty where nobody asked."""

    utility: float
    std: float
    lower_bound: float
    grade_probabilities: tuple[float, ...]
    typicality: float
    novelty: float
    unknown: bool
    version: int
    signature: bytes = b""
    near_copy_utility: float | None = None


@dataclass(frozen=True)
class Diversity:
    """How diverse a set is: Vendi score, images it rests on, share of typical ones."""

    vendi: float
    n: int
    typical_share: float


@dataclass(frozen=True)
class ScoreRequest:
    """Images being scored: the taste and its images at the moment they were asked for.

    `compares_models`: the scores compare models, so how an image was made is left out. `signatures`: each score also
    brings its image's signature.
    """

    taste: TasteRow
    view: MatrixView
    inputs: Sequence[ImageInput]
    vectors: VectorRequest
    compares_models: bool = False
    signatures: bool = False


class Scoring:
    """The use cases behind ScoreImages and every score that is shown."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._predictions: LRUCache[tuple[str, str, int, bool], Prediction] = LRUCache(PREDICTIONS)

    def score_inputs(
        self,
        taste_id: str,
        inputs: Sequence[ImageInput],
        caller: Caller,
        *,
        diversity: bool,
        version: int = 0,
        compares_models: bool = False,
        signatures: bool = False,
    ) -> tuple[str, list[Score | KonomiError], Diversity | None]:
        """Scores images given by bytes or digest, in order; one bad image is that image's error.

        Args:
            taste_id: the taste; empty means the only one there is, or "default".
            inputs: the images.
            caller: who waits.
            diversity: also measure how diverse the good ones are.
            version: the rater version that scores; 0 means the active one.
            compares_models: leave out how an image was made.
            signatures: also return the signature of each image.

        Returns:
            The taste that scored, a score or an error per image, the diversity where it was asked for.

        Raises:
            FailedPrecondition: the taste has no fitted rater.
            NotFound: it has no such version.
            ResourceExhausted: too many images wait already.
            Cancelled: the caller went away.
        """
        request = self.request(taste_id, inputs, caller, version, compares_models)
        return self.answer(replace(request, signatures=signatures), diversity=diversity)

    def request(
        self,
        taste_id: str,
        inputs: Sequence[ImageInput],
        caller: Caller,
        version: int = 0,
        compares_models: bool = False,
    ) -> ScoreRequest:
        """Begins to score images and returns at once; the version named, else the one active now, will score them."""
        workspace = self._workspace
        with workspace.reading() as connection:
            taste = tastes.read_scored_by(connection, taste_id or tastes.only_one(connection), version)
            view = workspace.view(connection, taste)
        workspace.active_head(taste)
        vectors = workspace.vectors.request(taste.embedder, view, inputs, caller)
        return ScoreRequest(taste, view, inputs, vectors, compares_models)

    def answer(
        self, request: ScoreRequest, *, diversity: bool
    ) -> tuple[str, list[Score | KonomiError], Diversity | None]:
        """Waits for what was begun, and returns what `score_inputs` does."""
        taste, view = request.taste, request.view
        items = self._workspace.vectors.collect(request.vectors)
        good = [place for place, item in enumerate(items) if isinstance(item, np.ndarray)]
        vectors = np.array([items[place] for place in good], np.float32).reshape(len(good), view.embeddings.shape[1])
        own = np.array([_position(view, request.inputs[place]) for place in good], np.int64)
        scored = self.score(taste, view, vectors, own, request.compares_models)
        if request.signatures:
            scored = self._told_apart(taste, scored, vectors)
        scores = iter(scored)
        results = [item if isinstance(item, KonomiError) else next(scores) for item in items]
        return taste.id, results, self.diversity(taste, view, vectors, own) if diversity else None

    def _told_apart(self, taste: TasteRow, scores: Sequence[Score], embeddings: np.ndarray) -> list[Score]:
        """Returns scores with what tells near-copies, and the better one of them: signatures, and the ridge's view."""
        order = self._workspace.active_head(taste).near_copies if scores else None
        finer = [None] * len(scores) if order is None else order(embeddings).tolist()
        told = zip(scores, signatures(embeddings), finer, strict=True)
        return [replace(one, signature=signature, near_copy_utility=value) for one, signature, value in told]

    def score(
        self,
        taste: TasteRow,
        view: MatrixView,
        embeddings: np.ndarray,
        own: np.ndarray,
        compares_models: bool = False,
    ) -> list[Score]:
        """Scores unit rows.

        Args:
            taste: the taste; its active version scores.
            view: its images.
            embeddings: (N, D) unit rows.
            own: (N,) position of each row in the view, -1 for a stranger.
            compares_models: leave out how an image was made: no model is liked for its name.
        """
        if not len(embeddings):
            return []
        stored = self._workspace.active_head(taste)
        prediction = stored.head.predict(embeddings, None if compares_models else view.provenances_at(own))
        reference = self._workspace.reference(taste, view, BASE_UNITS)
        typicality = reference.typicality(reference.index.distance(embeddings, own))
        novelty = self._workspace.archive(taste, view).distance(embeddings, own)
        unknown = stored.unknown(embeddings)
        return [
            Score(
                utility=float(prediction.utility[i]),
                std=float(prediction.std[i]),
                lower_bound=float(prediction.utility[i] - KAPPA * prediction.std[i]),
                grade_probabilities=tuple(prediction.probabilities[i].tolist()),
                typicality=float(typicality[i]),
                novelty=float(novelty[i]),
                unknown=bool(unknown[i]),
                version=taste.active,
            )
            for i in range(len(embeddings))
        ]

    def score_known(
        self, taste: TasteRow, view: MatrixView, positions: np.ndarray, *, compares_models: bool = False
    ) -> list[Score]:
        """Scores images of the view by position."""
        return self.score(taste, view, view.embeddings[positions], positions, compares_models)

    def predict_known(self, taste: TasteRow, view: MatrixView, *, compares_models: bool = False) -> Prediction:
        """Returns the active version's prediction of every image of the view; what was predicted before is kept.

        Where models are compared, how an image was made is left out.
        """
        head = self._workspace.active_head(taste).head
        artifact = self._workspace.artifact(taste.id, taste.active)
        return self._predicted(taste, view, artifact, bare=compares_models and head.reads_provenance)

    def prepare(self, taste_id: str, artifact: str, check: Check = never) -> None:
        """Scores every image of a taste with a version that is about to score, so that the change costs no caller."""
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
        if len(view):
            self._predicted(taste, view, artifact, check)

    def _predicted(
        self, taste: TasteRow, view: MatrixView, artifact: str, check: Check = never, *, bare: bool = False
    ) -> Prediction:
        key, n = (taste.id, artifact, view.generation, bare), len(view)
        with self._lock:
            prediction = self._predictions.get(key)
        done = len(prediction.utility) if prediction is not None else 0
        if prediction is None or done < n:
            head = self._workspace.stored_head(artifact).head
            prediction = self._predict_more(view, head.without_provenance() if bare else head, prediction, check)
            with self._lock:
                self._predictions[key] = prediction
        return Prediction(prediction.utility[:n], prediction.std[:n], prediction.probabilities[:n])

    def _predict_more(self, view: MatrixView, head: Head, earlier: Prediction | None, check: Check) -> Prediction:
        done = len(earlier.utility) if earlier is not None else 0
        if len(view) > LIBRARY:
            settings, whole = self._workspace.settings, earlier if done > LIBRARY else None
            return rescore(head, view.embeddings, view.provenances, settings.library_threads, whole, check)
        more = head.predict(view.embeddings[done:], list(view.provenances[done:]))
        return more if earlier is None else _join(earlier, more)

    def diversity(self, taste: TasteRow, view: MatrixView, embeddings: np.ndarray, own: np.ndarray) -> Diversity:
        """Measures how diverse unit rows (N, D) are, and how many are typical of the taste."""
        if not len(embeddings):
            return Diversity(0.0, 0, 0.0)
        reference = self._workspace.reference(taste, view, BASE_UNITS)
        inside = reference.index.distance(embeddings, own) <= reference.cut(TYPICAL_PERCENTILE)
        return Diversity(vendi(embeddings), len(embeddings), float(inside.mean()))


def _position(view: MatrixView, given: ImageInput) -> int:
    at = view.at(digest_of(given))
    return -1 if at is None else at


def _join(first: Prediction, second: Prediction) -> Prediction:
    return Prediction(
        np.concatenate([first.utility, second.utility]),
        np.concatenate([first.std, second.std]),
        np.concatenate([first.probabilities, second.probabilities]),
    )
