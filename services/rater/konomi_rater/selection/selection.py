"""Which candidates train the next unit: graded first, then the lower bound, under a gate, a quota and a duplicate cut.

Every candidate ends as selected or with exactly one reason.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from konomi_rater.measures.diversity import facility_location, farthest_points

SSR, UR = 4, 5
SELF, CONSENTED, SCRAPED, IMPORTED = 1, 2, 3, 4
SHORT = 0.02
"""How far below its share whole images may leave the base model's part of a set; a night's guard allows as much."""


class RejectionReason(IntEnum):
    """Why a candidate was not selected; the numbers are the contract's."""

    DUPLICATE = 1
    UNTYPICAL = 2
    QUOTA = 3
    LOWER_BOUND = 4
    GRADE = 5
    SOURCE = 6
    UNKNOWN = 7
    EVIDENCE = 8
    NEAR_COPY = 9
    DRIFTED = 10
    SURPLUS = 11


@dataclass(frozen=True)
class Policy:
    """What a policy admits before anything is ranked.

    Attributes:
        least_grade: graded images below it are rejected.
        graded_only: ungraded images are rejected too.
        sources: sources admitted.
        by_evidence: ungraded images are chosen by what random labels show, not ranked (see `conformal`).
    """

    least_grade: int
    graded_only: bool
    sources: frozenset[int]
    by_evidence: bool = False


POLICIES: Mapping[str, Policy] = {
    "converge": Policy(SSR, False, frozenset({SELF, CONSENTED, IMPORTED})),
    "golden": Policy(UR, True, frozenset({SELF, CONSENTED, SCRAPED, IMPORTED})),
    "conformal": Policy(UR, False, frozenset({SELF, CONSENTED, IMPORTED}), by_evidence=True),
}
"""Every policy by name; another policy is another line."""


SPREADS: Mapping[str, Callable[[np.ndarray, int], list[int]]] = {
    "farthest_point": farthest_points,
    "facility_location": facility_location,
}
"""How a set can be spread over its best candidates, by the contract's names; another way is another line."""
SPREAD_FROM = 3
MOST_SPREAD = 6000
"""Candidates spread at most: facility location holds all their mutual similarities."""


@dataclass(frozen=True)
class Candidates:
    """N candidates as columns.

    Attributes:
        embeddings: (N, D) unit rows.
        lower_bounds: (N,) utility minus kappa times std.
        grades: (N,) 0 where ungraded, else 1..5.
        sources: (N,) source numbers.
        typical: (N,) bool, inside the gate.
        unknown: (N,) bool, too far from everything graded for the rater to know.
        cells: (N,) cell numbers.
        prompts: (N,) prompt numbers from 0; equal prompts are equal numbers.
        copies: (N,) bool, near-copies of what their maker was trained on.
        certified: (N,) bool, members of a certified set, which a policy of graded images admits ungraded.
    """

    embeddings: np.ndarray
    lower_bounds: np.ndarray
    grades: np.ndarray
    sources: np.ndarray
    typical: np.ndarray
    unknown: np.ndarray
    cells: np.ndarray
    prompts: np.ndarray
    copies: np.ndarray
    certified: np.ndarray


@dataclass(frozen=True)
class SelectionLimits:
    """How much is taken.

    Attributes:
        count: at most this many.
        duplicate_cosine: cosine above which two images are duplicates.
        cell_caps: (C,) at most this many in each cell.
        prompt_caps: (P,) at most this many of each prompt.
        spread: "" takes the best; a name of SPREADS draws from the best SPREAD_FROM times as many.
    """

    count: int
    duplicate_cosine: float
    cell_caps: np.ndarray
    prompt_caps: np.ndarray
    spread: str = ""


@dataclass(frozen=True)
class SelectionOutcome:
    """The outcome of N candidates.

    Attributes:
        selected: rows, best first.
        rejected: row to reason, all others.
        duplicate_of: row to the selected row it duplicates.
    """

    selected: list[int]
    rejected: dict[int, RejectionReason]
    duplicate_of: dict[int, int]


def caps(shares: np.ndarray, count: int, quota: float) -> np.ndarray:
    """Returns how many each cell or prompt may hold: `quota` times its share of `count`, at least 1; 0 is no quota."""
    if quota <= 0:
        return np.full(len(shares), count)
    return np.floor(quota * shares * count + 1e-9).astype(int).clip(1)


def select(policy: Policy, candidates: Candidates, limits: SelectionLimits) -> SelectionOutcome:
    """Walks the candidates from the best and keeps what every rule admits.

    The owner's own UR and SSR come first and pass the gate: the gate guards against what the rater
    mistakes, and these it did not judge.
    """
    reasons = {row: _refusal(policy, candidates, row) for row in range(len(candidates.grades))}
    rejected = {row: reason for row, reason in reasons.items() if reason is not None}
    order = [int(row) for row in np.lexsort((-candidates.lower_bounds, -candidates.grades)) if int(row) not in rejected]
    choice = _walk(candidates, limits, _spread(candidates, order, limits), rejected)
    rank = {row: place for place, row in enumerate(order)}
    return SelectionOutcome(sorted(choice.selected, key=rank.__getitem__), choice.rejected, choice.duplicate_of)


