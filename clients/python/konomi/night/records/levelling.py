"""Makes a home's records of nights and those in PostgreSQL the same, under the lock of both.

What the database holds counts, for whoever ran the night kept it there before believing it. Only where this home's
journal goes on where the database's ends is this home ahead: it was killed between the two, or ran without a database.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from konomi.files import make_folder, write_atomically
from konomi.night.records import sealed
from konomi.night.records.journal import NAME as JOURNAL
from konomi.night.records.postgresql import SharedRecords
from konomi.night.records.trial import FILE as TRIAL

NOTED = (TRIAL, "delivered")
"""What is noted once, also when no lock is held any more."""
REQUEST, STATE = "request.json", "night.json"
STATES = (STATE, "night.seal")
FILES = (*NOTED, *STATES, "request.seal", REQUEST)
"""What another host needs of a night, in the order in which it is written: there is a night once its request is."""


def level(folder: Path, shared: SharedRecords) -> None:
    """Brings every night of the database into a folder of nights, and those of the folder into the database.

    Raises:
        OSError: the folder cannot be written.
        Unavailable: the database cannot be reached.
    """
    there = shared.digests()
    here = {path.parent.name for path in folder.glob(f"*/{REQUEST}") if sealed.DAMAGED not in path.parent.name}
    for night in sorted(there.keys() | here):
        place = folder / night
        if not _is_a_name(night) or there.get(night) == _digests(place):
            continue
        lines, known = _lines(place), shared.steps(night)
        if night not in there or (night in here and len(lines) > len(known) and lines[: len(known)] == known):
            send(place, shared, FILES)
            shared.keep_steps(night, len(known), lines[len(known) :])
        else:
            _fetch(place, shared, known)


def send(place: Path, shared: SharedRecords, names: tuple[str, ...]) -> None:
    """Keeps files of a night in the database; a damaged record stays here alone, where it is made good."""
    with suppress(sealed.Damaged):
        for name in (REQUEST, STATE):
            sealed.read(place / name)
        shared.keep(place.name, {name: (place / name).read_bytes() for name in names if (place / name).is_file()})


def _fetch(place: Path, shared: SharedRecords, lines: list[bytes]) -> None:
    records = shared.records(place.name)
    make_folder(place)
    noted = tuple(name for name in NOTED if name not in records and (place / name).is_file())
    if noted:
        send(place, shared, noted)
    if _lines(place) != lines:
        write_atomically(place / JOURNAL, b"".join(lines), mode=0o600)
    for name in (name for name in FILES if name in records):
        path = place / name
        if not path.is_file() or path.read_bytes() != records[name]:
            write_atomically(path, records[name], mode=0o600)


def _is_a_name(night: str) -> bool:
    """Says whether an id from the database names a folder of its own, and leads nowhere else."""
    return night not in ("", ".", "..") and "/" not in night and "\0" not in night


def _digests(place: Path) -> dict[str, str]:
    files = (place / name for name in (*FILES, JOURNAL))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()}


def _lines(place: Path) -> list[bytes]:
    path = place / JOURNAL
    return path.read_bytes().splitlines(keepends=True) if path.is_file() else []
