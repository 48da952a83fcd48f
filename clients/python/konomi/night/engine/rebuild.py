"""A night's state made again from what its steps left, where its own record is damaged; nothing is run for it."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from konomi.errors import KonomiError
from konomi.night.budgets import Envelope
from konomi.night.engine.loop import NightLoop, fresh
from konomi.night.engine.steps import NightSteps
from konomi.night.gateway.drawing import Source
from konomi.night.gateway.services import NightServices
from konomi.night.records.journal import Occurrences, StepJournal
from konomi.night.records.sealed import Json
from konomi.night.records.state import NightState, StateName
from konomi.night.records.store import NightStore

SCHEMA = "workflow-schema-1"
"""Raised only when the order of steps, their payload or the request's fields change.

A pending night of another schema is not gone on with: it ends on the unit it serves (`halted`).
"""


class _Unknown(Exception):
    """A step that left nothing: the night had come so far."""


def mend(nights: NightStore) -> list[str]:
    """Makes the damaged records of a home good, under its lock; returns a sentence for each that was."""
    return nights.mend(partial(rebuilt, nights))


def rebuilt(nights: NightStore, night: str) -> NightState | None:
    """Returns a night's state by its journal, or by the workflow's database; None where neither knows of it.

    A night that had not ended is "interrupted" and can be gone on with; one whose end was told and of which nothing
    else is left counts as given up.
    """
    entries = dict(StepJournal(nights.folder / night, SCHEMA).entries()) or outputs(database_of(nights.home), night)
    delivered = nights.delivered(night)
    if not entries:
        given_up = NightState(night=night, state=StateName.ABANDONED, steps=(), units=())
        return given_up if delivered else None
    try:
        state = _replayed(nights, night, entries)
    except (KonomiError, ValidationError):
        return None
    over = StateName.ABANDONED if delivered else StateName.INTERRUPTED
    return state if state.is_final else state.changed(state=over)


def _replayed(nights: NightStore, night: str, entries: Mapping[str, Mapping[str, Any]]) -> NightState:
    request = nights.request(night)
    nobody = NightServices(cast(Source, None), request.taste)  # a step that is on record asks no service
    steps = NightSteps(nobody, request, lambda name, done, total, made="": None)
    states = [fresh(request)]

    names = Occurrences()

    def do(name: str, body: Callable[..., object], *arguments: Any) -> Envelope:
        key = names.key(name)
        if key not in entries:
            raise _Unknown(name)
        return cast(Envelope, entries[key])

    loop = NightLoop(request, steps, do, states.append)
    try:
        return loop.run()
    except _Unknown:
        return states[-1]


def database_of(home: Path) -> Path:
    """Returns where the workflow's database of a home lies."""
    return home / "databases" / "night.sqlite"


def outputs(path: Path, night: str) -> dict[str, Json]:
    """Returns what the steps of a night left by the workflow's database; nothing where it cannot be read."""
    if not path.is_file():
        return {}
    asked = "SELECT function_name, output FROM operation_outputs WHERE workflow_uuid = ? ORDER BY function_id"
    with suppress(sqlite3.Error, ValueError, TypeError):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute(asked, (night,)).fetchall()
        names = Occurrences()
        entries = {names.key(str(name)): json.loads(output) for name, output in rows}
        return {name: entry for name, entry in entries.items() if isinstance(entry, dict) and "value" in entry}
    return {}


def sound(path: Path) -> bool:
    """Says whether the workflow's database can be gone on with: a file SQLite finds no fault in, or none at all."""
    if not path.exists() and not path.is_symlink():
        return True
    if not path.is_file():
        return False
    if path.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=30)) as database:
            faults = database.execute("PRAGMA integrity_check(1)").fetchall()
            database.execute("SELECT count(*) FROM workflow_status").fetchone()
            database.execute("SELECT count(*) FROM operation_outputs").fetchone()
    except (sqlite3.Error, UnicodeDecodeError):
        return False
    return faults == [("ok",)]
