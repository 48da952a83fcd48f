"""A JSON record that notices its own damage: plain JSON for whoever reads it, and beside it a sealed copy.

The seal of `night.json` is `night.seal`: the same record, the sha256 of its canonical form, and that of the record
before. It is written first, so a kill between the two files leaves a plain record the seal knows. A flipped bit, a cut
or foreign bytes make a record the seal does not know: then the copy in the seal is the record. Records of before there
were seals have none and are read as they are.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from konomi import errors
from konomi.files import canonical, write_json
from konomi.i18n.catalogue import N_, text

Json = dict[str, Any]
"""A record as JSON has it."""
DAMAGED = ".damaged-"
"""What the name of something that was set aside ends with, before its number."""
KINDS = {
    "kind": N_("it is no file"),
    "unreadable": N_("it cannot be read"),
    "json": N_("it is no JSON object"),
}
MOST_BYTES = 256 << 20
KEPT = "night.json"
"""The record that is read from its seal even where the file is gone: a night that ended must not begin again."""


class Damaged(errors.FailedPrecondition):
    """A record cannot be read, and there is no copy of it."""

    def __init__(self, path: Path, why: str) -> None:
        """Takes the file and the kind of its damage, a key of KINDS."""
        message = text("{path} is damaged: {why}", path=f"{path.parent.name}/{path.name}", why=text(KINDS[why]))
        super().__init__(message, reason="RECORD_DAMAGED")


def digest(record: Mapping[str, Any]) -> str:
    """Returns the sha256 of a record, whatever spaces and order its file has."""
    return hashlib.sha256(canonical(record)).hexdigest()


def write(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record and its seal, each complete or not at all."""
    record = json.loads(canonical(record))
    before, _ = _load(path)
    seal: Json = {"record": record, "sha256": digest(record)}
    if before is not None:
        seal["before"] = digest(before)
    _make_room(path)
    _make_room(seal_of(path))
    write_json(seal_of(path), seal)
    write_json(path, record)


def read(path: Path) -> Json:
    """Returns a record, from its seal where the file itself is damaged; an empty one where there is none.

    Raises:
        Damaged: neither can be read.
    """
    record, why = _sound(path)
    if record is not None:
        return record
    if why == "missing":
        return {}
    raise Damaged(path, why)


def mend(path: Path) -> Path | None:
    """Makes a damaged record good from its seal, or the seal from the record; returns where the damaged one lies now.

    Raises:
        Damaged: neither can be read.
    """
    record = read(path)
    plain, _ = _load(path)
    unharmed = _seal(path) is not None or not os.path.lexists(seal_of(path))  # nobody vouches for one without a seal
    if not record or (plain == record and unharmed):
        return None
    aside = set_aside(path) if plain != record and os.path.lexists(path) else None
    write(path, record)
    return aside


def set_aside(path: Path) -> Path:
    """Gives a file or folder a name under which nobody reads it, and returns that."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}{DAMAGED}{number}")):
        number += 1
    path.rename(aside)
    return aside


def seal_of(path: Path) -> Path:
    """Returns where the seal of a record is."""
    return path.with_suffix(".seal")


def _sound(path: Path) -> tuple[Json | None, str]:
    """Returns the record that counts, or None and the kind of damage."""
    (plain, why), seal = _load(path), _seal(path)
    if seal is None:
        return plain, why
    copy: Json = seal["record"]
    if plain is None:
        taken_away = why == "missing" and path.name != KEPT  # somebody wanted it gone
        return (None, why) if taken_away else (copy, "")
    if digest(plain) in (seal["sha256"], seal.get("before")) or _is_further(plain, copy):
        return plain, ""
    return copy, ""


def _is_further(plain: Mapping[str, Any], copy: Mapping[str, Any]) -> bool:
    """Says whether a record has steps its seal does not know, as where a version without seals went on with a night."""
    steps, known = plain.get("steps"), copy.get("steps")
    return isinstance(steps, list) and isinstance(known, list) and len(steps) > len(known)


def _seal(path: Path) -> Json | None:
    """Returns the seal of a record; None where there is none, or one that is damaged itself."""
    seal, _ = _load(seal_of(path))
    if seal is None or not isinstance(seal.get("record"), dict) or seal.get("sha256") != digest(seal["record"]):
        return None
    return seal


def _load(path: Path) -> tuple[Json | None, str]:
    """Returns the JSON object of a file, or None and why there is none; never waits for a pipe."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            return None, "kind"
        value = json.loads(path.read_bytes().decode("utf-8"))
        canonical(value)
    except FileNotFoundError:
        return None, "kind" if os.path.lexists(path) else "missing"
    except OSError:
        return None, "unreadable"
    except (ValueError, RecursionError):
        return None, "json"
    return (value, "") if isinstance(value, dict) else (None, "json")


def _make_room(path: Path) -> None:
    """Sets what stands where a record is to be aside, where it is no record: a folder, a pipe, a damaged file."""
    if os.path.lexists(path) and _load(path)[0] is None:
        set_aside(path)
