"""The images a taste knows, with their provenance and their embeddings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Connection, RowMapping, text

from konomi.errors import NotFound
from konomi_chassis.storage.dialects import contains, listed, listed_numbers
from konomi_rater.embedding.names import space_of
from konomi_rater.selection.selection import SELF
from konomi_rater.storage.embeddings import MatrixView


@dataclass(frozen=True)
class ImageFacts:
    """What is said about an image when it is added."""

    digest: str
    source: int
    prompt: str = ""
    seed: int = 0
    unit: str = ""
    night: str = ""
    parents: tuple[str, ...] = ()
    licence: str = ""
    consent: str = ""
    path: str = ""
    elsewhere_model: str = ""
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_own(self) -> bool:
        """Whether the base model or a unit of this home made it, which no imported image was."""
        return self.source == SELF and bool(self.unit)


@dataclass(frozen=True)
class ImageRow:
    """An image known to a taste; `row` orders images by when they became known, `grade` is 0 where ungraded.

    `without_pixels`: the storage policy took its pixels.
    """

    row: int
    facts: ImageFacts
    width: int
    height: int
    created: float
    grade: int
    without_pixels: bool = False


@dataclass(frozen=True)
class Filter:
    """Which images are meant: every part that is set must hold; an empty part admits all."""

    grades: tuple[int, ...] = ()
    units: tuple[str, ...] = ()
    sources: tuple[int, ...] = ()
    nights: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    prompt_contains: str = ""
    min_utility: float | None = None
    min_novelty: float | None = None
    path_contains: str = ""

    @property
    def by_facts(self) -> bool:
        """Whether grade, origin or prompt decide."""
        facts = (self.grades, self.units, self.sources, self.nights, self.digests, self.prompt_contains)
        return any(facts)


_TOLD = ("digest", "source", "prompt", "seed", "unit", "night", "licence", "consent")

_IMAGE = (
    "SELECT i.*, COALESCE(l.grade, 0) AS grade, EXISTS (SELECT 1 FROM images_without_pixels AS w "
    "WHERE w.taste = i.taste AND w.digest = i.digest) AS without_pixels FROM images AS i "
    "LEFT JOIN labels_in_force AS l ON l.taste = i.taste AND l.digest = i.digest WHERE i.taste = :taste AND "
)


def add(connection: Connection, taste: str, facts: ImageFacts, size: tuple[int, int], now: float) -> bool:
    """Adds an image of (width, height); returns False where the taste knew it already, and changes nothing.

    One whose file nobody has named yet gets the name it comes with.
    """
    done = connection.execute(
        text(
            "INSERT INTO images (taste, digest, source, prompt, seed, unit, night, parents, licence, consent, "
            "path, elsewhere_model, parameters, width, height, created) "
            "VALUES (:taste, :digest, :source, :prompt, :seed, :unit, :night, :parents, :licence, :consent, "
            ":path, :elsewhere_model, :parameters, :width, :height, :now) "
            "ON CONFLICT (taste, digest) DO NOTHING"
        ),
        {
            **{name: getattr(facts, name) for name in (*_TOLD, "path", "elsewhere_model")},
            "taste": taste,
            "parents": json.dumps(facts.parents),
            "parameters": json.dumps(dict(facts.parameters), sort_keys=True),
            "width": size[0],
            "height": size[1],
            "now": now,
        },
    )
    if done.rowcount == 0 and facts.path:
        named = text("UPDATE images SET path = :path WHERE taste = :taste AND digest = :digest AND path = ''")
        connection.execute(named, {"path": facts.path, "taste": taste, "digest": facts.digest})
    return done.rowcount > 0


def rows_at_path(connection: Connection, taste: str, part: str) -> np.ndarray:
    """Returns the rows (K,) int64 of images whose file or folder contains a text; the case of Latin letters is free."""
    found = connection.execute(
        text(f"SELECT row FROM images WHERE taste = :taste AND path > '' AND {contains(connection, 'path', 'part')}"),
        {"taste": taste, "part": part},
    )
    return np.fromiter((row.row for row in found), np.int64)


def known_size(connection: Connection, digest: str) -> tuple[int, int] | None:
    """Returns (width, height) of an image any taste knows."""
    row = connection.execute(
        text(
            "SELECT i.width, i.height FROM tastes AS t CROSS JOIN images AS i "
            "WHERE i.taste = t.id AND i.digest = :digest LIMIT 1"
        ),
        {"digest": digest},
    ).first()
    return (row.width, row.height) if row else None


def known(connection: Connection, taste: str, digests: Sequence[str]) -> set[str]:
    """Returns which of some digests are of images the taste knows."""
    rows = connection.execute(
        text(f"SELECT digest FROM images WHERE taste = :taste AND digest IN {listed(connection, 'digests')}"),
        {"taste": taste, "digests": json.dumps(list(digests))},
    )
    return {row.digest for row in rows}


def read(connection: Connection, taste: str, digest: str) -> ImageRow:
    """Returns one image.

    Raises:
        NotFound: the taste does not know it.
    """
    row = connection.execute(text(_IMAGE + "i.digest = :digest"), {"taste": taste, "digest": digest}).mappings().first()
    if row is None:
        raise NotFound(
            f"expected an image tastes/{taste} knows, found none with digest {digest[:80]!r}; add it with AddImages",
            reason="IMAGE_NOT_FOUND",
        )
    return _image(row)


def read_rows(connection: Connection, taste: str, rows: Sequence[int]) -> list[ImageRow]:
    """Returns images by row number, in the order asked for."""
    result = connection.execute(
        text(_IMAGE + f"i.row IN {listed_numbers(connection, 'rows')}"),
        {"taste": taste, "rows": json.dumps([int(r) for r in rows])},
    )
    by_row = {image.row: image for image in map(_image, result.mappings())}
    return [by_row[int(row)] for row in rows]


def admit(view: MatrixView, criteria: Filter, grades: np.ndarray, *, with_pixels: bool = False) -> np.ndarray:
    """Returns the positions of the images a filter admits, oldest first; utility and novelty are not looked at.

    Args:
        view: the images of a taste.
        criteria: the filter.
        grades: (N,) grade of each image, 0 where ungraded.
        with_pixels: leaves out images whose pixels the storage policy took.
    """
    kept = ~view.without_pixels if with_pixels else np.ones(len(view), bool)
    if criteria.grades:
        kept &= np.isin(grades, criteria.grades)
    if criteria.sources:
        kept &= np.isin(view.sources, criteria.sources)
    for column, names in ((view.units, criteria.units), (view.nights, criteria.nights)):
        if names:
            kept &= np.isin(column.numbers, [n for n, name in enumerate(column.items) if name in set(names)])
    if criteria.digests:
        kept &= _at(len(view), view.digests.places(criteria.digests))
    if criteria.prompt_contains:
        part, prompts = _lower(criteria.prompt_contains), view.prompts.items
        telling = [number for number, prompt in enumerate(prompts) if part in _lower(prompt)]
        kept &= _at(len(prompts), np.array(telling, np.int64))[view.prompts.numbers]
    return np.flatnonzero(kept)


_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _lower(text: str) -> str:
    """Makes Latin letters alone lower case, as SQLite does, which is what this filter meant from the start."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _at(count: int, places: np.ndarray) -> np.ndarray:
    kept = np.zeros(count, bool)
    kept[places[places >= 0]] = True
    return kept


