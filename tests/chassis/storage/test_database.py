"""Real SQLite files: settings, version floor, one writer, whole migrations, kills, damage, failing disks."""

import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest
import sqlalchemy
from pysqlite3 import dbapi2

from konomi.errors import DataLoss, FailedPrecondition, Internal
from konomi_chassis.storage.database import Migration, check_version, open_database, reading

FIRST = Migration(1, ("CREATE TABLE labels (sequence INTEGER PRIMARY KEY, grade INTEGER NOT NULL) STRICT",))
SECOND = Migration(2, ("ALTER TABLE labels ADD COLUMN labeller TEXT", "CREATE INDEX by_grade ON labels (grade)"))
WRITER = """
import sys
from pathlib import Path
from konomi_chassis.storage.database import Migration, open_database
engine = open_database(Path(sys.argv[1]), [Migration(1, (
    "CREATE TABLE labels (sequence INTEGER PRIMARY KEY, grade INTEGER NOT NULL) STRICT",))])
print("ready", flush=True)
for number in range(1, 100_000):
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO labels (grade) VALUES (?)", (number % 5,))
    print(number, flush=True)
"""

WRITE_UNTIL_KILLED = """
import os, signal, sys, time
from pathlib import Path
from konomi_chassis.storage.database import Migration, open_database, reading
path = Path(sys.argv[1])
step = Migration(1, ("CREATE TABLE labels (turn INTEGER NOT NULL) STRICT",))
for turn in range(int(sys.argv[2])):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        engine = open_database(path, [step])
        while True:
            with engine.begin() as connection:
                connection.exec_driver_sql("INSERT INTO labels VALUES (?)", (turn,))
            os.write(writer, b"+")
    os.close(writer)
    answers = os.fdopen(reader)
    answers.read(1)
    time.sleep(0.02 + 0.02 * turn)
    os.kill(child, signal.SIGKILL)
    acknowledged = 1 + len(answers.read())
    os.waitpid(child, 0)
    engine = open_database(path, [step])
    with reading(engine) as connection:
        rows = connection.exec_driver_sql("SELECT count(*) FROM labels WHERE turn = ?", (turn,)).scalar_one()
    engine.dispose()
    print(acknowledged, rows, flush=True)
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "databases" / "rater.sqlite"


@pytest.fixture
def engine(path):
    engine = open_database(path, [FIRST])
    yield engine
    engine.dispose()


def insert(engine, grade=3):
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO labels (grade) VALUES (?)", (grade,))


def count(engine):
    with reading(engine) as connection:
        return connection.exec_driver_sql("SELECT count(*) FROM labels").scalar_one()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("busy_timeout", 5000),
        ("trusted_schema", 0),
        ("cell_size_check", 1),
        ("mmap_size", 0),
    ],
)
def test_every_connection_has_the_settings(engine, pragma, value):
    with reading(engine) as first, reading(engine) as second:
        for connection in (first, second):
            assert connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one() == value


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 51, 2), (3, 50, 7), (3, 51)])
def test_an_unsafe_sqlite_is_refused(version):
    with pytest.raises(FailedPrecondition) as caught:
        check_version(version)
    assert caught.value.reason == "SQLITE_UNSAFE" and "pysqlite3" in caught.value.message


def test_the_sqlite_in_use_is_safe():
    check_version((3, 51, 3))
    check_version(dbapi2.sqlite_version_info)


def test_one_writing_process(engine, path):
    with pytest.raises(FailedPrecondition) as caught:
        open_database(path, [FIRST], wait_seconds=0.1)
    assert caught.value.reason == "DATABASE_TAKEN"
    engine.dispose()
    open_database(path, [FIRST], wait_seconds=0.1).dispose()


def test_a_killed_process_holds_nothing(path):
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline()
    with pytest.raises(FailedPrecondition):
        open_database(path, [FIRST], wait_seconds=0)
    child.kill()
    child.wait()
    child.stdout.close()
    open_database(path, [FIRST], wait_seconds=0).dispose()


@pytest.mark.slow
def test_kills_lose_nothing_acknowledged(path):
    ran = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, str(path), "8"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    turns = [tuple(map(int, line.split())) for line in ran.stdout.splitlines()]
    assert len(turns) == 8
    for acknowledged, rows in turns:
        assert 0 < acknowledged <= rows <= acknowledged + 1


def test_readers_see_a_snapshot_and_cannot_write(engine):
    insert(engine)
    with reading(engine) as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM labels").scalar_one() == 1
        insert(engine)
        assert connection.exec_driver_sql("SELECT count(*) FROM labels").scalar_one() == 1
        with pytest.raises(sqlalchemy.exc.OperationalError, match="readonly"):
            connection.exec_driver_sql("DELETE FROM labels")
    assert count(engine) == 2
    insert(engine)


def test_writers_in_many_threads_wait_for_each_other(engine):
    threads = [threading.Thread(target=lambda: [insert(engine) for _ in range(20)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(engine) == 160


def test_a_failed_transaction_leaves_nothing(engine):
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO labels (grade) VALUES (1)")
        raise ZeroDivisionError
    assert count(engine) == 0


def test_migrations_run_once_and_in_order(path):
    engine = open_database(path, [FIRST])
    insert(engine)
    engine.dispose()
    for _ in range(2):
        engine = open_database(path, [FIRST, SECOND])
        with reading(engine) as connection:
            assert connection.exec_driver_sql("SELECT grade, labeller FROM labels").all() == [(3, None)]
            assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 2
        engine.dispose()


def test_a_failing_migration_leaves_the_file_as_it_was(path):
    open_database(path, [FIRST]).dispose()
    broken = Migration(2, (SECOND.statements[0], "CREATE NONSENSE"))
    with pytest.raises(sqlalchemy.exc.OperationalError):
        open_database(path, [FIRST, broken])
    engine = open_database(path, [FIRST, SECOND], wait_seconds=0)
    insert(engine)
    engine.dispose()


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.slow
def test_a_kill_inside_a_migration_leaves_it_whole_or_undone(path, nth):
    open_database(path, [FIRST]).dispose()
    code = (
        "import sys; from pathlib import Path; from konomi_chassis.storage.database import Migration, open_database;"
        f"steps = [Migration(1, {FIRST.statements!r}), Migration(2, {SECOND.statements!r})];"
        "open_database(Path(sys.argv[1]), steps)"
    )
    environment = os.environ | {"KONOMI_FAILPOINT": f"database.in_migration@{nth}"}
    ran = subprocess.run([sys.executable, "-c", code, str(path)], env=environment, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    engine = open_database(path, [FIRST])
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 1
        assert len(connection.exec_driver_sql("PRAGMA table_info(labels)").all()) == 2
    engine.dispose()


def test_a_file_from_a_newer_konomi_is_refused(path):
    open_database(path, [FIRST, SECOND]).dispose()
    with pytest.raises(FailedPrecondition) as caught:
        open_database(path, [FIRST])
    assert caught.value.reason == "SCHEMA_NEWER"


def test_misnumbered_migrations_are_a_bug(path):
    with pytest.raises(Internal):
        open_database(path, [SECOND])


def test_damage_is_found_at_start(path):
    engine = open_database(path, [FIRST])
    with engine.begin() as connection:
        for _ in range(5000):
            connection.exec_driver_sql("INSERT INTO labels (grade) VALUES (4)")
    with reading(engine) as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    content = bytearray(path.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(DataLoss) as caught:
        open_database(path, [FIRST])
    assert caught.value.reason == "DATABASE_DAMAGED"


def test_something_that_is_no_database_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"this is a letter to my aunt" * 200)
    with pytest.raises(DataLoss):
        open_database(path, [FIRST])


def test_connections_do_not_cross_a_fork(engine):
    child = os.fork()
    if child == 0:
        try:
            with engine.begin():
                os._exit(1)
        except Internal:
            os._exit(0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the disk fail")
@pytest.mark.slow
def test_after_a_failed_fsync_nothing_more_is_written(path):
    code = WRITER.replace(
        "for number in range(1, 100_000):\n    with",
        "import konomi.errors, sqlalchemy\nfor number in range(1, 30):\n  try:\n    with",
    )
    code += (
        "  except sqlalchemy.exc.OperationalError as error:\n    print('EIO', flush=True)\n"
        "  except konomi.errors.FailedPrecondition as error:\n    print(error.reason, flush=True)\n"
    )
    ran = subprocess.run(
        [
            "strace",
            "-f",
            "-o",
            os.devnull,
            "-e",
            "trace=fdatasync,fsync",
            "-e",
            "inject=fdatasync,fsync:error=EIO:when=24",
            sys.executable,
            "-c",
            code,
            str(path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "ptrace" in ran.stderr:
        pytest.skip("strace may not trace here")
    lines = ran.stdout.split()
    failed = lines.index("EIO")
    assert lines[failed + 1 :] and set(lines[failed + 1 :]) == {"STORE_READ_ONLY"}
    engine = open_database(path, [FIRST])
    assert count(engine) >= failed - 1
    engine.dispose()
