"""Fits rater versions, lets one score only when it is not worse than the one before, and watches the one that does."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy
from sqlalchemy import text

from konomi.errors import DataLoss, FailedPrecondition
from konomi_rater.measures import overoptimisation
from konomi_rater.measures.overoptimisation import Generation, Pressure, pressure_of
from konomi_rater.preference import fitting, promotion
from konomi_rater.preference.comparisons import LEAST_COMPARED, LEAST_LABELS, clear, enough
from konomi_rater.preference.fitting import Fitted, Step
from konomi_rater.preference.head import Head
from konomi_rater.preference.metrics import reliability
from konomi_rater.preference.ordinal import Check, never
from konomi_rater.preference.positive_unlabelled import LEAST_UNLABELLED, choose_unlabelled, only_favourites
from konomi_rater.preference.promotion import Diff, EmbedderComparison, PromotionDecision
from konomi_rater.preference.training import Training
from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.sentences import Sentence
from konomi_rater.storage import audits, comparisons, image_records, labels, panel, tastes
from konomi_rater.storage.comparisons import Learnable
from konomi_rater.storage.embeddings import BASE_UNITS, SELF, EmbeddingMatrix, MatrixView
from konomi_rater.storage.files.head_file import MEDIA_TYPE, to_bytes
from konomi_rater.storage.in_force import seen
from konomi_rater.storage.labels import LabelEntry
from konomi_rater.storage.panel import LEAST_IMAGES
from konomi_rater.storage.tastes import TasteRow, VersionRow
from konomi_rater.usecases.fitting.populations import populations_for
from konomi_rater.usecases.scoring import TYPICAL_PERCENTILE
from konomi_rater.usecases.selection import Selection
from konomi_rater.usecases.workspace import Workspace

MOST_UNITS = 4
"""Units that are looked at beside the base model: the newest."""
SAMPLE = 512
"""Images of a unit that are looked at; more of them are sampled."""


def generations(
    workspace: Workspace, connection: sqlalchemy.Connection, taste: TasteRow, view: MatrixView, head: Head
) -> list[Generation]:
    """Returns what is known of the base model's and the newest units' own images, in the order they were made.

    Args:
        workspace: the workspace.
        connection: a snapshot.
        taste: the taste.
        view: its images.
        head: the rater that looks.
    """
    people, given = _people(connection, taste.id), np.zeros(len(view), np.int64)
    places = view.digests.places(list(people))
    given[places[places >= 0]] = np.array(list(people.values()), np.int64)[places >= 0]
    reference = workspace.reference(taste, view, BASE_UNITS)
    history = []
    for unit, rows in _units(view):
        drawn = np.sort(np.random.default_rng(0).permutation(rows)[:SAMPLE])
        prediction = head.predict(view.embeddings[drawn])  # units side by side: none is liked for its name
        distance = reference.index.distance(view.embeddings[drawn], drawn)
        grades = given[rows][given[rows] > 0]
        history.append(
            Generation(
                unit=unit,
                proxy=float(prediction.utility.mean()),
                doubt=float(prediction.std.mean()),
                strangers=float((distance > reference.cut(TYPICAL_PERCENTILE)).mean()),
                human=float(np.mean(grades)) if len(grades) else 0.0,
                graded=len(grades),
            )
        )
    return history


def remember_selection(
    connection: sqlalchemy.Connection, taste: str, selection: Selection, policy: str, now: float, purpose: str = ""
) -> None:
    """Notes a choice by a rater version; the same choice is noted once, one that kept nothing not at all.

    Of several choices for one purpose the last one alone is kept: a unit is trained on no other.
    """
    if not selection.chosen or not selection.version:
        return
    chosen = sorted(member.digest for member in selection.chosen)
    avoided = sorted(image.facts.digest for image in selection.avoided)
    key = hashlib.sha256(json.dumps([chosen, avoided] if avoided else chosen).encode()).hexdigest()
    fields = {
        "taste": taste,
        "key": key,
        "version": selection.version,
        "policy": policy,
        "share": selection.spent_share,
        "now": now,
        "purpose": _key_of(purpose) if purpose else "",
    }
    if purpose:
        connection.execute(
            text(
                "DELETE FROM selections WHERE taste = :taste AND purpose = :purpose "
                "AND (chosen, version, policy) <> (:key, :version, :policy)"
            ),
            fields,
        )
    connection.execute(
        text(
            "INSERT INTO selections (taste, chosen, version, policy, kept_share, created, purpose) "
            "VALUES (:taste, :key, :version, :policy, :share, :now, :purpose) ON CONFLICT DO NOTHING"
        ),
        fields,
    )


def release_selections(connection: sqlalchemy.Connection, taste: str, purposes: Sequence[str]) -> int:
    """Forgets the choices for some purposes, whose pressure is in no model in use; returns how many there were."""
    rows = [{"taste": taste, "purpose": _key_of(purpose)} for purpose in dict.fromkeys(purposes)]
    statement = text("DELETE FROM selections WHERE taste = :taste AND purpose = :purpose")
    return sum(connection.execute(statement, row).rowcount for row in rows)


def _key_of(purpose: str) -> str:
    return hashlib.sha256(purpose.encode()).hexdigest()


def pressure(connection: sqlalchemy.Connection, taste: str) -> Pressure:
    """Returns the selection pressure since a person last finished an audit, of a set or of a unit."""
    rows = connection.execute(
        text("SELECT kept_share FROM selections WHERE taste = :taste AND created > :since"),
        {"taste": taste, "since": max(audits.last_end(connection, taste), audits.last_unit_end(connection, taste))},
    )
    return pressure_of([row.kept_share for row in rows])


def _units(view: MatrixView) -> list[tuple[str, np.ndarray]]:
    """Returns (unit, rows) of the taste's own images: the base model's first, then the newest units, oldest first."""
    enough = view.own_units(LEAST_IMAGES)
    base = [(unit, enough[unit]) for unit in BASE_UNITS if unit in enough]
    return base + [(unit, rows) for unit, rows in enough.items() if unit not in BASE_UNITS][-MOST_UNITS:]


def _people(connection: sqlalchemy.Connection, taste: str) -> dict[str, int]:
    """Returns the grades of images that were shown at random, by digest; others were picked, so their mean lies."""
    drawn = connection.execute(
        text(
            "SELECT digest, grade FROM labels_in_force "
            "WHERE taste = :taste AND reason IN (:drawn, :hidden) AND grade > 0"
        ),
        {"taste": taste, "drawn": int(SuggestionReason.RANDOM), "hidden": int(SuggestionReason.AUDIT)},
    )
    return {row.digest: row.grade for row in drawn}


@dataclass(frozen=True)
class NewVersion:
    """A fitted version whose artifact is stored and whose row is not; `diff` is None where none scored before."""

    row: VersionRow
    diff: Diff | None


@dataclass(frozen=True)
class Described:
    """A version with what is known of it now; only the one that scores has a pressure.

    `held_out` counts the panel as it was at the fit, which did not see it. `comparison` is its embedder beside a second
    one; `pending` the second one of its taste, where that is not compared yet.
    """

    row: VersionRow
    active: bool
    alarms: Sequence[Sentence]
    diff: Diff | None
    pressure: Pressure | None
    held_out: int
    comparison: EmbedderComparison | None = None
    pending: str = ""


@dataclass(frozen=True)
class _FitInputs:
    """What a fit reads of a taste: images, the grades to fit on, the panel's, repeated grades, what was compared."""

    taste: TasteRow
    view: MatrixView
    grades: dict[str, LabelEntry]
    panel: dict[str, LabelEntry]
    retests: list[tuple[int, int]]
    compared: Learnable


