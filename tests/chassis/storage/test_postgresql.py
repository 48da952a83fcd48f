"""PostgreSQL as konomi trusts it: refused where it could lose a label, one writing process, whole migrations."""

import os
import signal
import subprocess
import sys
import threading

import psycopg
import pytest
import sqlalchemy
from pydantic import SecretStr
from sqlalchemy import MetaData, Table, text

from konomi.errors import FailedPrecondition, Internal, ResourceExhausted, Unavailable
from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import Migration, open_for_role, reading
from konomi_chassis.storage.postgresql import server
from konomi_chassis.storage.postgresql.engine import open_postgresql
from konomi_chassis.storage.schema import Schema, whole

pytestmark = pytest.mark.slow

TABLES = MetaData()
Table("things", TABLES, whole("n", primary_key=True, autoincrement=False))
FIRST = Migration(1, ("CREATE TABLE things (n INTEGER NOT NULL PRIMARY KEY)",))
SECOND = Migration(2, (), ("ALTER TABLE things ADD COLUMN m BIGINT", "UPDATE things SET m = n * 2"))
SCHEMA = Schema("toy", (FIRST,), TABLES)
NEWER = Schema("toy", (FIRST, SECOND), TABLES)

OPEN = """
import sys
from pydantic import SecretStr
from konomi_chassis.storage.postgresql.engine import open_postgresql
from tests.chassis.storage.test_postgresql import {schema}
engine = open_postgresql(SecretStr(sys.argv[1]), {schema})
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def url(postgresql) -> SecretStr:
    return SecretStr(postgresql.database())


@pytest.fixture
def engine(url):
    engine = open_postgresql(url, SCHEMA)
    yield engine
    engine.dispose()


def put(engine, *numbers: int) -> None:
    with engine.begin() as connection:
        for number in numbers:
            connection.execute(text("INSERT INTO things VALUES (:n)"), {"n": number})


def things(engine) -> list[int]:
    with reading(engine) as connection:
        return list(connection.execute(text("SELECT n FROM things ORDER BY n")).scalars())


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_may_lose_what_it_acknowledged_is_refused(postgresql, url, setting):
    with postgresql.setting(setting, "off"), pytest.raises(FailedPrecondition) as caught:
        open_postgresql(url, SCHEMA)
    assert caught.value.reason == "DATABASE_UNSAFE"
    assert f"runs with {setting} = off: it could lose labels" in caught.value.message
    assert f"Set {setting} = on in postgresql.conf" in caught.value.message
    open_postgresql(url, SCHEMA).dispose()


def test_a_connection_that_comes_later_is_looked_at_too(postgresql, engine):
    put(engine, 1)
    engine.pool.dispose()
    weak = pytest.raises(FailedPrecondition, match="synchronous_commit = local")
    with postgresql.setting("synchronous_commit", "local"), weak:
        put(engine, 2)
    assert things(engine) == [1]


def test_a_database_of_another_encoding_is_refused(postgresql):
    postgresql.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    with pytest.raises(FailedPrecondition, match="keeps its texts as LATIN1") as caught:
        open_postgresql(SecretStr(postgresql.url("latin")), SCHEMA)
    assert caught.value.reason == "DATABASE_ENCODING"


def test_an_old_server_is_refused(url, monkeypatch):
    monkeypatch.setattr(server, "OLDEST", 990_000)
    with pytest.raises(FailedPrecondition, match="konomi needs 14 or newer") as caught:
        open_postgresql(url, SCHEMA)
    assert caught.value.reason == "DATABASE_TOO_OLD"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("sqlite:///home.sqlite", "found one of 'sqlite' with a database"),
        ("postgresql://me:hunter2@db", "found one of 'postgresql' without a database"),
        ("hunter2 is no url", "it cannot be read"),
        ("postgresql://me:hunter2@db:port/x", "it cannot be read"),
    ],
)
def test_another_url_is_refused_and_its_password_not_shown(given, words):
    with pytest.raises(FailedPrecondition) as caught:
        server.address(SecretStr(given))
    assert caught.value.reason == "DATABASE_URL_INVALID"
    assert words in caught.value.message and "postgresql://USER@HOST:5432/DATABASE" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_the_password_is_in_no_error_no_settings_and_no_engine(tmp_path):
    secret = "hunter2"
    settings = DatabaseSettings(home=tmp_path, url=f"postgresql://me:{secret}@127.0.0.1:1/db")
    with pytest.raises(Unavailable) as caught:
        open_for_role(settings, SCHEMA)
    assert caught.value.reason == "DATABASE_UNREACHABLE"
    assert "the PostgreSQL database db at 127.0.0.1:1 cannot be reached" in caught.value.message
    shown = [str(caught.value), repr(caught.value), str(settings), repr(settings), settings.model_dump_json()]
    assert not any(secret in line for line in shown)
    assert secret not in repr(sqlalchemy.create_engine(server.address(settings.url)))
    assert server.address(settings.url).password == secret


def test_off_this_machine_the_connection_is_encrypted_unless_the_url_says_otherwise():
    asked = [
        ("postgresql://me@db.example/x", "require"),
        ("postgresql://me@db.example/x?sslmode=verify-full", "verify-full"),
        ("postgresql://me@127.0.0.1/x", None),
        ("postgresql:///x?host=/run/postgresql", None),
    ]
    for given, mode in asked:
        assert server.address(SecretStr(given)).query.get("sslmode") == mode


def test_a_missing_driver_is_named(monkeypatch):
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'konomi\[postgres\]'") as caught:
        server.address(SecretStr("postgresql:///x"))
    assert caught.value.reason == "MISSING_EXTRA"


def test_one_process_writes_and_the_next_may_when_it_has_ended(url, engine):
    with pytest.raises(FailedPrecondition, match="Another konomi process writes konomi_toy") as caught:
        open_postgresql(url, SCHEMA, wait_seconds=0.1)
    assert caught.value.reason == "DATABASE_TAKEN"
    engine.dispose()
    open_postgresql(url, SCHEMA, wait_seconds=0.1).dispose()


def test_a_process_that_was_killed_gives_the_database_up(url):
    with subprocess.Popen(
        [sys.executable, "-c", OPEN.format(schema="SCHEMA"), url.get_secret_value()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "open\n"
            with pytest.raises(FailedPrecondition, match="Another konomi process"):
                open_postgresql(url, SCHEMA, wait_seconds=0)
            process.send_signal(signal.SIGKILL)
            process.wait()
            open_postgresql(url, SCHEMA, wait_seconds=30).dispose()
        finally:
            process.kill()


def test_who_lost_the_lock_to_another_writes_nothing_more(postgresql, url, engine):
    put(engine, 1)
    # The network broke between this process and its lock alone, and another host took over.
    postgresql.run("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
    successor = open_postgresql(url, SCHEMA, wait_seconds=10)
    put(successor, 2)
    with pytest.raises(FailedPrecondition, match="Another konomi process writes"):
        put(engine, 3)
    assert things(successor) == [1, 2] == things(engine)
    successor.dispose()


def test_after_the_server_was_down_the_same_engine_goes_on(postgresql, engine):
    put(engine, 1)
    postgresql.stop("immediate")
    with pytest.raises(Unavailable) as caught:
        put(engine, 2)
    assert caught.value.reason == "DATABASE_UNREACHABLE"
    postgresql.start()
    put(engine, 3)
    assert things(engine) == [1, 3]


def test_a_writer_waits_for_another_only_so_long(url, engine, monkeypatch):
    engine.dispose()
    monkeypatch.setitem(server.SESSION, "lock_timeout", "50ms")
    engine = open_postgresql(url, SCHEMA)
    with psycopg.connect(url.get_secret_value()) as other:
        other.execute("SELECT epoch FROM konomi_toy.schema_state FOR UPDATE")
        with pytest.raises(Unavailable, match="busy") as caught:
            put(engine, 1)
    assert (caught.value.reason, caught.value.retry_after) == ("DATABASE_BUSY", 1.0)
    put(engine, 2)
    assert things(engine) == [2]
    engine.dispose()


def test_a_full_disk_of_the_server_is_told_as_one(engine):
    full = "DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$"
    with pytest.raises(ResourceExhausted, match="nothing was stored") as caught, engine.begin() as connection:
        connection.execute(text("INSERT INTO things VALUES (1)"))
        connection.exec_driver_sql(full)
    assert caught.value.reason == "DISK_FULL"
    assert things(engine) == []


def test_a_reader_sees_one_moment_and_cannot_write(engine):
    put(engine, 1)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM things")).scalar_one() == 1
        put(engine, 2)
        assert connection.execute(text("SELECT count(*) FROM things")).scalar_one() == 1
        with pytest.raises(sqlalchemy.exc.InternalError, match="read-only transaction"):
            connection.execute(text("DELETE FROM things"))
    put(engine, 3)
    assert things(engine) == [1, 2, 3]


def test_writers_wait_for_each_other_and_lose_nothing(engine):
    def add() -> None:
        for _ in range(20):
            with engine.begin() as connection:
                last = connection.execute(text("SELECT COALESCE(MAX(n), 0) FROM things")).scalar_one()
                connection.execute(text("INSERT INTO things VALUES (:n)"), {"n": last + 1})

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert things(engine) == list(range(1, 101))


def test_a_connection_does_not_cross_a_fork(engine):
    put(engine, 1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            things(engine)
        except Internal:
            os.write(write, b"refused")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"refused"
    put(engine, 2)


def test_a_later_step_is_run_once_and_whole(url):
    engine = open_postgresql(url, SCHEMA)
    put(engine, 1, 2)
    engine.dispose()
    for point in (1, 2):  # killed after its first statement, and after its second
        killed = subprocess.run(
            [sys.executable, "-c", OPEN.format(schema="NEWER"), url.get_secret_value()],
            env={**os.environ, "KONOMI_FAILPOINT": f"database.in_migration@{point}"},
            input="",
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        engine = open_postgresql(url, SCHEMA, wait_seconds=30)
        with reading(engine) as connection:
            assert connection.execute(text("SELECT * FROM things ORDER BY n")).all() == [(1,), (2,)]
        engine.dispose()
    for _ in range(2):
        engine = open_postgresql(url, NEWER)
        with reading(engine) as connection:
            assert connection.execute(text("SELECT n, m FROM things ORDER BY n")).all() == [(1, 2), (2, 4)]
        engine.dispose()
    with pytest.raises(FailedPrecondition, match="has schema 2, this konomi knows 1") as caught:
        open_postgresql(url, SCHEMA)
    assert caught.value.reason == "SCHEMA_NEWER"


def test_a_step_without_words_for_postgresql_is_a_fault_of_konomi(url, engine):
    engine.dispose()
    with pytest.raises(Internal, match="Migration 2 of toy has no statements for PostgreSQL"):
        open_postgresql(url, Schema("toy", (FIRST, Migration(2, ("SELECT 1",))), TABLES))


def test_labels_in_the_home_are_not_left_behind(postgresql, tmp_path):
    local = DatabaseSettings(home=tmp_path)
    engine = open_for_role(local, SCHEMA)
    put(engine, 1)
    engine.dispose()
    settings = DatabaseSettings(home=tmp_path, url=postgresql.database())
    with pytest.raises(FailedPrecondition, match=r"holds toy\.sqlite, and .* has none of its rows") as caught:
        open_for_role(settings, SCHEMA)
    assert caught.value.reason == "DATABASE_LEFT_BEHIND"
    with psycopg.connect(settings.url.get_secret_value()) as connection:
        assert connection.execute("SELECT to_regnamespace('konomi_toy')").fetchall() == [(None,)]
    (tmp_path / "databases" / "toy.sqlite").rename(tmp_path / "elsewhere")
    open_for_role(settings, SCHEMA).dispose()
