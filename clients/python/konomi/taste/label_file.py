"""Grades in a file: JSON lines {"digest": "<sha256>", "grade": 1..5}, out of a taste and into one.

A line may also say who graded ("labeller"), why the image was shown ("reason", as in the contract, "random") and when
("time", ISO 8601): a grade of an image drawn at random stays one, and a rater may measure itself by it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from konomi.client import Client, paging
from konomi.client.messages import GRADES
from konomi.client.services import DIGEST, taste_name
from konomi.datasets.spelling import text_in
from konomi.errors import InvalidArgument
from konomi.files import write_for_user
from konomi.i18n.catalogue import text
from konomi.v1 import rater_pb2 as rater

BATCH = 500
REASON = "SUGGESTION_REASON_"


def write_grades(client: Client, taste: str, path: Path) -> int:
    """Writes the grades in force, complete or not at all, and returns how many."""
    lines = [json.dumps(_row(label)) for label in labels(client, taste)]
    write_for_user(path, "".join(line + "\n" for line in lines).encode())
    return len(lines)


def _row(label: rater.Label) -> dict[str, object]:
    row: dict[str, object] = {"digest": label.image_digest, "grade": int(label.grade), "labeller": label.labeller}
    if label.reason:
        row["reason"] = rater.SuggestionReason.Name(label.reason).removeprefix(REASON).lower()
    return row | {"time": label.create_time.ToJsonString()}


def labels(client: Client, taste: str) -> Iterator[rater.Label]:
    """Yields the labels in force, in the order they were recorded."""
    yield from (label for label in paging.labels(client, taste, in_force=True) if label.grade)


def read_grades(client: Client, taste: str, path: Path) -> int:
    """Records the grades of a file and returns how many; every line is checked before the first is recorded.

    Raises:
        InvalidArgument: the file cannot be read, or a line is not what `write_grades` writes.
    """
    try:
        lines = text_in(path).split("\n")
    except (OSError, ValueError) as error:
        line = text("expected a readable file of JSON lines at {path}: {why}", path=path, why=error)
        raise InvalidArgument(line) from error
    entries = [_entry(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    for start in range(0, len(entries), BATCH):
        client.rater.record_labels(taste=taste_name(taste), labels=entries[start : start + BATCH])
    return len(entries)


def _entry(line: str, number: int) -> rater.Label:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    digest = row.get("digest") if isinstance(row, dict) else None
    grade = _grade(row.get("grade")) if isinstance(row, dict) else None
    if grade is None or not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise _not_read(line, number, '{"digest": "<64 hexadecimal digits>", "grade": 1 to 5}')
    label = rater.Label(image_digest=digest, grade=grade)
    for name, read in (("labeller", _labeller), ("reason", _reason), ("time", _time)):
        if row.get(name) is not None and not read(label, row[name]):
            raise _not_read(line, number, f'"{name}": {EXAMPLES[name]}')
    return label


EXAMPLES = {"labeller": '"owner"', "reason": '"random"', "time": '"2026-11-29T20:15:00Z"'}


def _not_read(line: str, number: int, example: str) -> InvalidArgument:
    words = "line {number}: expected {example}, got {got!r}; nothing was recorded"
    return InvalidArgument(text(words, number=number, example=example, got=line[:120]))


def _labeller(label: rater.Label, value: Any) -> bool:
    label.labeller = value if isinstance(value, str) else ""
    return bool(label.labeller)


def _reason(label: rater.Label, value: Any) -> bool:
    name = f"{REASON}{value.upper()}" if isinstance(value, str) else ""
    if name not in dict(rater.SuggestionReason.items()):
        return False
    label.reason = rater.SuggestionReason.Value(name)
    return True


def _time(label: rater.Label, value: Any) -> bool:
    try:
        label.grade_time.FromJsonString(value)
    except (ValueError, TypeError, AttributeError):
        return False
    return True


def _grade(value: Any) -> rater.Grade.ValueType | None:
    if isinstance(value, str) and value.upper() in GRADES:
        return rater.Grade.Value(f"GRADE_{value.upper()}")
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5:
        return rater.Grade.Value(f"GRADE_{GRADES[value - 1]}")
    return None
