"""The table of grades in force and the counts: what the log says at every moment, however it grew."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, text

from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument
from konomi_chassis.storage import snapshots as rows_file
from konomi_chassis.storage.database import open_database, reading
from konomi_chassis.storage.dialects import NO_LIMIT
from konomi_rater.storage import consents, image_records, labels, panel, tastes
from konomi_rater.storage.embeddings import view_of
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.in_force import GradesInMemory, grade_column, rebuild_in_force, seen, verify_in_force
from konomi_rater.storage.labels import REPEAT_CHECK, LabelEntry, NewLabel
from konomi_rater.storage.schema import MIGRATIONS, SCHEMA

DIGESTS = [f"{i:064x}" for i in range(12)]
STEPS = 400
JOIN = "INSERT INTO panel VALUES (:taste, :digest, :now) ON CONFLICT DO NOTHING"


@pytest.fixture
def engine(rows, tmp_path: Path):
    engine = rows.open(tmp_path, SCHEMA)
    with engine.begin() as connection:
        for taste in ("t", "other"):
            tastes.create(connection, taste, "", "starter", "starter", 0.0)
            for digest in DIGESTS:
                image_records.add(connection, taste, ImageFacts(digest, 1), (8, 8), 0.0)
    yield engine
    engine.dispose()


def in_force(connection: Connection, taste: str) -> dict[str, tuple[int, int]]:
    rows = connection.execute(text("SELECT * FROM labels_in_force WHERE taste = :taste"), {"taste": taste})
    return {row.digest: (row.sequence, row.grade) for row in rows}


def by_hand(log: list[LabelEntry], gone: set[str]) -> dict[str, tuple[int, int]]:
    """The rule in plain words: the last that stands, a repeat only where no other grade does, nothing of the gone."""
    undone = {entry.undoes for entry in log}
    standing = [e for e in log if e.undoes is None and e.sequence not in undone and e.digest not in gone]
    repeats = [e for e in standing if e.reason == REPEAT_CHECK and e.grade]
    others = [e for e in standing if not (e.reason == REPEAT_CHECK and e.grade)]
    return {e.digest: (e.sequence, e.grade) for e in [*repeats, *others]}


def step(connection: Connection, rng: np.random.Generator, known: list[str], gone: set[str]) -> None:
    """One act of a person: a grade, a repeat, a cleared grade, an undo of the last or of any, or a revocation."""
    act, digest = rng.random(), known[int(rng.integers(len(known)))]
    if act < 0.02 and len(known) > 3:
        consents.revoke_images(connection, "t", [digest], "", 0.0)
        known.remove(digest)
        gone.add(digest)
    elif act < 0.3:
        last = labels.last_sequence(connection, "t")
        sequence = None if act < 0.15 or not last else int(rng.integers(1, last + 1))
        try:
            labels.undo(connection, "t", sequence, 0.0)
        except (FailedPrecondition, InvalidArgument) as error:
            assert error.reason in {"NOTHING_TO_UNDO", "UNDO_OF_UNDO", "ALREADY_UNDONE"}
    else:
        new = NewLabel(digest, int(rng.integers(6)), reason=REPEAT_CHECK if act > 0.8 else 0)
        labels.record(connection, "t", [new], 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_table_is_what_the_log_says_after_any_history(engine, seed):
    rng, known, gone = np.random.default_rng(seed), list(DIGESTS), set()
    with engine.begin() as connection:
        labels.record(connection, "other", [NewLabel(DIGESTS[0], 3)], 0.0)
    for _ in range(STEPS):
        with engine.begin() as connection:
            step(connection, rng, known, gone)
            log = labels.read(connection, "t", 0, NO_LIMIT, in_force=False)
            assert in_force(connection, "t") == by_hand(log, gone)
            taste = tastes.read(connection, "t")
            graded = labels.read(connection, "t", 0, NO_LIMIT, in_force=True)
            assert (taste.image_count, taste.label_count) == (len(known), len(graded))
    with engine.begin() as connection:
        before = in_force(connection, "t")
        assert verify_in_force(connection, "t") == len(before) > 0
        rebuild_in_force(connection, "t")
        assert in_force(connection, "t") == before
        assert in_force(connection, "other") == {DIGESTS[0]: (1, 3)}


def test_a_step_that_fails_leaves_nothing_in_force(engine):
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 5)], 0.0)
        raise ZeroDivisionError
    with reading(engine) as connection:
        assert not in_force(connection, "t")
        assert tastes.read(connection, "t").label_count == 0


def test_the_check_finds_what_was_changed_behind_our_back(engine):
    with engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 5), NewLabel(DIGESTS[1], 2)], 0.0)
    for statement, what in (
        ("UPDATE labels_in_force SET grade = 4 WHERE grade = 5", f"the grade in force of image {DIGESTS[0][:16]}"),
        (f"INSERT INTO labels_in_force VALUES ('t', '{DIGESTS[2]}', 9, 1, '', 0, 0)", "the grade in force of image"),
        ("UPDATE taste_counts SET graded = 7", "the count of graded"),
        ("UPDATE taste_counts SET images = 7", "the count of images"),
    ):
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
        with reading(engine) as connection, pytest.raises(DataLoss, match=what) as raised:
            verify_in_force(connection, "t")
        assert raised.value.reason == "IN_FORCE_CHANGED"
        with engine.begin() as connection:
            rebuild_in_force(connection, "t")
            assert verify_in_force(connection, "t") == 2


def test_a_home_of_an_older_konomi_is_filled_from_its_log(tmp_path):
    path = tmp_path / "older.sqlite"
    engine = open_database(path, MIGRATIONS[:8])
    rows = [
        (DIGESTS[0], 3, 0, None),
        (DIGESTS[0], 5, REPEAT_CHECK, None),
        (DIGESTS[1], 2, 0, None),
        (DIGESTS[1], 0, 0, 3),
    ]
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 0)")
        for sequence, (digest, grade, reason, undoes) in enumerate(rows, start=1):
            bound = {"s": sequence, "d": digest, "g": grade, "r": reason, "u": undoes}
            connection.execute(text("INSERT INTO labels VALUES ('t', :s, :d, :g, 'owner', :r, 1.0, :u, 'x')"), bound)
        connection.execute(
            text(
                "INSERT INTO images (taste, digest, source, prompt, seed, unit, night, parents, licence, consent, "
                "parameters, width, height, created) VALUES ('t', :d, 1, '', 0, '', '', '[]', '', '', '{}', 8, 8, 0)"
            ),
            {"d": DIGESTS[0]},
        )
    engine.dispose()
    engine = open_database(path, MIGRATIONS)
    with reading(engine) as connection:
        assert in_force(connection, "t") == {DIGESTS[0]: (1, 3)}
        assert verify_in_force(connection, "t") == 1
        taste = tastes.read(connection, "t")
        assert (taste.image_count, taste.label_count) == (1, 1)
    engine.dispose()


def test_a_taste_that_goes_takes_its_derived_rows_along(engine):
    with engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 5)], 0.0)
        bound = {"taste": "t"}
        for table in ("labels", "images"):
            rows_file.delete_rows(connection, table, "taste = :taste", bound)
        rows_file.delete_rows(connection, "tastes", "id = :taste", bound)
        for table in ("labels_in_force", "taste_counts"):
            assert not connection.execute(text(f"SELECT 1 FROM {table} WHERE taste = 't'")).first()


def plain(connection: Connection) -> tuple[dict[str, LabelEntry], set[str]]:
    grades = labels.grades_in_force(connection, "t")
    return grades, panel.members(connection, "t")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_grades_in_memory_are_those_of_the_database_after_any_history(engine, seed):
    rng, known, memory, column = np.random.default_rng(seed), list(DIGESTS), GradesInMemory("t"), None
    followed = 0
    view = view_of(DIGESTS, np.eye(len(DIGESTS), dtype=np.float32), ["base"] * len(DIGESTS), np.ones(len(DIGESTS), int))
    for _ in range(STEPS // 2):
        with engine.begin() as connection:
            for _ in range(int(rng.integers(0, 4))):
                step(connection, rng, known, set())
            if rng.random() < 0.1:
                joins = {"taste": "t", "digest": DIGESTS[int(rng.integers(12))], "now": 0.0}
                connection.execute(text(JOIN), joins)
        with reading(engine) as connection:
            grades = memory.at(connection)
            every, members = plain(connection)
        assert list(grades.every.items()) == list(every.items()) and grades.panel == members
        assert grades.training == {d: e for d, e in every.items() if d not in members}
        assert grades.aside == {d: e for d, e in every.items() if d in members}
        column = grade_column(view, grades, column)
        assert column.grades.tolist() == [every[d].grade if d in every else 0 for d in DIGESTS]
        assert seen(grades.every, view) == grades.every
        followed += grades.before is not None
    assert followed > STEPS // 5, "most states were followed, not read whole"


def test_grades_in_memory_serve_an_older_snapshot_and_another_log(engine):
    memory = GradesInMemory("t")
    with engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 5), NewLabel(DIGESTS[1], 2)], 0.0)
    with reading(engine) as older:
        assert older.execute(text("SELECT COUNT(*) FROM labels")).scalar_one() == 2
        with engine.begin() as connection:
            labels.record(connection, "t", [NewLabel(DIGESTS[0], 1)], 0.0)
        with reading(engine) as connection:
            assert memory.at(connection).every[DIGESTS[0]].grade == 1
        assert memory.at(older).every[DIGESTS[0]].grade == 5, "this snapshot is from before"
    with engine.begin() as connection:
        rows_file.delete_rows(connection, "labels", "taste = 't'", {})
        connection.exec_driver_sql("DELETE FROM labels_in_force")
        labels.record(connection, "t", [NewLabel(DIGESTS[at], 3) for at in (4, 5, 6, 7)], 0.0)
    with reading(engine) as connection:
        assert {digest: entry.grade for digest, entry in memory.at(connection).every.items()} == dict.fromkeys(
            DIGESTS[4:8], 3
        ), "a longer log that is not the same one"


def test_a_grade_of_an_image_that_comes_later_is_not_lost(engine):
    with engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[11], 4)], 0.0)
    with reading(engine) as connection:
        grades = GradesInMemory("t").at(connection)
    few, all_ = (view_of(DIGESTS[:n], np.eye(n, 12, dtype=np.float32), ["base"] * n, np.ones(n, int)) for n in (6, 12))
    column = grade_column(few, grades)
    assert not column.grades.any() and not column.whole
    assert grade_column(all_, grades, column).grades.tolist() == [0] * 11 + [4]
