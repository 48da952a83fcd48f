"""Hidden grades of the newest unit: which of its images are shown unmarked, and whose grades no rater is fitted on.

After a night its unit is looked at twenty times among whatever else is graded, half of it drawn at random and half
where nothing like it was graded (systems.md, section 5, "label audit"). The random half is people's word in the gap
alarm; all of it joins the frozen panel, so that a rater is held against what it has led to and never saw.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from konomi_rater.acquisition import Reason
from konomi_rater.labels import LabelEntry
from konomi_rater.memory import View
from konomi_rater.scoring import BASE_UNITS

REASONS = (Reason.AUDIT, Reason.AUDIT_NOVEL)
LEAST_IMAGES = 16
"""Images of a unit below which it is not looked at."""


def newest(view: View) -> tuple[str, np.ndarray]:
    """Returns the unit whose first image is newest, the base model apart, and the rows (N,) of its own images."""
    made = [(unit, rows) for unit, rows in view.own_units(LEAST_IMAGES).items() if unit not in BASE_UNITS]
    return made[-1] if made else ("", np.zeros(0, np.int64))


def due(
    view: View,
    grades: Mapping[str, LabelEntry],
    free: np.ndarray,
    wanted: int,
    count: int,
    farthest: Callable[[np.ndarray, int], Sequence[int]],
) -> list[tuple[int, Reason]]:
    """Returns up to `count` rows of the newest unit that are still to be looked at, as many random as novel.

    Args:
        view: the taste's images.
        grades: grades in force, by digest.
        free: (M,) rows that may be shown.
        wanted: hidden grades a unit gets in all.
        count: how many at most now.
        farthest: of rows (N,), up to so many that are least like anything graded and still plausible.
    """
    unit, rows = newest(view)
    said = [entry.reason for row in rows if (entry := grades.get(view.digests[row])) is not None]
    missing = {
        Reason.AUDIT: wanted - wanted // 2 - said.count(Reason.AUDIT),
        Reason.AUDIT_NOVEL: wanted // 2 - said.count(Reason.AUDIT_NOVEL),
    }
    left = rows[np.isin(rows, free)]
    novel = min(max(0, missing[Reason.AUDIT_NOVEL]), count // 2)
    drawn = min(max(0, missing[Reason.AUDIT]), count - novel)
    lots = sorted(left, key=lambda row: _lot(unit, view.digests[row]))[:drawn]
    others = left[~np.isin(left, lots)]
    room = min(max(0, missing[Reason.AUDIT_NOVEL]), count - len(lots))
    far = farthest(others, room) if room and len(others) else ()
    return [(int(row), Reason.AUDIT) for row in lots] + [(int(row), Reason.AUDIT_NOVEL) for row in far]


def _lot(unit: str, digest: str) -> str:
    """Returns what orders a unit's images by chance, the same whenever it is asked for."""
    return hashlib.sha256(f"hidden/{unit}/{digest}".encode()).hexdigest()
