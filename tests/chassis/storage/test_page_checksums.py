"""Real files with flipped bits, old files that get checksums, kills while they do: never another answer."""

import os
import random
import signal
import sqlite3
import subprocess
import sys

import pytest
from pysqlite3 import dbapi2

from konomi.errors import DataLoss, FailedPrecondition
from konomi_chassis.storage.database import Migration, open_database, reading
from konomi_chassis.storage.sqlite import page_checksums
from konomi_chassis.storage.sqlite.page_checksums import APPLICATION_ID, damaged_pages, read_header

STEPS = [
    Migration(
        1,
        (
            "CREATE TABLE labels (sequence INTEGER PRIMARY KEY, grade INTEGER NOT NULL, note TEXT, vector BLOB) STRICT",
            "CREATE INDEX by_note ON labels (note)",
        ),
    )
]
OPEN = """
import sys
from pathlib import Path
from konomi_chassis.storage.database import Migration, open_database
open_database(Path(sys.argv[1]), [Migration(1, ())]).dispose()
"""


def rows_of(count, seed=0):
    rng = random.Random(seed)
    return [(n, rng.randrange(5), f"note {rng.random()}", rng.randbytes(700)) for n in range(count)]


def fill(path, count):
    engine = open_database(path, STEPS)
    with engine.begin() as connection:
        for row in rows_of(count):
            connection.exec_driver_sql("INSERT INTO labels VALUES (?, ?, ?, ?)", row)
    engine.dispose()


def old_file(path, count):
    """A database as an earlier konomi left it: no checksums, in WAL mode, closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    for statement in STEPS[0].statements:
        connection.execute(statement)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO labels VALUES (?, ?, ?, ?)", rows_of(count))
    connection.execute("COMMIT")
    connection.execute("PRAGMA user_version=1")
    connection.close()


def answers(engine):
    with reading(engine) as connection:
        return [
            connection.exec_driver_sql("SELECT * FROM labels ORDER BY sequence").all(),
            connection.exec_driver_sql("SELECT note FROM labels ORDER BY note").all(),
        ]


def pages_that_fail(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return list(damaged_pages(descriptor, read_header(path).page_size))
    finally:
        os.close(descriptor)


def flip(path, position, bit):
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "databases" / "rater.sqlite"


def test_a_new_database_checks_its_pages(path):
    fill(path, 50)
    header = read_header(path)
    assert (header.reserved, header.application_id, header.marked) == (8, APPLICATION_ID, True)
    assert pages_that_fail(path) == []
    engine = open_database(path, STEPS)
    with reading(engine) as first, reading(engine) as second:
        for connection in (first, second):
            assert connection.exec_driver_sql("PRAGMA checksum_verification").scalar_one() == "1"
    engine.dispose()


@pytest.mark.slow
def test_every_flipped_bit_is_data_loss_or_harmless(path, tmp_path):
    fill(path, 60)
    whole, broken = path.read_bytes(), tmp_path / "broken.sqlite"
    engine = open_database(path, STEPS)
    wanted = answers(engine)
    engine.dispose()
    rng = random.Random(1)
    places = [(place, bit) for place in range(100) for bit in range(8)]
    places += [(rng.randrange(100, len(whole)), rng.randrange(8)) for _ in range(400)]
    outcomes = {"same": 0, "lost": 0}
    for place, bit in places:
        broken.write_bytes(whole)
        flip(broken, place, bit)
        try:
            engine = open_database(broken, STEPS)
        except DataLoss as error:
            assert error.reason == "DATABASE_DAMAGED" and "broken.sqlite" in error.message
            outcomes["lost"] += 1
            continue
        assert answers(engine) == wanted, (place, bit)
        outcomes["same"] += 1
        engine.dispose()
    assert outcomes["lost"] > len(places) * 0.9


def test_a_flip_that_would_turn_checking_off_is_told(path):
    fill(path, 1)
    flip(path, 20, 3)
    with pytest.raises(DataLoss, match="keeps 0 bytes of a page free, not 8") as caught:
        open_database(path, STEPS)
    assert "put a backup in the place of rater.sqlite" in caught.value.message


def test_the_damaged_page_is_named(path):
    fill(path, 60)
    flip(path, 5 * 4096 + 1000, 0)
    with pytest.raises(DataLoss, match="page 6 fails its checksum"):
        open_database(path, STEPS)


def test_damage_met_while_running_is_data_loss_and_ends_writing(path):
    fill(path, 60)
    engine = open_database(path, STEPS)
    # Another process: closing the file here would give up SQLite's locks.
    code = (
        "import os, sys; f = os.open(sys.argv[1], os.O_RDWR); "
        "b = os.pread(f, 1, 33000); os.pwrite(f, bytes([b[0] ^ 4]), 33000)"
    )
    with reading(engine) as connection:
        connection.exec_driver_sql("SELECT 1").all()
        subprocess.run([sys.executable, "-c", code, str(path)], check=True)
        with pytest.raises(DataLoss, match="page 9 fails its checksum"), reading(engine) as fresh:
            fresh.exec_driver_sql("SELECT sum(length(vector)) FROM labels").all()
    for _ in range(2):
        with pytest.raises(DataLoss, match="page 9"), engine.begin():
            pass
    with reading(engine) as connection:
        assert (
            connection.exec_driver_sql("SELECT grade FROM labels WHERE sequence = 0").scalar_one() == rows_of(1)[0][1]
        )
    engine.dispose()


@pytest.mark.parametrize("count", [0, 3, 4000])
def test_an_old_database_gets_checksums(path, count):
    old_file(path, count)
    path.chmod(0o640)
    assert not read_header(path).marked
    engine = open_database(path, STEPS)
    assert answers(engine)[0] == [tuple(row) for row in rows_of(count)]
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA user_version").scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()
    assert read_header(path).marked and pages_that_fail(path) == []
    assert path.stat().st_mode & 0o777 == 0o640
    assert {entry.name for entry in path.parent.iterdir()} == {"rater.sqlite", "rater.sqlite.lock"}


def test_an_old_database_with_a_full_log_loses_nothing(path, tmp_path):
    old_file(path, 10)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO labels VALUES (1000, 4, 'late', x'00')")
    for name in ("rater.sqlite", "rater.sqlite-wal"):  # as a kill leaves them
        (tmp_path / name).write_bytes((path.parent / name).read_bytes())
    connection.close()
    engine = open_database(tmp_path / "rater.sqlite", STEPS)
    assert answers(engine)[0][-1] == (1000, 4, "late", b"\0")
    engine.dispose()


def test_a_damaged_old_database_is_not_given_checksums(path):
    old_file(path, 300)
    with path.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(b"\xff" * 64)
    before = path.read_bytes()
    with pytest.raises(DataLoss) as caught:
        open_database(path, STEPS)
    assert caught.value.reason == "DATABASE_DAMAGED"
    assert path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("point", ["in_conversion", "before_exchange", "after_exchange"])
def test_a_kill_while_checksums_are_given_loses_nothing(path, point):
    old_file(path, 500)
    environment = os.environ | {"KONOMI_FAILPOINT": f"database.{point}"}
    ran = subprocess.run([sys.executable, "-c", OPEN, str(path)], env=environment, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert read_header(path).marked == (point == "after_exchange")
    engine = open_database(path, STEPS)
    assert answers(engine)[0] == [tuple(row) for row in rows_of(500)]
    engine.dispose()
    assert read_header(path).marked and pages_that_fail(path) == []
    assert not path.with_name("rater.sqlite-new").exists()


def written(path):
    """When a file was written last, and its size; zeros where there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return 0, 0
    return about.st_mtime_ns, about.st_size


