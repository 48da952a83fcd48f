"""Makes a home's records of nights and those in PostgreSQL the same, under the lock of both.

What the database holds counts, for whoever ran the night kept it there before believing it. Only where this home's
journal goes on where the database's ends is this home ahead: it was killed between the two, or ran without a database.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from konomi.files import make_folder, write_atomically
from konomi.night.records import sealed
from konomi.night.records.journal import NAME as JOURNAL
from konomi.night.records.shared import SharedRecords
from konomi.night.records.trial import FILE as TRIAL

REQUEST, STATE = "request.json", "night.json"
STATES = (STATE, "night.seal")
FILES = (TRIAL, "delivered", *STATES, "request.seal", REQUEST)
"""What another host needs of a night, in the order in which it is written: there is a night once its request is."""


def level(folder: Path, shared: SharedRecords) -> None:
    """Brings every night of the database into a folder of nights, and those of the folder into the database.

    Raises:
        OSError: the folder cannot be written.
        Unavailable: the database cannot be reached.
    """
    there = shared.nights()
    here = {path.parent.name for path in folder.glob(f"*/{REQUEST}") if sealed.DAMAGED not in path.parent.name}
    for night in sorted(there | here):
        place = folder / night
        lines, known = _lines(place), shared.steps(night)
        if night not in there or (night in here and len(lines) > len(known) and lines[: len(known)] == known):
            send(place, shared, FILES)
            shared.keep_steps(night, len(known), lines[len(known) :])
        else:
            _fetch(place, shared.records(night), known)


def send(place: Path, shared: SharedRecords, names: tuple[str, ...]) -> None:
    """Keeps files of a night in the database; a damaged record stays here alone, where it is made good."""
    with suppress(sealed.Damaged):
        for name in (REQUEST, STATE):
            sealed.read(place / name)
        shared.keep(place.name, {name: (place / name).read_bytes() for name in names if (place / name).is_file()})


def _fetch(place: Path, records: Mapping[str, bytes], lines: list[bytes]) -> None:
    make_folder(place)
    if _lines(place) != lines:
        write_atomically(place / JOURNAL, b"".join(lines), mode=0o600)
    for name in (name for name in FILES if name in records):
        path = place / name
        if not path.is_file() or path.read_bytes() != records[name]:
            write_atomically(path, records[name], mode=0o600)


def _lines(place: Path) -> list[bytes]:
    path = place / JOURNAL
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []
