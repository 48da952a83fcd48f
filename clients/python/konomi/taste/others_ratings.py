"""Other people's ratings as they lie about: CSV with any delimiter and encoding, JSON lines, and taste bundles.

A line names an image (its digest, or its file), who rated it, and the rating on any scale; columns are found by their
names. Names of people only tell their ratings apart: they are numbers before anything leaves this file.
"""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konomi.client import Client
from konomi.client.messages import GRADES
from konomi.client.paging import pages
from konomi.client.services import DIGEST, taste_name
from konomi.datasets.spelling import lines_of, one_spelling, text_in
from konomi.datasets.tally import Tally
from konomi.errors import InvalidArgument
from konomi.files import open_regular
from konomi.i18n.catalogue import text
from konomi.taste.bundle_format import BundleEntry, read_bundle
from konomi.v1 import rater_pb2 as rater

IMAGE = ("image", "digest", "sha256", "file", "filename", "file_name", "image_name", "path", "name")
PERSON = (
    "rater",
    "person",
    "user",
    "user_id",
    "worker",
    "worker_id",
    "labeller",
    "annotator",
    "participant",
    "subject",
)
RATING = ("rating", "score", "grade", "value", "stars")
DELIMITERS = (",", ";", "\t", "|")
BUNDLE = ".konomi"
REPEAT_CHECK = 4
"""Reason of a hidden repeat: its grade counts only where no other stands."""
CHUNK = 1 << 20
ROWS = "application/vnd.konomi.rows+jsonl"


@dataclass(frozen=True)
class OthersRatings:
    """What some people said.

    Attributes:
        kind: "ratings" of a file, or "bundle".
        people: for each person, images as they are named and what was said of them.
        member: uid of the taste in a bundle.
    """

    kind: str
    people: Sequence[Sequence[tuple[str, float]]]
    member: str = ""