@pytest.mark.slow
def test_kills_at_any_moment_of_the_conversion_lose_nothing(path):
    old_file(path, 12_000)
    fresh, whole, killed = path.with_name("rater.sqlite-new"), path.stat().st_size, 0
    for share in (0.0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0):
        left = written(fresh)
        child = subprocess.Popen([sys.executable, "-c", OPEN, str(path)])
        while child.poll() is None and (written(fresh) == left or written(fresh)[1] < share * whole):
            pass  # the moment is one of the conversion, not of the clock
        child.kill()
        killed += child.wait() == -signal.SIGKILL
        if read_header(path).marked:
            break
    assert killed >= 2
    engine = open_database(path, STEPS)
    assert answers(engine)[0] == [tuple(row) for row in rows_of(12_000)]
    engine.dispose()
    assert read_header(path).marked and pages_that_fail(path) == []


def test_without_room_for_a_copy_the_old_database_goes_on_as_it_was(path, monkeypatch):
    old_file(path, 20)

    def full(*_arguments):
        raise page_checksums.apsw.FullError("database or disk is full")

    monkeypatch.setattr(page_checksums, "_copy", full)
    engine = open_database(path, STEPS)
    assert len(answers(engine)[0]) == 20
    engine.dispose()
    assert not read_header(path).marked and not path.with_name("rater.sqlite-new").exists()
    monkeypatch.undo()
    open_database(path, STEPS).dispose()
    assert read_header(path).marked


def test_without_the_extension_checksums_are_not_spoilt(path, tmp_path, monkeypatch):
    fill(path, 5)
    monkeypatch.setattr(page_checksums, "_loaded", False)
    with pytest.raises(FailedPrecondition, match="Install apsw from its wheel") as caught:
        open_database(path, STEPS)
    assert caught.value.reason == "CHECKSUMS_UNAVAILABLE"
    plain = tmp_path / "plain.sqlite"
    fill(plain, 5)
    assert not read_header(plain).marked


def test_another_sqlite_reads_the_file(path):
    fill(path, 5)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (5,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_pages_of_zeros_and_of_large_databases_pass(path):
    """A vacuum that spills its cache, and a page that was only ever skipped over."""
    fill(path, 6000)
    engine = open_database(path, STEPS)
    with engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM labels WHERE sequence % 3 > 0")
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO labels SELECT sequence + 1, grade, note, vector FROM labels")
    engine.dispose()
    assert pages_that_fail(path) == []
    connection = dbapi2.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
