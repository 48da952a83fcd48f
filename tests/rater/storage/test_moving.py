"""Rows move from SQLite to PostgreSQL and back: all of them, the same, and at no moment nowhere."""

import json
import os
import signal
import subprocess
import sys

import pytest
from sqlalchemy import text

from konomi.errors import DataLoss, FailedPrecondition
from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import database_path, open_for_role, reading
from konomi_chassis.storage.postgresql import moving, transfer
from konomi_chassis.storage.postgresql.transfer import compare
from konomi_rater.storage import consents, image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.in_force import verify_in_force
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import SCHEMA

pytestmark = pytest.mark.slow

DIGESTS = [f"{number:064x}" for number in range(12)]


def live(settings: DatabaseSettings) -> None:
    """A home in which things happened: grades, an undo, a revoked image, vectors, an answered request."""
    engine = open_for_role(settings, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "t", "Mine", "starter", "starter", 0.1)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1, prompt="äpfel\n%s :x"), (8, 8), 1 / 3)
            image_records.remember_embeddings(connection, "starter", {digest: [0.5, -0.25]})
        labels.record(connection, "t", [NewLabel(digest, 1 + at % 5) for at, digest in enumerate(DIGESTS)], 2.5)
        labels.undo(connection, "t", 3, 3.0)
        consents.revoke_images(connection, "t", [DIGESTS[11]], "asked", 4.0)
        line = "INSERT INTO requests VALUES ('a', 'RecordLabels', 'b', :reply)"
        connection.execute(text(line), {"reply": bytes(range(256))})
    engine.dispose()


@pytest.fixture
def local(tmp_path):
    settings = DatabaseSettings(home=tmp_path)
    live(settings)
    return settings


@pytest.fixture
def remote(postgresql, tmp_path, local):
    """The same home with a database in its settings."""
    return DatabaseSettings(home=tmp_path, url=postgresql.database())


def alive(settings: DatabaseSettings) -> dict[str, int]:
    """Opens a home, checks what it holds, and goes on with it; returns what was there."""
    engine = open_for_role(settings, SCHEMA)
    with reading(engine) as connection:
        labels.verify(connection, "t")
        found = {"labels": labels.last_sequence(connection, "t"), "in force": verify_in_force(connection, "t")}
        last = connection.execute(text("SELECT MAX(row) FROM images")).scalar_one()
    with engine.begin() as connection:
        image_records.add(connection, "t", ImageFacts(f"{found['labels']:063x}f", 1), (8, 8), 5.0)
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 5)], 5.0)
        assert connection.execute(text("SELECT MAX(row) FROM images")).scalar_one() > max(last, 12)
    engine.dispose()
    return found


def test_there_and_back_again(local, remote, tmp_path):
    moved = {one.table: one.rows for one in moving.to_postgresql(remote, SCHEMA)}
    assert (moved["labels"], moved["images"], moved["embeddings"], moved["requests"]) == (13, 11, 11, 1)
    assert moved.keys() == {table.name for table in SCHEMA.in_order()} | {"requests"}
    names = {path.name for path in (tmp_path / "databases").iterdir()} - {"rater.sqlite.lock"}
    assert names == {"rater.sqlite.moved"}
    assert alive(remote) == {"labels": 13, "in force": 10}

    back = {one.table: one.rows for one in moving.to_sqlite(remote, SCHEMA)}
    assert (back["labels"], back["images"]) == (14, 12)
    assert alive(local) == {"labels": 14, "in force": 10}
    with pytest.raises(FailedPrecondition, match="nothing to move"):
        moving.to_sqlite(remote, SCHEMA)


def test_what_is_appended_only_is_so_after_a_move_in_both(local, remote):
    moving.to_postgresql(remote, SCHEMA)
    for settings in (remote, local):
        if settings is local:
            moving.to_sqlite(remote, SCHEMA)
        engine = open_for_role(settings, SCHEMA)
        for statement in ("UPDATE labels SET grade = 1", "DELETE FROM consents", "DELETE FROM labels"):
            with engine.begin() as connection:
                if "consents" in statement:
                    connection.execute(text("INSERT INTO consents VALUES ('t', 1, 'r', 'g', '', 1.0)"))
                with pytest.raises(Exception, match="append-only"), connection.begin_nested():
                    connection.exec_driver_sql(statement)
                connection.rollback()
        engine.dispose()


@pytest.mark.parametrize("point", ["transfer.in_copy@1", "transfer.in_copy@20", "moving.before_rename"])
def test_a_move_that_is_killed_loses_nothing_and_the_same_command_ends_it(local, remote, point):
    assert run(remote, KONOMI_FAILPOINT=point).returncode == -signal.SIGKILL
    assert database_path(local.home, SCHEMA).exists()
    done = run(remote)
    assert done.returncode == 0, done.stdout
    assert {"table": "labels", "rows": 13} in [json.loads(line) for line in done.stdout.splitlines()]
    assert alive(remote) == {"labels": 13, "in force": 10}