def _refusal(policy: Policy, candidates: Candidates, row: int) -> RejectionReason | None:
    """Returns why a candidate cannot be kept whatever else is; what a person vouched for passes the gates."""
    graded, certified = candidates.grades[row] > 0, candidates.certified[row] and policy.graded_only
    if int(candidates.sources[row]) not in policy.sources:
        return RejectionReason.SOURCE
    if candidates.grades[row] < policy.least_grade and (graded or policy.graded_only) and (graded or not certified):
        return RejectionReason.GRADE
    if candidates.copies[row] and not graded:
        return RejectionReason.NEAR_COPY
    if graded or certified:
        return None
    if not candidates.typical[row]:
        return RejectionReason.UNTYPICAL
    return RejectionReason.UNKNOWN if candidates.unknown[row] else None


def _spread(candidates: Candidates, order: list[int], limits: SelectionLimits) -> list[int]:
    """Returns the order to walk in: the best few times as many are spread out first, the rest follow as they stand."""
    if not limits.spread:
        return order
    best = order[: min(SPREAD_FROM * limits.count, MOST_SPREAD)]
    picks = SPREADS[limits.spread](candidates.embeddings[best], limits.count)
    first = [best[pick] for pick in picks]
    taken = set(first)
    return first + [row for row in order if row not in taken]


def admit(policy: Policy, candidates: Candidates, order: list[int], count: int) -> SelectionOutcome:
    """Takes the first `count` of the ungraded candidates that qualify; nothing else decides, or the promise is void.

    Args:
        policy: its sources.
        candidates: N candidates.
        order: rows that qualify, best first.
        count: at most this many.
    """
    allowed = [int(source) in policy.sources for source in candidates.sources]
    selected = [row for row in order if allowed[row] and not candidates.grades[row]][:count]
    rejected = dict.fromkeys(range(len(allowed)), RejectionReason.EVIDENCE)
    rejected |= dict.fromkeys(order, RejectionReason.LOWER_BOUND)
    rejected |= {int(row): RejectionReason.GRADE for row in np.flatnonzero(candidates.grades)}
    rejected |= {row: RejectionReason.SOURCE for row, fine in enumerate(allowed) if not fine}
    return SelectionOutcome(selected, {row: why for row, why in rejected.items() if row not in set(selected)}, {})


def _walk(
    candidates: Candidates, limits: SelectionLimits, order: list[int], rejected: dict[int, RejectionReason]
) -> SelectionOutcome:
    selected: list[int] = []
    duplicate_of: dict[int, int] = {}
    filled = np.zeros(len(limits.cell_caps), dtype=int)
    asked = np.zeros(len(limits.prompt_caps), dtype=int)
    kept = np.empty((min(limits.count, len(order)), candidates.embeddings.shape[1]), np.float32)
    for row in order:
        if len(selected) >= limits.count:
            rejected[row] = RejectionReason.LOWER_BOUND
            continue
        cell, prompt = candidates.cells[row], candidates.prompts[row]
        similarities = kept[: len(selected)] @ candidates.embeddings[row]
        nearest = int(np.argmax(similarities)) if len(selected) else -1
        if nearest >= 0 and similarities[nearest] > limits.duplicate_cosine:
            rejected[row], duplicate_of[row] = RejectionReason.DUPLICATE, selected[nearest]
        elif filled[cell] >= limits.cell_caps[cell] or asked[prompt] >= limits.prompt_caps[prompt]:
            rejected[row] = RejectionReason.QUOTA
        else:
            kept[len(selected)] = candidates.embeddings[row]
            filled[cell] += 1
            asked[prompt] += 1
            selected.append(row)
    return SelectionOutcome(selected, rejected, duplicate_of)


def fill_up(
    embeddings: np.ndarray, grades: np.ndarray, lower_bounds: np.ndarray, room: int, duplicate_cosine: float
) -> list[int]:
    """Returns rows of graded images that fill a set up: the best graded first, then the lower bound; no duplicates.

    Args:
        embeddings: (N, D) unit rows of the images.
        grades: (N,) 1..5.
        lower_bounds: (N,) utility minus kappa times std.
        room: how many are wanted.
        duplicate_cosine: cosine above which two images are duplicates.
    """
    kept: list[int] = []
    for row in np.lexsort((-lower_bounds, -grades.astype(np.int64))).tolist():
        if len(kept) < room and not (embeddings[kept] @ embeddings[row] > duplicate_cosine).any():
            kept.append(row)
    return kept


def draw_base(eligible: np.ndarray, selected: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draws base rows at random so that they make `share` of the whole set, or all there are.

    The number is rounded; where rounding down would leave less than the share by more than SHORT, as it does to a set
    of 1, 4 or 7, it is rounded up.

    Args:
        eligible: (N,) rows that may be drawn.
        selected: how many were selected by taste.
        share: share of the whole set, 0..0.9.
        rng: source of randomness.
    """
    wanted = share / (1.0 - share) * selected
    count = round(wanted)
    if count < (share - SHORT) * (selected + count):
        count = math.ceil(wanted)
    return rng.permutation(eligible)[:count]
