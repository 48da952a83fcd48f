"""What stands beside an image: captions in .txt and .caption, rows of metadata.jsonl, and kohya's `N_concept` folders.

A caption is one line, as kohya reads it. A1111 writes whole infotexts into .txt files; of those the prompt is taken.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from konomi.client.messages import GRADES
from konomi.datasets.png_metadata import clean, read_infotext

ENDINGS = (".txt", ".caption")
METADATA = "metadata.jsonl"
CAPTION_BYTES = 64 * 1024
METADATA_BYTES = 256 * 1024 * 1024
CONCEPT = re.compile(r"\d{1,3}_(.+)")
INFOTEXT = re.compile(r"(?:^|\n)Steps: \d+,")

Facts = Mapping[str, Any]
Read = Callable[[str, int], bytes | None]
"""Returns at most so many bytes of a file by its name, None where there is none."""


def caption_of(name: str, read: Read) -> str:
    """Returns the caption that stands beside an image; empty where there is none."""
    for ending in ENDINGS:
        data = read(str(PurePosixPath(name).with_suffix(ending)), CAPTION_BYTES)
        if data is not None:
            return line_of(data.decode("utf-8", "replace"))
    return ""


def line_of(text: str) -> str:
    """Returns the caption in a text: its first line that is not empty, or the prompt where it is an infotext."""
    if INFOTEXT.search(text):
        return read_infotext(text).prompt
    return clean(next((line for line in text.lstrip("\ufeff").splitlines() if line.strip()), ""))


def concept_of(name: str) -> str:
    """Returns the concept a kohya folder names, "sks dog" in `10_sks dog/1.png`; empty elsewhere."""
    match = CONCEPT.fullmatch(PurePosixPath(name).parent.name)
    return clean(match.group(1)) if match else ""


def rows_of(data: bytes) -> dict[str, Facts]:
    """Returns the rows of a metadata.jsonl by their file_name; a line that is no such row is passed over."""
    rows: dict[str, Facts] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("file_name"), str):
            rows[row["file_name"]] = row
    return rows


class Metadata:
    """The rows of every metadata.jsonl in or above an image's folder; the nearest speaks."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._files: dict[str, dict[str, Facts]] = {}

    def of(self, name: str) -> Facts:
        """Returns the row of an image by its name within the dataset; empty where there is none."""
        path = PurePosixPath(name)
        for folder in path.parents:
            row = self._rows(folder).get(path.relative_to(folder).as_posix())
            if row is not None:
                return row
        return {}

    def _rows(self, folder: PurePosixPath) -> dict[str, Facts]:
        key = str(folder)
        if key not in self._files:
            data = self._read(str(folder / METADATA), METADATA_BYTES)
            self._files[key] = rows_of(data) if data else {}
        return self._files[key]


def words_of(facts: Facts, *, names: Iterable[str] = ("caption", "text", "prompt")) -> str:
    """Returns the caption a row holds."""
    return next(
        (line_of(facts[name]) for name in names if isinstance(facts.get(name), str) and facts[name].strip()), ""
    )


def grade_of(facts: Facts) -> int:
    """Returns the owner's grade a row holds, 1 to 5 or a letter; 0 where there is none. A prediction is no grade."""
    grade = facts.get("grade")
    if isinstance(grade, str) and grade.upper() in GRADES:
        return GRADES.index(grade.upper()) + 1
    return grade if isinstance(grade, int) and not isinstance(grade, bool) and 1 <= grade <= 5 else 0


def seed_of(facts: Facts) -> int:
    """Returns the seed a row holds; 0 where there is none."""
    seed = facts.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 else 0