@pytest.mark.parametrize("point", ["transfer.in_copy@3", "moving.before_rename", "moving.before_set_aside"])
def test_a_move_back_that_is_killed_loses_nothing_and_the_same_command_ends_it(local, remote, point):
    moving.to_postgresql(remote, SCHEMA)
    assert run(remote, "--back", KONOMI_FAILPOINT=point).returncode == -signal.SIGKILL
    done = run(remote, "--back")
    assert done.returncode == 0, done.stdout
    assert alive(local) == {"labels": 13, "in force": 10}
    names = {path.name for path in (local.home / "databases").iterdir()} - {"rater.sqlite.lock"}
    assert names == {"rater.sqlite", "rater.sqlite.moved"}


def run(settings: DatabaseSettings, *words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "konomi_rater.migration", "--home", str(settings.home), *words],
        env={**os.environ, "KONOMI_DATABASE_URL": settings.url.get_secret_value(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_what_was_moved_and_what_to_do_next(local, remote):
    def konomi(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "konomi", "storage", "migrate", *words, "--home", str(local.home)],
            capture_output=True,
            text=True,
            check=False,
        )

    refused = konomi()
    assert (
        refused.returncode == 4
        and "[database] url" in refused.stderr
        and not database_path(local.home, SCHEMA).with_name("rater.sqlite.moved").exists()
    )
    (local.home / "konomi.toml").write_text(f'[database]\nurl = "{remote.url.get_secret_value()}"\n')
    done = konomi()
    assert done.returncode == 0, done.stderr
    assert "rater.sqlite.moved" in done.stdout
    back = konomi("--back", "--json")
    found = json.loads(back.stdout.splitlines()[-1])
    assert (found["back"], found["rows"]["labels"]) == (True, 13)
    rows, tables = sum(found["rows"].values()), len(found["rows"])
    assert f"moved and compared: {rows} rows of {tables} tables" in done.stdout
    again = konomi("--back")
    assert again.returncode == 4 and "there is nothing to move" in again.stderr


def test_after_a_kill_between_tables_and_rows_an_empty_database_does_not_stand_for_the_home(local, remote):
    run(remote, KONOMI_FAILPOINT="transfer.in_copy@5")
    with pytest.raises(FailedPrecondition, match="has none of its rows") as caught:
        open_for_role(remote, SCHEMA, wait_seconds=30)
    assert caught.value.reason == "DATABASE_LEFT_BEHIND"


def test_a_moved_home_without_its_url_does_not_begin_anew(local, remote):
    moving.to_postgresql(remote, SCHEMA)
    with pytest.raises(FailedPrecondition, match="were moved to PostgreSQL") as caught:
        open_for_role(local, SCHEMA)
    assert caught.value.reason == "DATABASE_MOVED"


def test_other_rows_are_never_written_over(local, remote, tmp_path):
    other = DatabaseSettings(home=tmp_path / "other", url=remote.url)
    engine = open_for_role(other, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "theirs", "", "starter", "starter", 0.0)
    engine.dispose()
    with pytest.raises(FailedPrecondition, match="found others") as caught:
        moving.to_postgresql(remote, SCHEMA)
    assert caught.value.reason == "DATABASE_NOT_EMPTY"
    with pytest.raises(FailedPrecondition, match="found others"):
        moving.to_sqlite(remote, SCHEMA)
    assert alive(local) == {"labels": 13, "in force": 10}


def test_a_row_that_differs_stops_the_move(local, remote, monkeypatch):
    monkeypatch.setattr(transfer, "compare", lambda there, here, tables: spoilt(there, here, tables))
    with pytest.raises(DataLoss, match="row 1 of the table tastes") as caught:
        moving.to_postgresql(remote, SCHEMA)
    assert caught.value.reason == "ROWS_DIFFER"
    monkeypatch.undo()
    assert alive(local) == {"labels": 13, "in force": 10}


def spoilt(there, here, tables):
    here.exec_driver_sql("UPDATE tastes SET display_name = 'Theirs'")
    return compare(there, here, tables)


def test_without_a_url_or_a_file_there_is_nothing_to_move(local, remote):
    for move in (moving.to_postgresql, moving.to_sqlite):
        with pytest.raises(FailedPrecondition, match=r"expected \[database\] url") as caught:
            move(local, SCHEMA)
        assert caught.value.reason == "DATABASE_URL_INVALID"
    database_path(local.home, SCHEMA).unlink()
    with pytest.raises(FailedPrecondition, match="there is nothing to move") as caught:
        moving.to_postgresql(remote, SCHEMA)
    assert caught.value.reason == "NOTHING_TO_MOVE"


def test_a_running_konomi_is_named(local, remote):
    engine = open_for_role(local, SCHEMA)
    with pytest.raises(FailedPrecondition, match=r"Another konomi process writes rater\.sqlite"):
        moving.to_postgresql(remote, SCHEMA)
    engine.dispose()
