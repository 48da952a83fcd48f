"""What stands beside an image: captions in .txt and .caption, rows of metadata.jsonl, and kohya's `N_concept` folders.

A caption is one line, as kohya reads it; an empty file is the caption of an image that has none. A1111 writes whole
infotexts into .txt files; of those the prompt is taken.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from konomi.client.messages import GRADES
from konomi.datasets.png_metadata import read_infotext
from konomi.datasets.prompts import INFOTEXT, SAMPLER, clean, numbers_of, seed_in, whole_number
from konomi.datasets.spelling import decoded, lines_of, one_spelling, readable_name
from konomi.datasets.tally import Tally
from konomi.datasets.xmp import Rating, rating_of_value
from konomi.i18n.catalogue import text

ENDINGS = (".txt", ".caption")
METADATA = "metadata.jsonl"
CAPTION_BYTES = 64 * 1024
METADATA_BYTES = 256 * 1024 * 1024
CONCEPT = re.compile(r"\d{1,3}_(.+)")

Facts = Mapping[str, Any]
Read = Callable[[str, int], bytes | None]
"""Returns at most so many bytes of a file by its name, None where there is none."""


def stem_of(name: str) -> str:
    """Returns a name without its ending; of "a.b/c" nothing is taken away."""
    folder, slash, file = name.rpartition("/")
    stem, _, _ = file.rpartition(".")
    return f"{folder}{slash}{stem or file}"


def caption_of(name: str, read: Read) -> str | None:
    """Returns the caption that stands beside an image; None where there is none, empty where it says there is none.

    Raises:
        ValueError: the caption is in no encoding that is known; its argument is the file.
    """
    for ending in ENDINGS:
        data = read(stem_of(name) + ending, CAPTION_BYTES)
        if data is not None:
            plain = decoded(data, whole=len(data) < CAPTION_BYTES)
            if plain is None:
                raise ValueError(stem_of(name) + ending)
            return line_of(plain)
    return None


def line_of(words: str) -> str:
    """Returns the caption in a text: its first line that is not empty, or the prompt where it is an infotext."""
    if INFOTEXT.search(words):
        return read_infotext(words).prompt
    return clean(next((line for line in lines_of(words.lstrip("\ufeff")) if line.strip()), ""))


def concept_of(name: str) -> str:
    """Returns the concept a kohya folder names, "sks dog" in `10_sks dog/1.png`; empty elsewhere."""
    match = CONCEPT.fullmatch(readable_name(PurePosixPath(name).parent.name))
    return clean(match.group(1)) if match else ""


class Metadata:
    """The rows of every metadata.jsonl in or above an image's folder; the nearest speaks."""

    def __init__(self, read: Read, tally: Tally, shown: Callable[[str], str] = str) -> None:
        """Reads by `read`, notes in `tally` what was not understood, of files as `shown` names them."""
        self._read, self._tally, self._shown = read, tally, shown
        self._files: dict[str, dict[str, tuple[str, Facts]]] = {}
        self._used: set[tuple[str, str]] = set()

    def of(self, name: str) -> Facts:
        """Returns the row of an image by its name within the dataset; empty where there is none."""
        path = PurePosixPath(name)
        for folder in path.parents:
            key = one_spelling(path.relative_to(folder).as_posix())
            if key in self._rows(folder):
                self._used.add((str(folder), key))
                return self._rows(folder)[key][1]
        return {}

    def close(self) -> None:
        """Notes the rows that named no image, once all images were seen."""
        for folder, rows in self._files.items():
            for key, (name, _) in rows.items():
                if (folder, key) not in self._used:
                    line = text("its row names {name}, and there is no such image", name=name)
                    self._complain(folder, "ROW_WITHOUT_IMAGE", line)

    def _rows(self, folder: PurePosixPath) -> dict[str, tuple[str, Facts]]:
        key = str(folder)
        if key not in self._files:
            self._files[key] = {}
            data = self._read(str(folder / METADATA), METADATA_BYTES)
            if data is not None:
                self._files[key] = self._parsed(key, data)
        return self._files[key]

    def _parsed(self, folder: str, data: bytes) -> dict[str, tuple[str, Facts]]:
        whole = len(data) < METADATA_BYTES
        plain = decoded(data, whole=whole)
        if plain is None:
            self._complain(folder, "METADATA_UNDECODABLE", text("it is in no encoding that is known"))
            return {}
        if not whole:
            line = text("it is larger than {most} MiB; the rows beyond were not read", most=METADATA_BYTES // 1024**2)
            self._complain(folder, "METADATA_TOO_LARGE", line)
        rows: dict[str, tuple[str, Facts]] = {}
        for number, line in enumerate(plain.split("\n"), start=1):  # the one sign between rows; U+2028 is a letter
            row = _object(line)
            if row is not None and isinstance(row.get("file_name"), str):
                rows[one_spelling(row["file_name"])] = (row["file_name"], row)
            elif line.strip():
                message = text("expected a row with a file_name in line {number}", number=number)
                self._complain(folder, "ROW_UNREADABLE", message)
        return rows

    def _complain(self, folder: str, reason: str, message: str) -> None:
        self._tally.at(self._shown(str(PurePosixPath(folder) / METADATA)))("row", reason, message)


def _object(line: str) -> Facts | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def record_of(data: bytes) -> Facts | None:
    """Returns the JSON object of an image's own .json; None where it is none."""
    plain = decoded(data)
    return None if plain is None else _object(plain)


def words_of(facts: Facts, *, names: Iterable[str] = ("caption", "text", "prompt")) -> str | None:
    """Returns the caption a row holds: the first that is not empty, else an empty one; None where there is none."""
    captions = [facts[name] for name in names if isinstance(facts.get(name), str)]
    return line_of(next((words for words in captions if words.strip()), "")) if captions else None


def grade_of(facts: Facts) -> Rating:
    """Returns the owner's grade a row holds: 1 to 5 in any type, or a letter; 0 where it says that there is none.

    A prediction is no grade.
    """
    grade = facts.get("grade")
    if grade is None or grade == "":
        return Rating()
    if isinstance(grade, str) and grade.strip().upper() in GRADES:
        return Rating(GRADES.index(grade.strip().upper()) + 1)
    try:
        return rating_of_value(str(whole_number(grade)))
    except (ValueError, OverflowError):
        return Rating(odd=str(grade)[:40])


def making_of(facts: Facts) -> dict[str, float]:
    """Returns the steps, guidance scale and sampler a row of konomi's own holds in its `parameters`."""
    made = facts.get("parameters")
    if not isinstance(made, dict):
        return {}
    samplers = [name.removeprefix(SAMPLER) for name, is_it in made.items() if name.startswith(SAMPLER) and is_it == 1]
    return numbers_of({**made, "sampler": samplers[0]} if len(samplers) == 1 else made)


def seed_of(facts: Facts) -> int | None:
    """Returns the seed a row holds; None where there is none.

    Raises:
        ValueError: what stands there is no seed.
    """
    return seed_in(facts.get("seed"))
