"""The alarms of a version as they are kept: by name with their numbers, beside the English of older konomi."""

from dataclasses import replace

import sqlalchemy

from konomi_chassis.storage.database import open_database, reading
from konomi_rater.sentences import Sentence
from konomi_rater.storage import tastes
from konomi_rater.storage.schema import MIGRATIONS, SCHEMA
from konomi_rater.storage.tastes import VersionRow

ROW = VersionRow("t", 0, 1.0, 5, "linear", "starter", {}, {}, [], "a" * 64, "b" * 64)
BEFORE_NAMES = 7


def test_alarms_come_back_with_their_numbers_and_words(rows, tmp_path):
    engine = rows.open(tmp_path, SCHEMA)
    doubt = Sentence("doubt", {"ratio": 2.53}, {"first": "base", "last": "unit-2"})
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        tastes.add_version(connection, replace(ROW, alarms=[doubt]), activate=False)
    with reading(engine) as connection:
        (kept,) = tastes.read_version(connection, "t", 1).alarms
    engine.dispose()
    assert (kept.name, kept.numbers, kept.words) == (doubt.name, doubt.numbers, doubt.words)
    assert str(kept) == str(doubt)


def test_a_version_fitted_before_alarms_had_names_keeps_its_sentences(tmp_path):
    path = tmp_path / "rater.sqlite"
    engine = open_database(path, MIGRATIONS[:BEFORE_NAMES])
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 1)")
        connection.execute(
            sqlalchemy.text(
                "INSERT INTO rater_versions VALUES ('t', 1, 1.0, 5, 'linear', 'starter', '{}', '{}', "
                """'["Only 2 UR labels.", "Grade more."]', 'a', 'b')"""
            )
        )
    engine.dispose()
    engine = open_database(path, MIGRATIONS)
    with reading(engine) as connection:
        alarms = tastes.read_version(connection, "t", 1).alarms
    engine.dispose()
    assert [(alarm.name, str(alarm)) for alarm in alarms] == [("", "Only 2 UR labels."), ("", "Grade more.")]
