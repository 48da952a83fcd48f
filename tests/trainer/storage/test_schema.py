"""The trainer's schema in two engines: the same columns, keys, rules and indexes."""

import pytest
import sqlalchemy

from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import open_database, open_for_role, reading
from konomi_chassis.storage.snapshots import read_tables
from konomi_trainer.storage.schema import MIGRATIONS, SCHEMA
from tests.postgresql import described


@pytest.fixture
def migrated(tmp_path):
    """What the migrations made of a SQLite file."""
    engine = open_database(tmp_path / "trainer.sqlite", MIGRATIONS)
    with reading(engine) as connection:
        yield described(connection)
    engine.dispose()


def test_the_tables_described_are_those_the_migrations_make(migrated):
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.begin() as connection:
        SCHEMA.tables.create_all(connection)
        fresh = described(connection)
    engine.dispose()
    assert {name: table for name, table in migrated.items() if name != "requests"} == fresh
    assert len(fresh) == 6


@pytest.mark.slow
def test_both_engines_end_with_the_same_schema(migrated, postgresql):
    engine = open_for_role(DatabaseSettings(url=postgresql.database()), SCHEMA)
    with reading(engine) as connection:
        assert described(connection) == migrated
    engine.dispose()


def test_a_snapshot_carries_the_same_tables_in_the_same_order(tmp_path, rows):
    file = open_database(tmp_path / "trainer.sqlite", MIGRATIONS)
    engine = rows.open(tmp_path / "home", SCHEMA)
    with reading(file) as there, reading(engine) as here:
        assert read_tables(here) == read_tables(there)
    engine.dispose()
    file.dispose()