class Versions:
    """The use cases behind FitRater and the rater versions."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def fit(self, taste_id: str, seed: int, embedder: str = "", check: Check = never) -> Iterator[Step | NewVersion]:
        """Yields progress, then the version to store with `keep`.

        Args:
            taste_id: the taste.
            seed: of folds and bootstrap.
            embedder: the one the taste is about to change to; its own where empty.
            check: asked between two steps whether anybody waits; what it raises ends the fit.

        Raises:
            FailedPrecondition: fewer than five labels, or all of one grade, and not enough comparisons either.
            DataLoss: a label was changed behind the log's back.
        """
        yield Step("labels", 0, 0)
        with self._workspace.reading() as connection:
            self._workspace.label_chains.verify(connection, taste_id)
            inputs = self._read_inputs(connection, taste_id, embedder)
            _check_enough(inputs, len(_ungraded(inputs.view, inputs)))
            training = self._training(connection, inputs)
        for step in fitting.fit(training, seed % 2**63, check, self._workspace.settings.library_threads):
            yield step if isinstance(step, Step) else self._stored(inputs, training, step)

    def keep(self, connection: sqlalchemy.Connection, version: NewVersion, *, activate: bool) -> VersionRow:
        """Writes the row of a fitted version in the caller's transaction.

        It scores from then on if it shall be activated and the panel does not say that it is worse.
        """
        worse = version.diff is not None and version.diff.verdict is PromotionDecision.WORSE
        row = tastes.add_version(connection, version.row, activate=activate and not worse)
        if version.diff is not None:
            tastes.add_diff(connection, row.taste, row.number, version.diff)
        return row

    def describe(self, connection: sqlalchemy.Connection, row: VersionRow) -> Described:
        """Returns a version with its diff; the one that scores also with the pressure on it and what that alarms."""
        taste = tastes.read(connection, row.taste)
        active = taste.active == row.number
        spent = pressure(connection, row.taste) if active else None
        now = overoptimisation.over_pressed(spent, self._workspace.settings.pressure_nats) if spent is not None else []
        diff = tastes.read_diff(connection, row.taste, row.number)
        held_out = panel.count(connection, row.taste, row.created)
        beside = tastes.read_embedder_comparison(connection, row.taste, row.number)
        due = active and taste.second_embedder not in ("", beside.second if beside is not None else "")
        pending = taste.second_embedder if due else ""
        return Described(row, active, [*row.alarms, *now], diff, spent, held_out, beside, pending)

    def trainings_of_both(
        self, connection: sqlalchemy.Connection, taste_id: str, second: str
    ) -> tuple[str, Training, Training]:
        """Returns the grades that have a vector under a taste's embedder and under a second one, as either sees them.

        Args:
            connection: a snapshot.
            taste_id: the taste.
            second: the other embedder.

        Returns:
            The sha256 of these grades, and the training under each, in the same order and without comparisons.
        """
        own = self._read_inputs(connection, taste_id, "")
        # Read apart: what the workspace keeps of an embedder follows the newest images, and here earlier ones come too.
        view = EmbeddingMatrix(taste_id, second).view(connection)
        other = self._read_inputs(connection, taste_id, second, view)
        both = {digest: entry for digest, entry in own.grades.items() if digest in other.grades}
        trainings = [
            self._training(connection, replace(inputs, grades=both, compared=Learnable([], [], "")))
            for inputs in (own, other)
        ]
        return labels.digest_of(both), trainings[0], trainings[1]

    def _read_inputs(
        self, connection: sqlalchemy.Connection, taste_id: str, embedder: str, view: MatrixView | None = None
    ) -> _FitInputs:
        taste = tastes.read(connection, taste_id)
        if embedder not in ("", taste.embedder):
            taste = replace(taste, embedder=embedder, active=0)
        view = self._workspace.view(connection, taste) if view is None else view
        grades = self._workspace.grades(connection, taste_id)
        training, aside = (dict(sorted(seen(part, view).items())) for part in (grades.training, grades.aside))
        said = comparisons.learnable(connection, taste_id, view, training, grades.panel)
        return _FitInputs(taste, view, training, aside, labels.retests(connection, taste_id), said)

    def _training(self, connection: sqlalchemy.Connection, inputs: _FitInputs) -> Training:
        positions = _positions(inputs.view, inputs.grades)
        rows = inputs.view.rows[positions].tolist()
        entries, taste, view = list(inputs.grades.values()), inputs.taste, inputs.view
        compared = view.digests.places(inputs.compared.images)
        return Training(
            embeddings=inputs.view.embeddings[positions],
            grades=np.array([entry.grade for entry in entries], np.int64),
            groups=image_records.read_groups(connection, inputs.taste.id, rows),
            drawn=np.array([entry.reason == SuggestionReason.RANDOM for entry in entries], bool),
            background=view.embeddings,
            provenances=[view.provenances[at] for at in positions],
            comparisons=inputs.compared.said,
            compared=view.embeddings[compared],
            compared_provenances=[view.provenances[at] for at in compared],
            compared_groups=image_records.read_groups(connection, taste.id, view.rows[compared].tolist()),
            unlabelled=view.embeddings[_ungraded(view, inputs)],
            populations=populations_for(self._workspace, taste, view.embeddings.shape[1]),
        )

    def _stored(self, inputs: _FitInputs, training: Training, fitted: Fitted) -> NewVersion:
        taste = inputs.taste
        data = to_bytes(fitted.head, fitted.embeddings, fitted.grades, taste.embedder)
        artifact = self._workspace.store.put(data, MEDIA_TYPE)
        diff = self._diff(inputs, fitted.head)
        with self._workspace.reading() as connection:
            history = generations(self._workspace, connection, taste, inputs.view, fitted.head)
        row = VersionRow(
            taste=taste.id,
            number=0,
            created=self._workspace.clock(),
            label_count=len(inputs.grades),
            comparison_count=fitted.compared,
            head=fitted.head.kind,
            embedder=taste.embedder,
            metrics={**fitted.metrics, **reliability(inputs.retests)},
            candidates=fitted.candidates,
            alarms=[*fitted.alarms, *overoptimisation.over_optimised(history), *_refused(diff)],
            artifact=artifact.digest,
            label_digest=_digest_of(inputs),
            populations=fitted.benefits,
        )
        return NewVersion(row, diff)

    def _diff(self, inputs: _FitInputs, head: Head) -> Diff | None:
        """Compares a new head with the one that scores on the frozen panel; None where none scores."""
        if not inputs.taste.active:
            return None
        earlier = self._earlier(inputs)
        if earlier is None:
            return None
        row, head_before = earlier
        changed = sum(entry.created > row.created for entry in inputs.grades.values())
        at = _positions(inputs.view, inputs.panel)
        rows, provenances = inputs.view.embeddings[at], inputs.view.provenances_at(at)
        grades = np.array([entry.grade for entry in inputs.panel.values()], dtype=np.int64)
        before, after = (scorer.predict(rows, provenances).utility for scorer in (head_before, head))
        decision, figures = promotion.compare(grades, before, after, np.random.default_rng(0))
        return Diff(row.number, decision, changed, **figures)

    def _earlier(self, inputs: _FitInputs) -> tuple[VersionRow, Head] | None:
        """Returns the version that scores and its head, where it can be compared with another."""
        with self._workspace.reading() as connection:
            row = tastes.read_version(connection, inputs.taste.id, inputs.taste.active)
        if row.embedder != inputs.taste.embedder:
            return None
        try:
            return row, self._workspace.head(inputs.taste.id, row.number).head
        except DataLoss:
            return None  # a head that cannot be read is no reason to keep the taste without a rater


def _positions(view: MatrixView, grades: dict[str, LabelEntry]) -> np.ndarray:
    return view.digests.places(list(grades))


def _digest_of(inputs: _FitInputs) -> str:
    """Returns the sha256 of the labels: of the grades, and of what was compared where anything was."""
    of_grades, compared = labels.digest_of(inputs.grades), inputs.compared.digest
    return hashlib.sha256((of_grades + compared).encode()).hexdigest() if compared else of_grades


def _ungraded(view: MatrixView, inputs: _FitInputs) -> np.ndarray:
    """Returns positions of ungraded images to hold against favourites, where every grade is one's; else none."""
    if not only_favourites(np.array([entry.grade for entry in inputs.grades.values()])):
        return np.zeros(0, np.int64)
    liked, aside = _positions(view, inputs.grades), _positions(view, inputs.panel)
    return choose_unlabelled(view.sources, SELF, liked, np.concatenate([liked, aside]), np.random.default_rng(0))


