"""Which images a fit turns away from: for every prompt as many of the worst as were selected of it.

A signed fit (DiffusionNFT, Zheng et al. 2025, 2509.16117; see the trainer's `contrast`) learns from the two tails of
one prompt: what they share, the base model's own habits among it, cancels, and what differs is taste. Worst is what the
owner graded N, then R, then the lowest upper bound, utility plus one deviation: what is bad even with the doubt in its
favour. Away from images that are not the model's own the push would have no end, so imported ones are never taken.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

N, R, SSR = 1, 2, 4


class AvoidanceReason(IntEnum):
    """Why an image is turned away from; the numbers are the contract's."""

    GRADED_N = 1
    GRADED_R = 2
    UPPER_BOUND = 3


@dataclass(frozen=True)
class AvoidableImages:
    """N images that might be turned away from, as columns.

    Attributes:
        embeddings: (N, D) unit rows.
        upper_bounds: (N,) utility plus std; None where no rater scores, when only what is graded N or R is worst.
        grades: (N,) 0 where ungraded, else 1..5.
        own: (N,) bool, made by the base model or a unit and no part of the training set.
        prompts: (N) texts.
    """

    embeddings: np.ndarray
    upper_bounds: np.ndarray | None
    grades: np.ndarray
    own: np.ndarray
    prompts: Sequence[str]

    def reason(self, row: int) -> AvoidanceReason | None:
        """Returns why an image may be turned away from; None where it may not."""
        grade = int(self.grades[row])
        if not self.own[row] or grade >= SSR:
            return None
        if grade in (N, R):
            return AvoidanceReason.GRADED_N if grade == N else AvoidanceReason.GRADED_R
        return None if self.upper_bounds is None else AvoidanceReason.UPPER_BOUND


def avoid(
    images: AvoidableImages, selected: np.ndarray, wanted: Mapping[str, int], duplicate_cosine: float
) -> list[tuple[int, AvoidanceReason]]:
    """Returns rows to turn away from, each with its reason: graded N, then R, then the lowest upper bound.

    A duplicate of a selected image is never taken, which would push to both sides at once, nor one of a row that was.

    Args:
        images: N images.
        selected: (S, D) unit rows of the images selected by taste.
        wanted: prompt → how many are wanted of it at most.
        duplicate_cosine: cosine above which two images are duplicates.
    """
    reasons = [images.reason(row) for row in range(len(images.grades))]
    bounds = np.zeros(len(reasons)) if images.upper_bounds is None else images.upper_bounds
    order = sorted(
        (row for row, reason in enumerate(reasons) if reason is not None and images.prompts[row] in wanted),
        key=lambda row: (reasons[row], bounds[row], row),
    )
    room, kept, found = Counter(wanted), list(selected), []
    for row in order:
        prompt, reason = images.prompts[row], reasons[row]
        if reason is None or room[prompt] < 1:
            continue
        if kept and float((np.stack(kept) @ images.embeddings[row]).max()) > duplicate_cosine:
            continue
        room[prompt] -= 1
        kept.append(images.embeddings[row])
        found.append((row, reason))
    return found
