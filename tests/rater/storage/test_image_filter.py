"""Which images a filter admits, in memory: what the database says of the same images in plain SQL."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from konomi_chassis.storage.database import reading
from konomi_chassis.storage.dialects import contains, listed, listed_numbers
from konomi_rater.storage import consents, embeddings, image_records, labels, tastes
from konomi_rater.storage.embeddings import EmbeddingMatrix
from konomi_rater.storage.image_records import Filter, ImageFacts
from konomi_rater.storage.in_force import GradesInMemory, grade_column
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import SCHEMA

COUNT = 400
PROMPTS = ("", "A Cat", "a cat, sitting", "ÄPFEL und cats", "äpfel", "straße")
DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(COUNT)]


@pytest.fixture
def engine(rows, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(embeddings, "CHUNK", 64)
    rng = np.random.default_rng(0)
    engine = rows.open(tmp_path, SCHEMA)
    with engine.begin() as connection:
        for taste in ("t", "other"):
            tastes.create(connection, taste, "", "starter", "starter", 0.0)
        rows = dict(zip(DIGESTS, rng.standard_normal((COUNT, 4)).astype(np.float32), strict=True))
        image_records.remember_embeddings(connection, "starter", rows)
        for number, digest in enumerate(DIGESTS):
            facts = ImageFacts(
                digest,
                int(rng.integers(1, 5)),
                PROMPTS[int(rng.integers(len(PROMPTS)))],
                int(rng.integers(3)),
                ("", "base", "unit-1", "unit-2")[int(rng.integers(4))],
                f"night-{rng.integers(3)}",
                parameters={"scale": float(rng.integers(2))},
            )
            image_records.add(connection, "t" if number % 5 else "other", facts, (8, 8), 0.0)
        mine = [digest for number, digest in enumerate(DIGESTS) if number % 5]
        labels.record(connection, "t", [NewLabel(digest, int(rng.integers(0, 6))) for digest in mine[:200]], 0.0)
        consents.revoke_images(connection, "t", mine[10:30], "", 0.0)
    yield engine
    engine.dispose()


def by_sql(connection, criteria: Filter) -> list[str]:
    parts, bound = ["i.taste = 't'"], {}
    columns = (("grades", "COALESCE(l.grade, 0)"), ("units", "i.unit"), ("sources", "i.source"), ("nights", "i.night"))
    for name, column in (*columns, ("digests", "i.digest")):
        if getattr(criteria, name):
            among = listed_numbers if name in ("grades", "sources") else listed
            parts.append(f"{column} IN {among(connection, name)}")
            bound[name] = json.dumps(getattr(criteria, name))
    if criteria.prompt_contains:
        parts.append(contains(connection, "i.prompt", "part"))
        bound["part"] = criteria.prompt_contains
    query = (
        "SELECT i.digest FROM images AS i LEFT JOIN labels_in_force AS l ON l.taste = i.taste AND l.digest = i.digest "
        f"WHERE {' AND '.join(parts)} ORDER BY i.row"
    )
    return [row.digest for row in connection.execute(text(query), bound)]


@pytest.mark.parametrize(
    "criteria",
    [
        Filter(),
        Filter(grades=(0,)),
        Filter(grades=(4, 5)),
        Filter(units=("unit-1",)),
        Filter(units=("",)),
        Filter(units=("nobody",)),
        Filter(sources=(1, 3), nights=("night-0", "night-2")),
        Filter(digests=(DIGESTS[1], DIGESTS[15], "no digest", DIGESTS[1].upper(), "f" * 64)),
        Filter(prompt_contains="CAT"),
        Filter(prompt_contains="äPFEL"),
        Filter(prompt_contains="Ä"),
        Filter(prompt_contains="ß"),
        Filter(grades=(0, 1), units=("base", "unit-2"), prompt_contains="cat", sources=(1, 2, 3)),
    ],
)
def test_a_filter_admits_what_the_database_would(engine, criteria):
    memory = EmbeddingMatrix("t", "starter")
    with reading(engine) as connection:
        view = memory.view(connection)
        column = grade_column(view, GradesInMemory("t").at(connection)).grades
        admitted = image_records.admit(view, criteria, column)
        assert [view.digests[at] for at in admitted] == by_sql(connection, criteria)


def test_a_view_is_what_the_database_says_after_images_came_and_went(engine):
    memory = EmbeddingMatrix("t", "starter")
    with reading(engine) as connection:
        before = memory.view(connection)
        facts = [image_records.read(connection, "t", digest).facts for digest in before.digests]
    assert [fact.unit for fact in facts] == list(before.units)
    assert [fact.night for fact in facts] == list(before.nights)
    assert [fact.prompt for fact in facts] == list(before.prompts)
    assert [(made.prompt, made.unit, dict(made.parameters)) for made in before.provenances] == [
        (fact.prompt, fact.unit, dict(fact.parameters)) for fact in facts
    ]
    assert [fact.source for fact in facts] == before.sources.tolist()
    own = {}
    for at, fact in enumerate(facts):
        if fact.unit and fact.source == 1:
            own.setdefault(fact.unit, []).append(at)
    assert {unit: rows.tolist() for unit, rows in before.own_units(2).items()} == {
        unit: rows for unit, rows in own.items() if len(rows) > 1
    }
    assert list(before.own_units(1)) == list(own), "in the order of their first images"
    assert before.base(("base",)).tolist() == [at for at, fact in enumerate(facts) if fact.unit == "base"]
    gone = before.digests[3]
    with engine.begin() as connection:
        consents.revoke_images(connection, "t", [gone], "", 0.0)
    with reading(engine) as connection:
        after = memory.view(connection)
    assert list(after.digests) == [digest for digest in before.digests if digest != gone]
    assert after.at(gone) is None and before.at(gone) == 3 and after.generation == before.generation + 1


def test_a_view_of_an_older_snapshot_shows_no_later_image(engine):
    memory, late = EmbeddingMatrix("t", "starter"), "e" * 64
    with reading(engine) as older:
        count = older.execute(text("SELECT COUNT(*) FROM images WHERE taste = 't'")).scalar_one()
        with engine.begin() as connection:
            image_records.remember_embeddings(connection, "starter", {late: np.ones(4, np.float32)})
            image_records.add(connection, "t", ImageFacts(late, 1), (8, 8), 0.0)
        with reading(engine) as connection:
            assert len(memory.view(connection)) == count + 1
        view = memory.view(older)
    assert len(view) == count and view.at(late) is None
