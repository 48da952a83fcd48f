"""Which of two images the owner prefers, as small shifts of their latent targets inside a top grade.

Bradley-Terry strengths by choix, among the images of one grade only: the grade says in which interval of the latent
scale an image lies, its comparisons where in it. As shifts of targets they leave every closed form of the process
intact, and they cannot contradict a grade; pairwise likelihoods inside the process would couple the labels and could.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from konomi_rater.preference.ordinal import Scale

TOP_GRADES = (4, 5)
REGULARISATION = 0.5
"""choix's alpha: keeps an image that always wins finite."""
REACH = 0.8
"""Largest part of the way from the middle of a grade to its cut that comparisons may move a target."""
UNBOUNDED = 1.0
"""Width a grade without an upper cut is taken to have, in latent units."""


@dataclass(frozen=True)
class Preference:
    """One comparison between rows of the labelled images."""

    winner: int
    loser: int
    tie: bool = False


def shifts(preferences: Sequence[Preference], grades: np.ndarray, scale: Scale) -> np.ndarray:
    """Returns what to add to each latent target: (n,), 0 where nothing was compared.

    Args:
        preferences: comparisons; only those within one top grade count, a tie counts half either way.
        grades: (n,) integers 1..5.
        scale: the cuts.
    """
    moved = np.zeros(len(grades))
    for grade in TOP_GRADES:
        pairs = [p for p in preferences if grades[p.winner] == grade == grades[p.loser]]
        if not pairs:
            continue
        rows = sorted({row for pair in pairs for row in (pair.winner, pair.loser)})
        strengths = _strengths(pairs, {row: place for place, row in enumerate(rows)})
        low = scale.cuts[grade - 2]
        high = scale.cuts[grade - 1] if grade <= len(scale.cuts) else low + UNBOUNDED
        middle = scale.targets[grade - 1]
        up, down = REACH * max(high - middle, 0.0), REACH * (middle - low)
        pull = np.tanh(strengths)
        moved[rows] = np.where(pull > 0, pull * up, pull * down)
    return moved


def _strengths(pairs: Sequence[Preference], place: Mapping[int, int]) -> np.ndarray:
    """Returns Bradley-Terry strengths of mean 0; a tie is entered both ways, a clear answer twice."""
    import choix

    games = []
    for pair in pairs:
        winner, loser = place[pair.winner], place[pair.loser]
        games += [(winner, loser), (loser, winner) if pair.tie else (winner, loser)]
    strengths = np.asarray(choix.ilsr_pairwise(len(place), games, alpha=REGULARISATION))
    return strengths - strengths.mean()
