"""One schema in two engines: the same columns, keys, rules and indexes, and what is append-only refuses on both."""

import pytest
import sqlalchemy
from sqlalchemy import inspect, text

from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import open_database, open_for_role, reading
from konomi_chassis.storage.snapshots import read_tables
from konomi_rater.storage.schema import MIGRATIONS, SCHEMA
from konomi_rater.storage.schema.postgresql import APPEND_ONLY
from tests.postgresql import described


@pytest.fixture
def migrated(tmp_path):
    """What the migrations made of a SQLite file."""
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
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
    assert len(fresh) == 33


@pytest.mark.slow
def test_both_engines_end_with_the_same_schema(migrated, postgresql):
    engine = open_for_role(DatabaseSettings(url=postgresql.database()), SCHEMA)
    with reading(engine) as connection:
        found = described(connection)
        views = sorted(inspect(connection).get_view_names())
    engine.dispose()
    assert found == migrated
    assert views == ["comparisons_standing", "labels_standing"]


def test_a_snapshot_carries_the_same_tables_in_the_same_order(tmp_path, rows):
    file = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    engine = rows.open(tmp_path / "home", SCHEMA)
    with reading(file) as there, reading(engine) as here:
        assert read_tables(here) == read_tables(there)
    engine.dispose()
    file.dispose()


def test_each_engine_guards_the_same_tables(tmp_path, rows):
    engine = rows.open(tmp_path, SCHEMA)
    names = (
        "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
        if rows.server
        else "SELECT lower(name) FROM sqlite_master WHERE type = 'trigger'"
    )
    with reading(engine) as connection:
        triggers = set(connection.execute(text(names)).scalars())
    engine.dispose()
    guards = {f"{table}_{verb}" for table in APPEND_ONLY for verb in ("update", "delete")}
    followed = {
        "labels_take_force",
        "revoked_images_lose_force",
        "tastes_are_counted",
        "tastes_lose_force",
        "images_are_forgotten",
        "images_need_no_pixels",
        "images_are_no_favourites",
        *(f"{table}_{verb}_is_counted" for table in ("images", "labels_in_force") for verb in ("insert", "delete")),
    }
    emptied = {f"{table}_truncate" for table in APPEND_ONLY} if rows.server else set()
    assert triggers == guards | followed | emptied


@pytest.mark.slow
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_postgresql_refuses_to_empty_what_is_append_only(emptied, table):
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), emptied.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {table} CASCADE")


@pytest.fixture(scope="module")
def emptied(postgresql):
    engine = open_for_role(DatabaseSettings(url=postgresql.database()), SCHEMA)
    yield engine
    engine.dispose()