def _refused(diff: Diff | None) -> list[Sentence]:
    if diff is None or diff.verdict is not PromotionDecision.WORSE or diff.srcc is None or diff.earlier_srcc is None:
        return []
    correlations = {"srcc": diff.srcc.value, "earlier": diff.earlier_srcc.value}
    return [Sentence("not_activated", {"n": diff.srcc.n, "against": diff.against, **correlations})]


def _check_enough(inputs: _FitInputs, free: int) -> None:
    taste, grades = inputs.taste, inputs.grades
    given = np.array([entry.grade for entry in grades.values()], dtype=np.int64)
    kinds = len({entry.grade for entry in grades.values()})
    compared = clear(inputs.compared.said)
    if enough(given, inputs.compared.said):
        return
    if len(grades) < LEAST_LABELS or not only_favourites(given):
        raise FailedPrecondition(
            f"expected at least {LEAST_LABELS} graded images of at least two grades, or {LEAST_COMPARED} pairs of "
            f"which one image is preferred, tastes/{taste.id} has {len(grades)} graded, of {kinds} grades, and "
            f"{compared} pairs; grade more (konomi label), or compare more (the view Pairs)",
            reason="TOO_FEW_LABELS",
        )
    if free < LEAST_UNLABELLED:
        raise FailedPrecondition(
            f"expected at least {LEAST_UNLABELLED} ungraded images, from where your favourites are or of your own, to "
            f"tell favourites from, tastes/{taste.id} has {free} and nothing but favourites graded; import or generate "
            "more, or grade some you do not like",
            reason="TOO_FEW_LABELS",
        )
