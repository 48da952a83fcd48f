"""The trainer's rows move from SQLite to PostgreSQL and back, by themselves and with the rater's in one command."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from sqlalchemy import text

from konomi.cli.storage import migrate
from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import database_path, open_for_role
from konomi_chassis.storage.postgresql import moving
from konomi_rater.storage import tastes
from konomi_rater.storage.schema import SCHEMA as RATER
from konomi_trainer.storage import models
from konomi_trainer.storage.schema import SCHEMA
from tests.trainer.storage.lineage import TASTE, live, queue

pytestmark = pytest.mark.slow
ROWS = {
    "requests": 1,
    "training_runs": 5,
    "models": 3,
    "promotions": 3,
    "current_models": 1,
    "training_checkpoints": 6,
    "collected_checkpoints": 0,
}


@pytest.fixture
def local(tmp_path):
    settings = DatabaseSettings(home=tmp_path)
    engine = open_for_role(settings, SCHEMA)
    live(engine)
    engine.dispose()
    return settings


@pytest.fixture
def remote(postgresql, tmp_path, local):
    """The same home with a database in its settings."""
    return DatabaseSettings(home=tmp_path, url=postgresql.database())


def alive(settings: DatabaseSettings, runs: int) -> None:
    """Opens a home, checks that its lineage is there, and goes on with it under numbers nobody had."""
    engine = open_for_role(settings, SCHEMA)
    with engine.begin() as connection:
        assert [model.current for model in models.page(connection, TASTE, 1 << 62, 9)] == [False, True, False]
        last = connection.execute(text("SELECT MAX(sequence) FROM training_runs")).scalar_one()
        count = connection.execute(text("SELECT COUNT(*) FROM training_runs")).scalar_one()
        assert (last, count) == (runs, runs) and queue(connection, f"more-{runs}").sequence > last
    engine.dispose()


def test_there_and_back_again(local, remote):
    assert {one.table: one.rows for one in moving.to_postgresql(remote, SCHEMA)} == ROWS
    names = {path.name for path in (local.home / "databases").iterdir()} - {"trainer.sqlite.lock"}
    assert names == {"trainer.sqlite.moved"}
    alive(remote, 5)
    assert {one.table: one.rows for one in moving.to_sqlite(remote, SCHEMA)} == {**ROWS, "training_runs": 6}
    alive(local, 6)


def test_a_home_whose_rows_are_elsewhere_does_not_begin_anew(local, remote):
    with pytest.raises(FailedPrecondition, match=r"holds trainer\.sqlite, and .* has none of its rows") as caught:
        open_for_role(remote, SCHEMA)
    assert caught.value.reason == "DATABASE_LEFT_BEHIND"
    moving.to_postgresql(remote, SCHEMA)
    with pytest.raises(FailedPrecondition, match="were moved to PostgreSQL") as caught:
        open_for_role(local, SCHEMA)
    assert caught.value.reason == "DATABASE_MOVED"


def test_two_trainers_never_write_one_database(remote, tmp_path, local):
    moving.to_postgresql(remote, SCHEMA)
    engine = open_for_role(remote, SCHEMA)
    other = DatabaseSettings(home=tmp_path / "other", url=remote.url)
    with pytest.raises(FailedPrecondition, match="Another konomi process writes konomi_trainer") as caught:
        open_for_role(other, SCHEMA, wait_seconds=0.1)
    assert caught.value.reason == "DATABASE_TAKEN"
    engine.dispose()
    alive(other, 5)


@pytest.mark.parametrize("point", ["transfer.in_copy@3", "moving.before_rename"])
def test_a_move_that_is_killed_loses_nothing_and_the_same_command_ends_it(local, remote, point):
    assert mover(remote, KONOMI_FAILPOINT=point).returncode == -signal.SIGKILL
    assert database_path(local.home, SCHEMA).exists()
    done = mover(remote)
    assert {line["table"]: line["rows"] for line in map(json.loads, done.stdout.splitlines())} == ROWS
    alive(remote, 5)


def mover(settings: DatabaseSettings, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "konomi_trainer.migration", "--home", str(settings.home)],
        env={**os.environ, "KONOMI_DATABASE_URL": settings.url.get_secret_value(), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def konomi(home, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "konomi", "storage", "migrate", *words, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_command_moves_what_rater_and_trainer_know_and_brings_it_back(local, remote):
    home = local.home
    engine = open_for_role(local, RATER)
    with engine.begin() as connection:
        tastes.create(connection, "t", "Mine", "starter", "starter", 0.1)
    engine.dispose()
    (home / "konomi.toml").write_text(f'[database]\nurl = "{remote.url.get_secret_value()}"\n')
    done = konomi(home)
    assert done.returncode == 0, done.stderr
    assert re.search(r"moved and compared: 21 rows of \d+ tables", done.stdout), done.stdout
    assert "rater.sqlite.moved, trainer.sqlite.moved" in done.stdout
    alive(remote, 5)
    back = konomi(home, "--back", "--json")
    found = json.loads(back.stdout.splitlines()[-1])
    assert found["roles"]["trainer"] == {**ROWS, "training_runs": 6} and found["roles"]["rater"]["tastes"] == 1
    assert found["rows"]["training_runs"] == 6 and found["rows"]["requests"] == 1
    again = konomi(home, "--back")
    assert again.returncode == 4 and "there is nothing to move" in again.stderr


def test_a_home_whose_rater_was_moved_by_an_older_konomi_moves_the_rest(local, remote, monkeypatch):
    open_for_role(local, RATER).dispose()
    moving.to_postgresql(remote, RATER)
    monkeypatch.setenv("KONOMI_DATABASE_URL", remote.url.get_secret_value())
    assert migrate.moved(Home(local.home), back=False) == {"trainer": ROWS}
