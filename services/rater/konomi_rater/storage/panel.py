"""The frozen audit panel: random labels set aside as they are recorded, which no rater version is ever fitted on.

Whether a label joins is a lot drawn from its image's digest, so it depends on neither grade nor order, and a retry
decides the same. Only an image without an earlier entry can join: no version can have been fitted on it before.
Hidden grades of a unit (see `due`) join always: beyond the panel's size, and before there is a panel.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, text

from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.storage.embeddings import BASE_UNITS, MatrixView
from konomi_rater.storage.labels import LabelEntry

REASONS = (SuggestionReason.AUDIT, SuggestionReason.AUDIT_NOVEL)
LEAST_IMAGES = 16
"""Images of a unit below which it is not looked at."""


def newest(view: MatrixView) -> tuple[str, np.ndarray]:
    """Returns the unit whose first image is newest, the base model apart, and the rows (N,) of its own images."""
    units = [(unit, rows) for unit, rows in view.own_units(LEAST_IMAGES).items() if unit not in BASE_UNITS]
    return units[-1] if units else ("", np.zeros(0, np.int64))


def due(
    view: MatrixView,
    grades: Mapping[str, LabelEntry],
    free: np.ndarray,
    quota: int,
    count: int,
    farthest: Callable[[np.ndarray, int], Sequence[int]],
) -> list[tuple[int, SuggestionReason]]:
    """Returns up to `count` rows of the newest unit that are still to be looked at, as many random as novel.

    Args:
        view: the taste's images.
        grades: grades in force, by digest.
        free: (M,) rows that may be shown.
        quota: hidden grades a unit gets in all.
        count: how many at most now.
        farthest: of rows (N,), up to so many that are least like anything graded and still plausible.
    """
    unit, rows = newest(view)
    digests = [view.digests[int(row)] for row in rows] if quota else []
    reasons = [entry.reason for digest in digests if (entry := grades.get(digest)) is not None]
    missing = {
        SuggestionReason.AUDIT: quota - quota // 2 - reasons.count(SuggestionReason.AUDIT),
        SuggestionReason.AUDIT_NOVEL: quota // 2 - reasons.count(SuggestionReason.AUDIT_NOVEL),
    }
    left = rows[np.isin(rows, free)]
    novel = min(max(0, missing[SuggestionReason.AUDIT_NOVEL]), count // 2)
    drawn = min(max(0, missing[SuggestionReason.AUDIT]), count - novel)
    lots = sorted(left, key=lambda row: _unit_lot(unit, view.digests[int(row)]))[:drawn]
    others = left[~np.isin(left, lots)]
    room = min(max(0, missing[SuggestionReason.AUDIT_NOVEL]), count - len(lots))
    far = farthest(others, room) if room and len(others) else ()
    return [(int(row), SuggestionReason.AUDIT) for row in lots] + [
        (int(row), SuggestionReason.AUDIT_NOVEL) for row in far
    ]


def _unit_lot(unit: str, digest: str) -> str:
    """Returns what orders a unit's images by chance, the same whenever it is asked for."""
    return hashlib.sha256(f"hidden/{unit}/{digest}".encode()).hexdigest()


@dataclass(frozen=True)
class PanelRule:
    """When labels are set aside.

    Attributes:
        start: graded images of a taste beyond which the panel grows: not one of the first so many joins.
        size: members at which it is full.
        share: share of the random labels that joins, 0..1.
    """

    start: int
    size: int
    share: float


def set_aside(
    connection: Connection, taste: str, entries: Sequence[LabelEntry], rule: PanelRule, now: float, graded: int
) -> int:
    """Lets freshly recorded labels join the panel where the rule says so, and returns how many did.

    Args:
        connection: the transaction that recorded them.
        taste: id of the taste.
        entries: labels in the order they were recorded.
        rule: when labels are set aside.
        now: Unix time.
        graded: graded images of the taste before the first of them, so that one call sets aside what many would.
    """
    hidden = [entry for entry in entries if entry.reason in REASONS and entry.grade]
    joined = _join(connection, taste, hidden, len(hidden), now)
    first = {entry.digest: entry for entry in reversed(entries) if entry.grade}
    fresh = sorted((e for e in first.values() if _first(connection, taste, e)), key=lambda entry: entry.sequence)
    late = {entry.digest for entry in fresh[max(0, rule.start - graded) :]}
    drawn = [
        e
        for e in entries
        if e.reason == SuggestionReason.RANDOM and e.digest in late and e.grade and _lot(taste, e.digest) < rule.share
    ]
    return joined + _join(connection, taste, drawn, rule.size - count(connection, taste), now)


def count(connection: Connection, taste: str, until: float = math.inf) -> int:
    """Returns how many images the panel has, or had at a Unix time."""
    query = text("SELECT COUNT(*) FROM panel WHERE taste = :taste AND joined <= :until")
    return int(connection.execute(query, {"taste": taste, "until": until}).scalar_one())


def graded_images(connection: Connection, taste: str) -> int:
    """Returns how many images of a taste are graded."""
    query = text("SELECT graded FROM taste_counts WHERE taste = :taste")
    return int(connection.execute(query, {"taste": taste}).scalar() or 0)


def members(connection: Connection, taste: str) -> set[str]:
    """Returns the digests of the panel."""
    rows = connection.execute(text("SELECT digest FROM panel WHERE taste = :taste"), {"taste": taste})
    return {row.digest for row in rows}


def _join(connection: Connection, taste: str, entries: Sequence[LabelEntry], room: int, now: float) -> int:
    """Lets up to `room` of the entries join, of images without an earlier entry, and returns how many did."""
    joined = 0
    for entry in entries:
        if joined < room and _first(connection, taste, entry):
            bound = {"taste": taste, "digest": entry.digest, "now": now}
            connection.execute(text("INSERT INTO panel VALUES (:taste, :digest, :now) ON CONFLICT DO NOTHING"), bound)
            joined += 1
    return joined


def _lot(taste: str, digest: str) -> float:
    return int(hashlib.sha256(f"panel/{taste}/{digest}".encode()).hexdigest()[:12], 16) / 16**12


def _first(connection: Connection, taste: str, entry: LabelEntry) -> bool:
    earlier = text("SELECT 1 FROM labels WHERE taste = :taste AND digest = :digest AND sequence < :sequence")
    bound = {"taste": taste, "digest": entry.digest, "sequence": entry.sequence}
    return connection.execute(earlier, bound).first() is None
