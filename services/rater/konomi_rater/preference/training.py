"""What a fit of a rater version reads: labels, what was compared, and what is known of the images."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from konomi_rater.preference.comparisons import LEAST_COMPARED, Preference, clear
from konomi_rater.preference.head import MOST_EXACT
from konomi_rater.preference.population.file import Population
from konomi_rater.preference.positive_unlabelled import LEAST_UNLABELLED, only_favourites
from konomi_rater.preference.provenance.parameters import Provenance


@dataclass(frozen=True)
class Training:
    """Everything a fit reads.

    Attributes:
        embeddings: (n, D) unit rows of the graded images.
        grades: (n,) integers 1..5.
        groups: n group keys; near-duplicates share one (prompt and seed) and never straddle a fold.
        drawn: (n,) bool, graded when shown at random.
        background: (N, D) unit rows of all images of the taste.
        provenances: how each graded image was made; none where that is not known of all.
        comparisons: which of two images is preferred, in the order that was said: rows of the graded ones, then of the
            compared.
        compared: (c, D) unit rows of images that were compared and not graded.
        compared_groups: their c group keys.
        compared_provenances: how each of them was made.
        unlabelled: (u, D) ungraded images, for the case that every grade is a favourite's.
        populations: what people in general like, where something is known; each is used only where it helps.
    """

    embeddings: np.ndarray
    grades: np.ndarray
    groups: Sequence[str]
    drawn: np.ndarray
    background: np.ndarray
    provenances: Sequence[Provenance] = ()
    comparisons: Sequence[Preference] = ()
    unlabelled: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    populations: Sequence[Population] = ()
    compared: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    compared_groups: Sequence[str] = ()
    compared_provenances: Sequence[Provenance] = ()

    @property
    def is_favourites(self) -> bool:
        """Says whether only favourites are graded, and there is enough to hold them against."""
        return len(self.unlabelled) >= LEAST_UNLABELLED and only_favourites(self.grades)

    @property
    def learns_with_unlabelled(self) -> bool:
        """Says whether there are pairs enough to learn from favourites, the ungraded and pairs at once."""
        few = len(self.grades) + len(self.unlabelled) <= MOST_EXACT
        return few and clear(self.comparisons) >= LEAST_COMPARED

    def take(self, rows: np.ndarray) -> "Training":
        """Returns the same with the labels at rows (R,) alone and no comparisons."""
        return replace(
            self,
            embeddings=self.embeddings[rows],
            grades=self.grades[rows],
            groups=[self.groups[row] for row in rows],
            drawn=self.drawn[rows],
            provenances=[self.provenances[row] for row in rows] if self.provenances else (),
            comparisons=(),
            compared=self.compared[:0],
            compared_groups=(),
            compared_provenances=(),
        )

    def graded_alone(self) -> "Training":
        """Returns the same without the images that were only compared: where pairs are no labels, they are none."""
        between = [one for one in self.comparisons if max(one.winner, one.loser) < len(self.grades)]
        return replace(
            self, comparisons=between, compared=self.compared[:0], compared_groups=(), compared_provenances=()
        )

    def with_unlabelled(self) -> "Training":
        """Returns the same with the ungraded images among the graded ones, of grade 0."""
        graded, more = len(self.grades), len(self.unlabelled)
        rows = np.append(np.arange(graded), np.arange(graded, graded + len(self.compared)) + more)
        return replace(
            self,
            embeddings=np.concatenate([self.embeddings, self.unlabelled]),
            grades=np.append(self.grades, np.zeros(more, self.grades.dtype)),
            groups=[*self.groups, *(f"ungraded {row}" for row in range(more))],
            drawn=np.append(self.drawn, np.zeros(more, bool)),
            provenances=(),
            comparisons=[
                replace(one, winner=int(rows[one.winner]), loser=int(rows[one.loser])) for one in self.comparisons
            ],
        )

    def seen(self) -> np.ndarray:
        """Returns the embeddings (n + c, D) of all images that were judged, graded ones first."""
        return np.concatenate([self.embeddings, self.compared]) if len(self.compared) else self.embeddings

    def seen_grades(self) -> np.ndarray:
        """Returns their grades (n + c,), 0 for what was only compared."""
        return np.append(self.grades, np.zeros(len(self.compared), self.grades.dtype))

    def seen_provenances(self) -> list[Provenance | None]:
        """Returns how these (n + c) were made; None where it is not known."""
        graded, compared = list(self.provenances), list(self.compared_provenances)
        return [
            *(graded if len(graded) == len(self.grades) else [None] * len(self.grades)),
            *(compared if len(compared) == len(self.compared) else [None] * len(self.compared)),
        ]