def remember_embeddings(connection: Connection, embedder: str, vectors: Mapping[str, np.ndarray]) -> None:
    """Stores unit vectors (D,) float32 by digest; one that is there already stays."""
    if vectors:
        rows = [
            {"digest": d, "embedder": space_of(embedder), "vector": np.asarray(v, "<f4").tobytes()}
            for d, v in vectors.items()
        ]
        connection.execute(
            text("INSERT INTO embeddings VALUES (:digest, :embedder, :vector) ON CONFLICT DO NOTHING"), rows
        )


def read_embeddings(connection: Connection, embedder: str, digests: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the stored vectors (D,) float32 among `digests`."""
    rows = connection.execute(
        text(
            "SELECT digest, vector FROM embeddings WHERE embedder = :embedder "
            f"AND digest IN {listed(connection, 'digests')}"
        ),
        {"embedder": space_of(embedder), "digests": json.dumps(list(digests))},
    )
    return {row.digest: np.frombuffer(row.vector, "<f4") for row in rows}


def read_groups(connection: Connection, taste: str, rows: Sequence[int]) -> list[str]:
    """Returns the keys near-duplicates share, by row number in the order asked for: `group_of` of many images."""
    result = connection.execute(
        text(
            "SELECT row, digest, prompt, seed, source FROM images WHERE taste = :taste "
            f"AND row IN {listed_numbers(connection, 'rows')}"
        ),
        {"taste": taste, "rows": json.dumps([int(row) for row in rows])},
    )
    groups = {row: group_of(digest, prompt, seed, source) for row, digest, prompt, seed, source in result}
    return [groups[int(row)] for row in rows]


def group_of(digest: str, prompt: str, seed: int, source: int) -> str:
    """Returns the key near-duplicates share: prompt and seed, or the digest where neither says how it was made.

    A caption that many imported images share, without a seed, makes them no duplicates of each other.
    """
    generated = prompt and (seed or source == SELF)
    return f"{prompt}\n{seed}" if generated else digest


def facts_of(row: Mapping[Any, Any]) -> ImageFacts:
    """Returns what a row of the table says about its image."""
    facts = {name: row[name] for name in _TOLD}
    parents, parameters = tuple(json.loads(str(row["parents"]))), json.loads(str(row["parameters"]))
    later = {name: row.get(name, "") for name in ("path", "elsewhere_model")}  # an earlier konomi's snapshot has none
    return ImageFacts(**facts, **later, parents=parents, parameters=parameters)


def _image(row: RowMapping) -> ImageRow:
    known = {name: row[name] for name in ("row", "width", "height", "created", "grade")}
    return ImageRow(facts=facts_of(row), without_pixels=bool(row["without_pixels"]), **known)  # type: ignore[arg-type]
