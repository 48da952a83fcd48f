"""Watches a rater for over-optimisation: what images, selections and people's random grades say together."""

import hashlib
import json

import numpy as np
import sqlalchemy
from sqlalchemy import text

from konomi_rater import audits, blind_audits
from konomi_rater.acquisition import Reason
from konomi_rater.alarms import Generation, Pressure, pressure_of
from konomi_rater.held_out import LEAST_IMAGES
from konomi_rater.memory import View
from konomi_rater.preference import Head
from konomi_rater.scoring import BASE_UNITS, TYPICAL_PERCENTILE
from konomi_rater.selecting import Selection
from konomi_rater.tastes import TasteRow
from konomi_rater.workspace import Workspace

MOST_UNITS = 4
"""Units that are looked at beside the base model: the newest."""
SAMPLE = 512
"""Images of a unit that are looked at; more of them are sampled."""


def generations(
    workspace: Workspace, connection: sqlalchemy.Connection, taste: TasteRow, view: View, head: Head
) -> list[Generation]:
    """Returns what is known of the base model's and the newest units' own images, in the order they were made.

    Args:
        workspace: the workspace.
        connection: a snapshot.
        taste: the taste.
        view: its images.
        head: the rater that looks.
    """
    people = _people(connection, taste.id)
    reference = workspace.reference(taste, view, BASE_UNITS)
    found = []
    for unit, rows in _units(view):
        drawn = np.sort(np.random.default_rng(0).permutation(rows)[:SAMPLE])
        said = head.predict(view.embeddings[drawn], view.made_at(drawn))
        distance = reference.index.distance(view.embeddings[drawn], drawn)
        grades = [people[view.digests[row]] for row in rows if view.digests[row] in people]
        found.append(
            Generation(
                unit=unit,
                proxy=float(said.utility.mean()),
                doubt=float(said.std.mean()),
                strangers=float((distance > reference.cut(TYPICAL_PERCENTILE)).mean()),
                human=float(np.mean(grades)) if grades else 0.0,
                graded=len(grades),
            )
        )
    return found


def remember_selection(
    connection: sqlalchemy.Connection, taste: str, found: Selection, policy: str, now: float
) -> None:
    """Notes a choice by a rater version; the same choice is noted once, one that kept nothing not at all."""
    if not found.chosen or not found.version:
        return
    key = hashlib.sha256(json.dumps(sorted(member.digest for member in found.chosen)).encode()).hexdigest()
    connection.execute(
        text("INSERT OR IGNORE INTO selections VALUES (:taste, :key, :version, :policy, :share, :now)"),
        {
            "taste": taste,
            "key": key,
            "version": found.version,
            "policy": policy,
            "share": found.kept_share,
            "now": now,
        },
    )


def pressure(connection: sqlalchemy.Connection, taste: str) -> Pressure:
    """Returns the selection pressure since a person last finished an audit, of a set or of a unit."""
    found = connection.execute(
        text("SELECT kept_share FROM selections WHERE taste = :taste AND created > :since"),
        {"taste": taste, "since": max(audits.last_end(connection, taste), blind_audits.last_end(connection, taste))},
    )
    return pressure_of([row.kept_share for row in found])


def _units(view: View) -> list[tuple[str, np.ndarray]]:
    """Returns (unit, rows) of the taste's own images: the base model's first, then the newest units, oldest first."""
    enough = view.own_units(LEAST_IMAGES)
    base = [(unit, enough[unit]) for unit in BASE_UNITS if unit in enough]
    return base + [(unit, found) for unit, found in enough.items() if unit not in BASE_UNITS][-MOST_UNITS:]


def _people(connection: sqlalchemy.Connection, taste: str) -> dict[str, int]:
    """Returns the grades of images that were shown at random, by digest; others were picked, so their mean lies."""
    drawn = connection.execute(
        text(
            "SELECT digest, grade FROM labels_in_force "
            "WHERE taste = :taste AND reason IN (:drawn, :hidden) AND grade > 0"
        ),
        {"taste": taste, "drawn": int(Reason.RANDOM), "hidden": int(Reason.AUDIT)},
    )
    return {row.digest: row.grade for row in drawn}
