"""The night's own database in a home of any name: a path pasted into a URL would be another file."""

from pathlib import Path

import pytest
import sqlalchemy

from konomi.night.engine.workflow import configuration


@pytest.mark.parametrize("name", ["a%20b", "what?", "x#y", "u::v", "two\nlines", "s p", "100%", "é猫", "a+b&c"])
def test_dbos_opens_the_file_that_was_meant(tmp_path, name):
    path = tmp_path / name / "night.sqlite"
    path.parent.mkdir()
    engine = sqlalchemy.create_engine(configuration(path)["system_database_url"])
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a)")
    engine.dispose()
    assert [Path(found).relative_to(tmp_path) for found in tmp_path.rglob("*.sqlite")] == [Path(name, "night.sqlite")]
    assert len(list(tmp_path.iterdir())) == 1
