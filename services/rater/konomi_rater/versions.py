"""Fits, stores and activates rater versions."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import sqlalchemy

from konomi.errors import FailedPrecondition
from konomi_rater import catalogue, fitting, labels, tastes
from konomi_rater.acquisition import Reason
from konomi_rater.fitting import LEAST_LABELS, Fitted, Step, Training
from konomi_rater.head_file import MEDIA_TYPE, to_bytes
from konomi_rater.labels import LabelEntry
from konomi_rater.metrics import Estimate, quadratic_kappa
from konomi_rater.tastes import TasteRow, VersionRow
from konomi_rater.workspace import Workspace

LEAST_RETESTS = 5


@dataclass(frozen=True)
class NewVersion:
    """A fitted version whose artifact is stored and whose row is not."""

    row: VersionRow


class Versions:
    """The use cases behind FitRater and the rater versions."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def fit(self, taste_id: str, seed: int) -> Iterator[Step | NewVersion]:
        """Yields progress, then the version to store with `keep`.

        Args:
            taste_id: the taste.
            seed: of folds and bootstrap.

        Raises:
            FailedPrecondition: fewer than five labels, or all of one grade.
        """
        yield Step("labels", 0, 0)
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            grades = {
                d: e for d, e in sorted(labels.grades_in_force(connection, taste_id).items()) if view.at(d) is not None
            }
            retests = labels.retests(connection, taste_id)
            _check_enough(taste, grades)
            positions = np.array([view.position[digest] for digest in grades])
            images = catalogue.read_rows(connection, taste_id, view.rows[positions].tolist())
        training = Training(
            embeddings=view.embeddings[positions],
            grades=np.array([entry.grade for entry in grades.values()]),
            groups=[
                catalogue.group_of(image.facts, entry) for image, entry in zip(images, grades.values(), strict=True)
            ],
            drawn=np.array([entry.reason == Reason.RANDOM for entry in grades.values()]),
            background=view.embeddings,
        )
        for step in fitting.fit(training, seed % 2**63):
            yield step if isinstance(step, Step) else self._stored(taste, training, step, grades, retests)

    def keep(self, connection: sqlalchemy.Connection, version: NewVersion, *, activate: bool) -> VersionRow:
        """Writes the row of a fitted version in the caller's transaction; it scores from then on, if activated."""
        return tastes.add_version(connection, version.row, activate=activate)

    def _stored(
        self,
        taste: TasteRow,
        training: Training,
        fitted: Fitted,
        grades: dict[str, LabelEntry],
        retests: list[tuple[int, int]],
    ) -> NewVersion:
        data = to_bytes(fitted.head, training.embeddings, training.grades, taste.embedder)
        artifact = self._workspace.store.put(data, MEDIA_TYPE)
        row = VersionRow(
            taste=taste.id,
            number=0,
            created=self._workspace.clock(),
            label_count=len(grades),
            head=fitted.head.kind,
            embedder=taste.embedder,
            metrics={**fitted.metrics, **_retest(retests)},
            candidates=fitted.candidates,
            alarms=fitted.alarms,
            artifact=artifact.digest,
            label_digest=labels.digest_of(grades),
        )
        return NewVersion(row)


def _check_enough(taste: TasteRow, grades: dict[str, LabelEntry]) -> None:
    kinds = len({entry.grade for entry in grades.values()})
    if len(grades) < LEAST_LABELS or kinds < 2:
        raise FailedPrecondition(
            f"expected at least {LEAST_LABELS} graded images of at least two grades, "
            f"tastes/{taste.id} has {len(grades)} of {kinds}; grade more",
            reason="TOO_FEW_LABELS",
        )


def _retest(pairs: list[tuple[int, int]]) -> dict[str, Estimate]:
    """Measures the owner against the owner: kappa of the two grades of hidden repeats, with a bootstrap interval."""
    if len(pairs) < LEAST_RETESTS:
        return {}
    first, second = np.array(pairs).T
    rng = np.random.default_rng(0)
    draws = [quadratic_kappa(first[i], second[i]) for i in rng.integers(0, len(pairs), (200, len(pairs)))]
    finite = np.array(draws)[np.isfinite(draws)]
    value = quadratic_kappa(first, second)
    if not np.isfinite(value) or not len(finite):
        return {}
    low, high = np.quantile(finite, [0.025, 0.975])
    return {"retest_qwk": Estimate(value, float(low), float(high), len(pairs))}
