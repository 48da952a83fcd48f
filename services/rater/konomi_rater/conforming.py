"""Chooses by evidence: the ungraded images that random labels show to be good, with the false-discovery rate bounded.

The scorer is fitted on the other labels only, so that the random ones are as new to it as the candidates are. Of labels
that are mostly random at most half speak as evidence. Below 500 labels nothing is chosen (design: taste.md, section 6).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import sqlalchemy

from konomi.errors import InvalidArgument
from konomi_rater import panel
from konomi_rater.acquisition import Reason
from konomi_rater.conformal import benjamini_hochberg, least_share, p_values
from konomi_rater.fitting import quick_fit
from konomi_rater.labels import LabelEntry
from konomi_rater.memory import View

LEAST_LABELS = 500
SSR = 4

SENTENCES = {
    "few": "Selection by evidence needs {needed} labels and there are {labels}: nothing was selected; until then "
    "`konomi rater certify` can vouch for a set.",
    "none": "{n} random labels show none of the images to be good at a false-discovery rate of {rate:.0%}: at least "
    "{share:.1%} of the candidates would have to qualify together; grade more random images, or allow a higher rate.",
    "all": "At most {rate:.0%} of these {count} images are below SSR, on average over draws of {n} random labels.",
    "cut": "At most {rate:.0%} of the {admitted} images that qualify are below SSR, on average over draws of {n} "
    "random labels; the {count} with the strongest evidence were selected.",
}
"""Name to what is said of a selection."""


@dataclass(frozen=True)
class Evidence:
    """What the labels show about M candidates.

    Attributes:
        order: rows that qualify, the strongest evidence first.
        labels: random labels that spoke.
        explanation: why nothing qualifies; empty where something does.
    """

    order: list[int]
    labels: int
    explanation: str


def weigh(connection: sqlalchemy.Connection, taste: str, view: View, positions: np.ndarray, rate: float) -> Evidence:
    """Weighs ungraded candidates.

    Args:
        connection: a snapshot.
        taste: id of the taste.
        view: its images.
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
    training, aside = panel.split(connection, taste)
    known = {digest: entry for digest, entry in {**training, **aside}.items() if view.at(digest) is not None}
    witnesses = _witnesses(known, set(aside))
    rest = {digest: entry for digest, entry in known.items() if digest not in witnesses}
    if len(known) < LEAST_LABELS or len({entry.grade for entry in rest.values()}) < 2:
        return Evidence([], len(witnesses), SENTENCES["few"].format(needed=LEAST_LABELS, labels=len(known)))
    rows, grades = _columns(view, rest)
    head = quick_fit(view.embeddings[rows], grades, view.embeddings)
    rows, grades = _columns(view, witnesses)
    said, asked = (head.predict(view.embeddings[part]).probabilities[:, 3:].sum(1) for part in (rows, positions))
    p = p_values(said, grades >= SSR, asked)
    admitted = np.flatnonzero(benjamini_hochberg(p, rate))
    order = [int(row) for row in admitted[np.lexsort((-asked[admitted], p[admitted]))]]
    share = least_share(len(witnesses), rate)
    words = "" if order else SENTENCES["none"].format(n=len(witnesses), rate=rate, share=share)
    return Evidence(order, len(witnesses), words)


def promise(evidence: Evidence, count: int, rate: float) -> str:
    """Returns what is promised of the first `count` images that qualify."""
    if evidence.explanation:
        return evidence.explanation
    numbers = {"rate": rate, "n": evidence.labels, "count": count, "admitted": len(evidence.order)}
    return SENTENCES["all" if count >= len(evidence.order) else "cut"].format(**numbers)


def _witnesses(known: Mapping[str, LabelEntry], aside: set[str]) -> dict[str, LabelEntry]:
    """Returns the random labels that speak: the panel's first, never more than half of all labels."""
    drawn = sorted(
        (d for d, entry in known.items() if entry.reason == Reason.RANDOM), key=lambda d: (d not in aside, d)
    )
    return {digest: known[digest] for digest in drawn[: len(known) // 2]}


def _columns(view: View, grades: Mapping[str, LabelEntry]) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([view.position[digest] for digest in grades], dtype=np.int64)
    return rows, np.array([entry.grade for entry in grades.values()], dtype=np.int64)