def read_others(path: Path, tally: Tally) -> OthersRatings:
    """Reads a file of ratings or a taste bundle; what is not understood is noted in the tally.

    Raises:
        InvalidArgument: it cannot be read, names no image, person or rating column, or holds no rating.
        NotFound, DataLoss, FailedPrecondition: a bundle is missing, damaged, or of a newer konomi.
    """
    if path.suffix.casefold() == BUNDLE:
        grades, member = _grades_of_bundle(path)
        return OthersRatings("bundle", [list(grades.items())], member)
    try:
        written = text_in(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InvalidArgument(
            text("expected a readable file of ratings at {file}: {why}", file=path, why=why)
        ) from error
    by_person: dict[str, list[tuple[str, float]]] = {}
    complain = tally.at(str(path))
    try:
        for number, row in _rows(path, written):
            said = _value(row[2])
            if said is None or not row[0] or not row[1]:
                complain(
                    "row", "RATING_UNREADABLE", text("line {number}: expected image, person and number", number=number)
                )
                continue
            by_person.setdefault(row[1], []).append((row[0], said))
    except csv.Error as error:  # a quote that is never closed, mostly
        raise InvalidArgument(
            text("expected a readable file of ratings at {file}: {why}", file=path, why=error)
        ) from error
    if not by_person:
        raise InvalidArgument(text("expected ratings in {file}, found none", file=path))
    return OthersRatings("ratings", list(by_person.values()))


def _rows(path: Path, written: str) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yields the number of each line, and image, person and rating as they are written."""
    lines = lines_of(written)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("{"):
        yield from _objects(path, lines)
        return
    delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))
    table = csv.reader(lines, delimiter=delimiter)
    header: tuple[int, ...] = ()
    for row in table:
        if not any(cell.strip() for cell in row):
            continue
        if not header:
            header = _columns(path, [cell.strip() for cell in row])
            continue
        cells = [row[at].strip() if at < len(row) else "" for at in header]
        rating = cells[2] if delimiter == "," else cells[2].replace(",", ".")
        yield table.line_num, (cells[0], cells[1], rating)


def _columns(path: Path, names: Sequence[str]) -> tuple[int, ...]:
    folded = [name.casefold().replace(" ", "_") for name in names]
    found = [next((folded.index(name) for name in known if name in folded), -1) for known in (IMAGE, PERSON, RATING)]
    if -1 in found:
        example = "image, rater, rating"
        line = "expected columns such as {example} in the first line of {file}, found {names}"
        raise InvalidArgument(text(line, example=example, file=path, names=", ".join(names)[:120]))
    return tuple(found)


def _objects(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, tuple[str, str, str]]]:
    keys: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            yield number, ("", "", "")
            continue
        if not keys:
            keys = [list(row)[at] for at in _columns(path, [str(name) for name in row])]
        image, person, said = (row.get(key) for key in keys)
        yield number, tuple("" if cell is None else str(cell).strip() for cell in (image, person, said))  # type: ignore[misc]


def _value(written: str) -> float | None:
    """Returns a rating, a grade's name as its number; None where it is neither."""
    if written.upper() in GRADES:
        return float(GRADES.index(written.upper()) + 1)
    try:
        value = float(written)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _grades_of_bundle(path: Path) -> tuple[dict[str, float], str]:
    """Returns the grades in force of the taste in a bundle, by digest, and its uid; every byte of it was checked."""
    parts: dict[str, bytes] = {}

    def take(entry: BundleEntry, chunks: Iterable[bytes]) -> None:
        if entry.media_type == ROWS:
            parts[entry.digest] = b"".join(chunks)

    manifest = read_bundle(path, take)
    try:
        lines = parts[manifest.taste_rows].decode().split("\n")
        return _in_force(lines), _uid(lines)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(text("expected the grades of a taste in {file}, found other rows", file=path)) from error


def _uid(lines: Iterable[str]) -> str:
    """Returns the uid of the taste whose rows these are; empty where they do not say it."""
    rows = (json.loads(line) for line in lines if line)
    return next((str(row["tastes"]["uid"]) for row in rows if "tastes" in row), "")


def _in_force(lines: Iterable[str]) -> dict[str, float]:
    """Returns the grades that stand in the rows of a taste, by digest: the last of each image that was not undone."""
    rows: list[Mapping[str, Any]] = []
    revoked: set[str] = set()
    for line in lines:
        entry = json.loads(line) if line else {}
        if "labels" in entry:
            rows.append(entry["labels"])
        if "revoked_images" in entry:
            revoked.add(entry["revoked_images"]["digest"])
    undone = {row["undoes"] for row in rows if row["undoes"] is not None}
    standing = [row for row in rows if row["undoes"] is None and row["sequence"] not in undone]
    standing.sort(key=lambda row: (row["reason"] != REPEAT_CHECK or not row["grade"], row["sequence"]))
    last = {str(row["digest"]): float(row["grade"]) for row in standing}
    return {digest: grade for digest, grade in last.items() if grade and digest not in revoked}


def digests_of(client: Client, taste: str, folder: Path) -> Callable[[str], str]:
    """Returns what finds the digest of an image by its name in a file of ratings, empty where it is not at hand.

    A digest is its own; a name is that of a file an image was imported from, with or without its outermost folders (one
    of the same name in another folder is another file), else of a file beside the ratings.

    Args:
        client: the services.
        taste: whose images are looked through, by id or name.
        folder: where the file of ratings lies.
    """
    whole: dict[str, str] = {}
    ends: dict[str, str] = {}
    for page in pages(client.rater.list_images, taste=taste_name(taste)):
        for image in page.images:
            path = one_spelling(image.path)
            for names, found in ((whole, [path]), (ends, _ends(path))):
                for name in filter(None, found):
                    names[name] = image.digest if names.get(name, image.digest) == image.digest else ""

    def find(name: str) -> str:
        if DIGEST.fullmatch(name.lower()):
            return name.lower()
        spelt = one_spelling(name)
        known = next((end for end in _ends(spelt) if end in whole), "")  # the folder above may have been left out
        found = whole.get(spelt) or ends.get(spelt) or whole.get(known)
        return found or _hashed(folder / name)

    return find


def _ends(path: str) -> list[str]:
    """Returns a path and what is left of it without its outermost folders, the longest first."""
    parts = path.split("/")
    return ["/".join(parts[at:]) for at in range(len(parts))]


def _hashed(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except (OSError, ValueError):
        return ""
    return digest.hexdigest()


@dataclass
class Gathered:
    """Ratings on their way to the rater: digests once each, people by number, and names of what is not at hand."""

    digests: list[str]
    names: list[str]
    groups: list[rater.RatingGroup]
    unknown: list[str]


def gather_ratings(
    sources: Sequence[tuple[OthersRatings, str, Callable[[str], str]]],
) -> Gathered:
    """Returns the groups of a request.

    Args:
        sources: ratings, what their consent says, and what finds an image by its name there.
    """
    gathered = Gathered([], [], [], [])
    places: dict[str, int] = {}
    lacking: dict[str, None] = {}
    for ratings, consent, find in sources:
        group = rater.RatingGroup(kind=ratings.kind, consent=consent, members=list(filter(None, [ratings.member])))
        found: dict[str, str] = {}
        for person in ratings.people:
            heard = group.people.add()
            for name, value in person:
                if name not in found:
                    found[name] = find(name)
                if not found[name]:
                    lacking[name] = None
                    continue
                place = places.setdefault(found[name], len(places))
                if place == len(gathered.digests):
                    gathered.digests.append(found[name])
                    gathered.names.append(name)
                heard.images.append(place)
                heard.values.append(value)
        gathered.groups.append(group)
    gathered.unknown = list(lacking)
    return gathered
