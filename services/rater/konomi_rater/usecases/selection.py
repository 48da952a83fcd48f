"""The training set of the next unit: candidates scored, gated and chosen under a policy, all accounted for."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import sqlalchemy

from konomi.errors import InvalidArgument
from konomi_rater.measures import coverage
from konomi_rater.measures.cells import Cells, divide
from konomi_rater.measures.novelty import reference_of
from konomi_rater.measures.overoptimisation import best_of_n
from konomi_rater.preference.fitting import quick_fit
from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.selection.avoidance import AvoidableImages, AvoidanceReason, avoid
from konomi_rater.selection.conformal import Evidence, benjamini_hochberg, least_share, p_values, promise
from konomi_rater.selection.propagation import GrowthOutcome
from konomi_rater.selection.selection import (
    POLICIES,
    SSR,
    UR,
    Candidates,
    Policy,
    RejectionReason,
    SelectionLimits,
    SelectionOutcome,
    admit,
    caps,
    draw_base,
    fill_up,
    select,
)
from konomi_rater.sentences import Sentence
from konomi_rater.storage import audits, image_records, tastes
from konomi_rater.storage.embeddings import BASE_UNITS, SELF, MatrixView
from konomi_rater.storage.image_records import Filter, ImageFacts, ImageRow
from konomi_rater.storage.in_force import Grades, seen
from konomi_rater.storage.labels import LabelEntry
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.certification import Certifying
from konomi_rater.usecases.scoring import Diversity, Score, Scoring
from konomi_rater.usecases.workspace import LEAST_REFERENCE, Workspace

LEAST_LABELS = 500
"""Labels below which evidence selects nothing."""


def weigh(grades: Grades, view: MatrixView, positions: np.ndarray, rate: float) -> Evidence:
    """Weighs ungraded candidates.

    Args:
        grades: the grades in force.
        view: the images of the taste.
        positions: (M,) the candidates' places in the view.
        rate: false-discovery rate, above 0 and below 1.

    Raises:
        InvalidArgument: a rate of 0 or 1.
    """
    if not 0 < rate < 1:
        raise InvalidArgument(
            f"expected a false-discovery rate above 0 and below 1, found {rate:g}; 0.2 is usual",
            reason="RATE_INVALID",
            field="false_discovery_rate",
        )
    graded = seen({**grades.training, **grades.aside}, view)
    witnesses = _witnesses(graded, set(grades.aside))
    rest = {digest: entry for digest, entry in graded.items() if digest not in witnesses}
    if len(graded) < LEAST_LABELS or len({entry.grade for entry in rest.values()}) < 2:
        few = Sentence("evidence_few", {"needed": LEAST_LABELS, "labels": len(graded)})
        return Evidence([], len(witnesses), few)
    rows, given = _columns(view, rest)
    head = quick_fit(view.embeddings[rows], given, view.embeddings)
    rows, given = _columns(view, witnesses)
    of_witnesses = head.predict(view.embeddings[rows]).probabilities[:, 3:].sum(1)
    of_candidates = head.predict(view.embeddings[positions]).probabilities[:, 3:].sum(1)
    p = p_values(of_witnesses, given >= SSR, of_candidates)
    admitted = np.flatnonzero(benjamini_hochberg(p, rate))
    order = [int(row) for row in admitted[np.lexsort((-of_candidates[admitted], p[admitted]))]]
    least = least_share(len(witnesses), rate)
    none = Sentence("evidence_none", {"n": len(witnesses), "rate": rate, "least": least})
    return Evidence(order, len(witnesses), None if order else none)


def _witnesses(graded: Mapping[str, LabelEntry], aside: set[str]) -> dict[str, LabelEntry]:
    """Returns the random labels that speak: the panel's first, never more than half of all labels."""
    drawn = sorted(
        (d for d, entry in graded.items() if entry.reason == SuggestionReason.RANDOM), key=lambda d: (d not in aside, d)
    )
    return {digest: graded[digest] for digest in drawn[: len(graded) // 2]}


def _columns(view: MatrixView, grades: Mapping[str, LabelEntry]) -> tuple[np.ndarray, np.ndarray]:
    rows = view.digests.places(list(grades))
    return rows, np.array([entry.grade for entry in grades.values()], dtype=np.int64)


@dataclass(frozen=True)
class SelectionRequest:
    """What is asked for; the fields and defaults are the contract's."""

    policy: str
    count: int
    candidates: Filter = field(default_factory=Filter)
    base_share: float = 0.25
    kappa: float = 1.0
    quota: float = 2.0
    duplicate_cosine: float = 0.97
    typicality_percentile: float = 95.0
    seed: int = 0
    base_units: tuple[str, ...] = BASE_UNITS
    prompt_quota: float = 0.0
    spread: str = ""
    false_discovery_rate: float = 0.2
    training_sources: tuple[str, ...] = ()
    near_copy_cosine: float = coverage.NEAR_COPY
    certificates: tuple[int, ...] = ()
    fill_to: int = 0
    version: int = 0
    avoid: bool = False


@dataclass(frozen=True)
class SelectedImage:
    """One image of the set; base members carry no score."""

    digest: str
    prompt: str
    cell: int
    score: Score | None
    source: int = 0
    certificate: int = 0


@dataclass(frozen=True)
class AvoidedImage:
    """One image to turn away from; `upper_bound` is utility plus std, 0 where no rater scores."""

    facts: ImageFacts
    reason: AvoidanceReason
    score: Score | None
    upper_bound: float


@dataclass(frozen=True)
class Selection:
    """The set and its accounting: considered = members chosen by taste + rejections.

    `filled`: graded images beside the candidates that fill the set up; they spend no pressure.
    `avoided`: the other tail, which spends pressure too.
    """

    chosen: list[SelectedImage]
    base: list[SelectedImage]
    considered: int
    rejections: list[tuple[str, RejectionReason, str]]
    version: int
    diversity: Diversity
    largest_cell_share: float
    explanation: Sentence | None = None
    growth: GrowthOutcome | None = None
    filled: Sequence[SelectedImage] = ()
    avoided: Sequence[AvoidedImage] = ()

    @property
    def kept_share(self) -> float:
        """Share of the candidates that were kept, 0..1; of a set that grows, what the rater alone lets through."""
        if self.growth is not None:
            return self.growth.liked / self.considered if self.considered and self.chosen else 0.0
        return len(self.chosen) / self.considered if self.considered else 0.0

    @property
    def pressed_share(self) -> float:
        """Kept share that spends what the whole set does, 0..1: above `kept_share` where likes filled the set up.

        The divergence of a mixture is at most the mixture of the divergences, and what a person graded spends none.
        """
        return float(self.kept_share ** (len(self.chosen) / max(1, len(self.chosen) + len(self.filled))))

    @property
    def avoided_share(self) -> float:
        """Share of the candidates that are turned away from, 0..1."""
        return len(self.avoided) / self.considered if self.considered else 0.0

    @property
    def avoided_nats(self) -> float:
        """Pressure of the other tail: ln(1 / avoided share), by the share of the selected that are accompanied."""
        wanted = len(self.chosen) + len(self.filled)
        return -math.log(self.avoided_share) * len(self.avoided) / wanted if self.avoided else 0.0

    @property
    def spent_share(self) -> float:
        """Share whose ln(1 / share) is the pressure of both tails, 0..1."""
        return self.pressed_share * math.exp(-self.avoided_nats)

    @property
    def pressure_nats(self) -> float:
        """Selection pressure of the choice, of both tails; 0 where nothing was kept."""
        return self.avoided_nats - math.log(self.pressed_share) if self.chosen else 0.0

    @property
    def best_of_n_nats(self) -> float:
        """Best-of-n estimate of the same; 0 where nothing was kept."""
        return best_of_n(self.spent_share) if self.chosen else 0.0


@dataclass(frozen=True)
class _Task:
    """One selection under way: what is asked for, and the taste as it is now.

    Attributes:
        connection: one consistent snapshot of the database.
        taste: the taste.
        view: its images.
        request: what is asked for.
        policy: how the request ranks.
        scored: whether a rater scores the images.
        judged: digests a person judged blind, which no training set ever holds.
    """

    connection: sqlalchemy.Connection
    taste: TasteRow
    view: MatrixView
    request: SelectionRequest
    policy: Policy
    scored: bool
    judged: frozenset[str]


class Selecting:
    """The use case behind SelectImages."""

    def __init__(self, workspace: Workspace, scoring: Scoring) -> None:
        self._workspace, self._scoring = workspace, scoring
        self._certifying = Certifying(workspace)

    def select(self, taste_id: str, request: SelectionRequest) -> Selection:
        """Chooses the training set.

        Raises:
            InvalidArgument: an unknown policy.
            FailedPrecondition: the policy ranks ungraded images and no rater was fitted.
        """
        policy = POLICIES.get(request.policy)
        if policy is None:
            raise InvalidArgument(
                f"expected a policy ({', '.join(sorted(POLICIES))}), found {request.policy[:80]!r}; choose one of them",
                reason="POLICY_UNKNOWN",
                field="policy",
            )
        with self._workspace.reading() as connection:
            taste = tastes.read_scored_by(connection, taste_id, request.version)
            view = self._workspace.view(connection, taste)
            scored = bool(taste.active) or not policy.graded_only
            if scored:
                self._workspace.active_head(taste)
            judged = audits.held_out(connection, taste.id)
            task = _Task(connection, taste, view, request, policy, scored, judged)
            selection = self._choose(task, self._admitted(task))
        used = [member.digest for member in (*selection.chosen, *selection.filled, *selection.base)]
        self._workspace.store.use([*used, *(image.facts.digest for image in selection.avoided)])
        return selection

    def _admitted(self, task: _Task) -> list[ImageRow]:
        """Returns the images the filter admits, without those a person judged blind or without pixels."""
        criteria, view = task.request.candidates, task.view
        grades = self._workspace.grades(task.connection, task.taste.id)
        column = self._workspace.grade_column(task.taste, view, grades)
        positions = image_records.admit(view, criteria, column, with_pixels=True)
        if criteria.min_utility is not None:
            utility = self._scoring.predict_known(task.taste, view, compares_models=True).utility
            positions = positions[utility[positions] >= criteria.min_utility]
        positions = np.setdiff1d(positions, view.digests.places(list(task.judged)))
        return image_records.read_rows(task.connection, task.taste.id, view.rows[positions].tolist())

    def _choose(self, task: _Task, images: list[ImageRow]) -> Selection:
        taste, view, request = task.taste, task.view, task.request
        positions = view.indices(np.array([image.row for image in images], dtype=np.int64))
        cells = self._cells(task)
        prompts, counts = _prompts(images)
        vouched = self._vouched(task)
        candidates = Candidates(
            embeddings=view.embeddings[positions],
            lower_bounds=self._lower_bounds(task, positions),
            grades=np.array([image.grade for image in images], dtype=np.int64),
            sources=np.array([image.facts.source for image in images], dtype=np.int64),
            typical=self._typical(task, positions),
            unknown=self._unknown(task, positions),
            cells=cells.of(view.embeddings[positions]) if len(positions) else positions,
            prompts=prompts,
            copies=_copies(view, images, positions, request),
            certified=np.array([image.facts.digest in vouched for image in images], dtype=bool),
        )
        choice, explanation = self._ranked(task, positions, candidates, _limits(request, cells, counts, len(images)))
        picked = positions[choice.selected]
        chosen = self._members(task, [images[row] for row in choice.selected], cells, vouched)
        filled = self._members(task, self._filling(task, positions, len(chosen)), cells, {})
        taken = np.concatenate([picked, view.digests.places([member.digest for member in filled])])
        base = self._base(task, cells, set(taken.tolist()))
        held = np.bincount([member.cell for member in (*chosen, *filled)], minlength=1)
        return Selection(
            chosen=chosen,
            filled=filled,
            base=base,
            avoided=self._avoided(task, images, positions, (chosen, filled, base)) if request.avoid and chosen else (),
            considered=len(images),
            rejections=_rejections(images, choice),
            version=taste.active if task.scored else 0,
            diversity=self._scoring.diversity(taste, view, view.embeddings[taken], taken),
            largest_cell_share=float(held.max() / len(taken)) if len(taken) else 0.0,
            explanation=explanation,
        )

    def _members(
        self, task: _Task, images: Sequence[ImageRow], cells: Cells, vouched: dict[str, int]
    ) -> list[SelectedImage]:
        """Returns images of the view as members of a set, each with its cell and score."""
        at = task.view.indices(np.array([image.row for image in images], dtype=np.int64))
        known = self._scoring.score_known
        scores = known(task.taste, task.view, at, compares_models=True) if task.scored else [None] * len(at)
        numbers = cells.of(task.view.embeddings[at]) if len(at) else at
        return [
            _member(image, int(cell), score, vouched)
            for image, cell, score in zip(images, numbers, scores, strict=True)
        ]

    def _filling(self, task: _Task, candidates: np.ndarray, chosen: int) -> list[ImageRow]:
        """Returns graded images beside the candidates that fill a set up, the best graded first.

        A taste whose grades lie on images made elsewhere knows little of what a base model draws: where hardly a
        candidate passes, the owner's own likes are what there is to learn from.
        """
        room, policy = task.request.fill_to - chosen, task.policy
        if room <= 0 or policy.graded_only or policy.by_evidence:
            return []
        view, sources = task.view, tuple(sorted(policy.sources))
        grades = self._workspace.grades(task.connection, task.taste.id)
        column = self._workspace.grade_column(task.taste, view, grades)
        liked = image_records.admit(view, Filter(grades=(SSR, UR), sources=sources), column, with_pixels=True)
        free = np.setdiff1d(liked, np.union1d(candidates, view.digests.places(list(task.judged))))
        bounds, cosine = self._lower_bounds(task, free), task.request.duplicate_cosine
        rows = free[fill_up(view.embeddings[free], column[free], bounds, room, cosine)]
        return image_records.read_rows(task.connection, task.taste.id, view.rows[rows].tolist())

    def _avoided(
        self, task: _Task, images: list[ImageRow], positions: np.ndarray, parts: tuple[list[SelectedImage], ...]
    ) -> list[AvoidedImage]:
        """Returns which candidates to turn away from, beside what was chosen, filled up and drawn from the base."""
        view, bounds, liked = task.view, self._bounds(task, positions, 1.0), [*parts[0], *parts[1]]
        inside = {member.digest for part in parts for member in part}
        columns = AvoidableImages(
            embeddings=view.embeddings[positions],
            upper_bounds=bounds if task.scored else None,
            grades=np.array([image.grade for image in images], dtype=np.int64),
            own=np.array([image.facts.is_own and image.facts.digest not in inside for image in images], dtype=bool),
            prompts=[image.facts.prompt for image in images],
        )
        selected = view.embeddings[view.digests.places([member.digest for member in liked])]
        wanted = Counter(member.prompt for member in liked)
        found = avoid(columns, selected, wanted, task.request.duplicate_cosine)
        at = positions[np.array([row for row, _ in found], dtype=np.int64)]
        known = self._scoring.score_known
        scores = known(task.taste, view, at, compares_models=True) if task.scored and found else [None] * len(found)
        return [
            AvoidedImage(images[row].facts, reason, score, float(bounds[row]))
            for (row, reason), score in zip(found, scores, strict=True)
        ]

    def _lower_bounds(self, task: _Task, positions: np.ndarray) -> np.ndarray:
        """Returns mean - kappa * std of images at positions (N,); zeros where no rater scores."""
        return self._bounds(task, positions, -task.request.kappa)

    def _bounds(self, task: _Task, positions: np.ndarray, deviations: float) -> np.ndarray:
        """Returns the mean and so many deviations of images at positions (N,); zeros where no rater scores.

        How an image was made is left out: units stand beside each other here, and none shall train the next for its
        name.
        """
        if not task.scored:
            return np.zeros(len(positions))
        predicted = self._scoring.predict_known(task.taste, task.view, compares_models=True)
        return np.asarray((predicted.utility + deviations * predicted.std)[positions])

    def _ranked(
        self, task: _Task, positions: np.ndarray, candidates: Candidates, limits: SelectionLimits
    ) -> tuple[SelectionOutcome, Sentence | None]:
        """Returns the choice of a policy, by what random labels show or by rank, and what the first promises."""
        if not task.policy.by_evidence:
            return select(task.policy, candidates, limits), None
        rate = task.request.false_discovery_rate
        free = np.flatnonzero((candidates.grades == 0) & np.isin(candidates.sources, list(task.policy.sources)))
        grades = self._workspace.grades(task.connection, task.taste.id)
        evidence = weigh(grades, task.view, positions[free], rate)
        choice = admit(task.policy, candidates, [int(free[row]) for row in evidence.order], task.request.count)
        return choice, promise(evidence, len(choice.selected), rate)

    def _vouched(self, task: _Task) -> dict[str, int]:
        """Returns the members of the certified sets, each with its certificate; the first that is named counts."""
        if not task.policy.graded_only:
            return {}
        vouched: dict[str, int] = {}
        for number in task.request.certificates:
            members = self._certifying.vouched(task.connection, task.taste.id, number)
            vouched = dict.fromkeys(members, number) | vouched
        return vouched

    def _unknown(self, task: _Task, positions: np.ndarray) -> np.ndarray:
        if not task.scored or not len(positions):
            return np.zeros(len(positions), dtype=bool)
        return self._workspace.active_head(task.taste).unknown(task.view.embeddings[positions])

    def _cells(self, task: _Task) -> Cells:
        view = task.view
        base = view.base(task.request.base_units)
        rows = view.embeddings[base] if len(base) else view.embeddings
        if not len(rows):
            return Cells(np.zeros((1, view.embeddings.shape[1]), np.float32), np.ones(1))
        return divide(rows, self._workspace.settings.cells, task.request.seed)

    def _typical(self, task: _Task, positions: np.ndarray) -> np.ndarray:
        """Returns which images at positions (N,) are typical of the taste, (N,) bool."""
        percentile = task.request.typicality_percentile
        if percentile >= 100 or not len(positions):
            return np.ones(len(positions), dtype=bool)
        reference = self._workspace.reference(task.taste, task.view, task.request.base_units)
        distance = reference.index.distance(task.view.embeddings[positions], positions)
        return np.asarray(distance <= reference.cut(percentile))

    def _ordinary_base(self, task: _Task) -> np.ndarray:
        """Returns the base model's own images that are not odd ones out (M,).

        Pictures from elsewhere have no say in it: they would call all of a base they are unlike odd, and a fit is
        anchored to the base as it is. Among few nobody is odd.
        """
        view, request = task.view, task.request
        base = view.base(request.base_units)
        if not (view.sources != SELF).any():
            return np.asarray(base[self._typical(task, base)])
        if request.typicality_percentile >= 100 or len(base) < LEAST_REFERENCE:
            return base
        own = reference_of(base, view.embeddings[base])
        distance = own.index.distance(view.embeddings[base], base)
        return np.asarray(base[distance <= own.cut(request.typicality_percentile)])

    def _base(self, task: _Task, cells: Cells, taken: set[int]) -> list[SelectedImage]:
        """Draws the base model's own images that are trained on beside the chosen ones."""
        view, request = task.view, task.request
        typical = self._ordinary_base(task)
        without = [*taken, *view.digests.places(list(task.judged)).tolist()]
        free = np.setdiff1d(typical, without)
        rng = np.random.default_rng(request.seed % 2**63)
        drawn = draw_base(free, len(taken), request.base_share, rng)
        images = image_records.read_rows(task.connection, task.taste.id, view.rows[drawn].tolist())
        numbers = cells.of(view.embeddings[drawn]) if len(drawn) else drawn
        return [_member(image, int(cell), None, {}) for image, cell in zip(images, numbers, strict=True)]


def _limits(request: SelectionRequest, cells: Cells, prompt_counts: np.ndarray, considered: int) -> SelectionLimits:
    return SelectionLimits(
        request.count,
        request.duplicate_cosine,
        cell_caps=caps(cells.shares, request.count, request.quota),
        prompt_caps=caps(prompt_counts / max(1, considered), request.count, request.prompt_quota),
        spread=request.spread,
    )


def _copies(view: MatrixView, images: list[ImageRow], positions: np.ndarray, request: SelectionRequest) -> np.ndarray:
    """Returns which images of trained units are near-copies of what units were trained on: (N,) bool."""
    source_positions = [at for digest in request.training_sources if (at := view.at(digest)) is not None]
    if not source_positions or request.near_copy_cosine >= 1:
        return np.zeros(len(images), dtype=bool)
    sources, rows = np.array(source_positions, np.int64), view.embeddings
    alike = coverage.near_copies(rows[positions], positions, rows[sources], sources, request.near_copy_cosine)
    trained = [bool(image.facts.unit) and image.facts.unit not in request.base_units for image in images]
    return np.asarray(alike & np.array(trained, dtype=bool))


def _member(image: ImageRow, cell: int, score: Score | None, vouched: dict[str, int]) -> SelectedImage:
    certificate = 0 if image.grade else vouched.get(image.facts.digest, 0)
    return SelectedImage(image.facts.digest, image.facts.prompt, cell, score, image.facts.source, certificate)


def _rejections(images: list[ImageRow], choice: SelectionOutcome) -> list[tuple[str, RejectionReason, str]]:
    def name(row: int) -> str:
        return images[row].facts.digest

    return [
        (name(row), reason, name(choice.duplicate_of[row]) if row in choice.duplicate_of else "")
        for row, reason in sorted(choice.rejected.items())
    ]


def _prompts(images: list[ImageRow]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the prompt number of each image, (N,), and how many images each prompt has, (P,)."""
    _, numbers, counts = np.unique([image.facts.prompt for image in images], return_inverse=True, return_counts=True)
    return numbers, counts
