"""The hash chain of the labels, checked as it grows: edits made outside konomi are told at start and before a fit."""

import subprocess
import sys

import pytest

from konomi.errors import DataLoss
from konomi_chassis.storage.database import reading
from konomi_rater.storage import image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.label_chain import LabelChains
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import SCHEMA
from tests.postgresql import beside, unguard
from tests.rater.conftest import grades_of

BOTH_ENGINES = True
DIGEST = f"{1:064x}"


@pytest.fixture
def engine(rows, tmp_path):
    engine = rows.open(tmp_path, SCHEMA)
    with engine.begin() as connection:
        for taste in ("s", "t"):
            tastes.create(connection, taste, "", "starter", "starter", 0.0)
            image_records.add(connection, taste, ImageFacts(DIGEST, 1), (8, 8), 0.0)
    yield engine
    engine.dispose()


def grade(engine, count, taste="t"):
    with engine.begin() as connection:
        for number in range(count):
            labels.record(connection, taste, [NewLabel(DIGEST, 1 + number % 5)], 2.0)


def edit(engine, statement):
    with engine.begin() as connection:
        unguard(connection, "labels", "UPDATE")
        unguard(connection, "labels", "DELETE")
        connection.exec_driver_sql(statement)


def test_each_label_is_read_once(engine):
    chains = LabelChains()
    grade(engine, 5)
    grade(engine, 2, "s")
    with reading(engine) as connection:
        assert chains.verify_all(connection) == 7
        assert chains.verify_all(connection) == 0
    grade(engine, 3)
    with reading(engine) as connection:
        assert chains.verify(connection, "t") == 3
        assert chains.verify(connection, "s") == 0


@pytest.mark.parametrize(
    ("statement", "sequence"),
    [
        ("UPDATE labels SET grade = 1 WHERE taste = 't' AND sequence = 4", 4),
        ("UPDATE labels SET created = created + 1 WHERE taste = 't' AND sequence = 2", 2),
        ("UPDATE labels SET chain = upper(chain) WHERE taste = 't' AND sequence = 6", 6),
        ("DELETE FROM labels WHERE taste = 't' AND sequence = 1", 1),
        ("DELETE FROM labels WHERE taste = 't' AND sequence = 3", 3),
    ],
)
def test_an_edit_is_told_with_its_place(engine, statement, sequence):
    grade(engine, 6)
    edit(engine, statement)
    with reading(engine) as connection, pytest.raises(DataLoss, match=f"label {sequence} of tastes/t ") as caught:
        LabelChains().verify_all(connection)
    assert caught.value.reason == "LABELS_CHANGED" and "restore the database from a backup" in caught.value.message


def test_an_edit_after_the_last_check_is_told(engine):
    chains = LabelChains()
    grade(engine, 6)
    with reading(engine) as connection:
        chains.verify(connection, "t")
    edit(engine, "UPDATE labels SET grade = 1, chain = 'x' WHERE taste = 't' AND sequence = 6")
    with reading(engine) as connection, pytest.raises(DataLoss, match="label 6 of tastes/t"):
        chains.verify(connection, "t")


def test_a_replaced_log_is_checked_anew(engine):
    chains = LabelChains()
    grade(engine, 6)
    with reading(engine) as connection:
        chains.verify(connection, "t")
    edit(engine, "DELETE FROM labels WHERE taste = 't'")
    grade(engine, 2)
    with reading(engine) as connection:
        assert chains.verify(connection, "t") == 2


@pytest.mark.slow
def test_a_rater_over_an_edited_log_does_not_start(engine, tmp_path):
    grade(engine, 6)
    edit(engine, "UPDATE labels SET grade = 1 WHERE taste = 't' AND sequence = 4")
    engine.dispose()
    ran = subprocess.run(
        [sys.executable, "-m", "konomi_rater", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 78
    assert "label 4 of tastes/t differs from its hash chain" in ran.stderr and "Traceback" not in ran.stderr


@pytest.mark.slow
def test_no_fit_on_an_edited_log(rater, fitted):
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:50]))
    other = beside(rater.home)
    with other.begin() as connection:
        unguard(connection, "labels", "UPDATE")
        connection.exec_driver_sql("UPDATE labels SET grade = 6 - grade WHERE sequence = 45")
    other.dispose()
    with pytest.raises(DataLoss, match="label 45 of tastes/default"):
        rater.fit(fitted.taste)
