"""The log of a killed process, whole, torn and with flipped bits: all acknowledged is there, or its loss is told."""

import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from konomi.errors import DataLoss
from konomi_chassis.storage.database import Migration, open_database, reading
from konomi_chassis.storage.sqlite.sqlite_checksum import checksum
from konomi_chassis.storage.sqlite.write_ahead_log import Reach, _read_note, check_log, recoverable

STEPS = [Migration(1, ("CREATE TABLE labels (sequence INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",))]
FRAME = 4096 + 24


def insert(engine, count, start=0, size=1500):
    for number in range(start, start + count):
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO labels VALUES (?, ?)", (number, str(number) * size))


def rows(path):
    engine = open_database(path, STEPS)
    try:
        with reading(engine) as connection:
            return connection.exec_driver_sql("SELECT sequence, note FROM labels ORDER BY sequence").all()
    finally:
        engine.dispose()


def copy(source, target):
    """Copies a database as a kill leaves it."""
    target.mkdir()
    for entry in source.parent.iterdir():
        if entry.suffix != ".lock":
            shutil.copy(entry, target / entry.name)
    return target / source.name


@pytest.fixture
def killed(tmp_path):
    """The files of a database that was killed after its tenth insert."""
    path = tmp_path / "live" / "rater.sqlite"
    engine = open_database(path, STEPS)
    insert(engine, 10)
    copied = copy(path, tmp_path / "killed")
    engine.dispose()
    return copied


@pytest.fixture
def wanted(killed, tmp_path):
    return rows(copy(killed, tmp_path / "wanted"))


def flip(path, position, bit):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def beside(path, ending):
    return path.with_name(path.name + ending)


@pytest.mark.parametrize("big_endian", [False, True])
def test_the_checksum_is_the_loop_of_the_file_format(big_endian):
    rng = random.Random(3)
    for size in (8, 24, 4096, 4104):
        data, s0, s1 = rng.randbytes(size), 7, 2**32 - 5
        for at in range(0, size, 8):
            x, y = (int.from_bytes(data[i : i + 4], "big" if big_endian else "little") for i in (at, at + 4))
            s0 = (s0 + x + s1) & 0xFFFFFFFF
            s1 = (s1 + y + s0) & 0xFFFFFFFF
        assert checksum(data, (7, 2**32 - 5), big_endian=big_endian) == (s0, s1)


def test_a_killed_database_is_recovered_whole(killed):
    assert len(rows(killed)) == 10


def test_the_note_says_how_far_the_log_reaches(killed):
    noted = _read_note(beside(killed, "-committed"))
    assert noted == recoverable(beside(killed, "-wal")) and noted.frames > 10


def test_nothing_is_left_beside_a_closed_database(tmp_path):
    path = tmp_path / "rater.sqlite"
    engine = open_database(path, STEPS)
    insert(engine, 3)
    assert beside(path, "-committed").exists()
    engine.dispose()
    assert {entry.name for entry in tmp_path.iterdir()} == {"rater.sqlite", "rater.sqlite.lock"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["-wal", "-committed", "-shm"])
def test_flipped_bits_beside_the_database_lose_nothing_in_silence(killed, wanted, tmp_path, ending):
    rng, outcomes = random.Random(11), {"same": 0, "lost": 0}
    size = beside(killed, ending).stat().st_size
    places = [rng.randrange(size) for _ in range(150)]
    if ending == "-wal":
        frames = (size - 32) // FRAME
        places += [*range(32), *(32 + FRAME * rng.randrange(frames) + rng.randrange(24) for _ in range(60))]
        places += [size - 1 - rng.randrange(FRAME) for _ in range(40)]  # the last commit
    for turn, place in enumerate(places):
        broken = copy(killed, tmp_path / f"broken-{turn}")
        flip(beside(broken, ending), place, rng.randrange(8))
        try:
            answer = rows(broken)
        except DataLoss as error:
            assert error.reason == "DATABASE_DAMAGED" and "rater.sqlite-wal" in error.message
            outcomes["lost"] += 1
        else:
            assert answer == wanted, place
            outcomes["same"] += 1
    if ending == "-wal":
        assert outcomes["lost"] == len(places)
    else:
        assert outcomes["lost"] == 0


def test_without_the_note_all_but_the_last_commit_is_still_guarded(killed, wanted, tmp_path):
    """A power cut may have taken the note: then a bad frame of the last commit looks like a torn one."""
    beside(killed, "-committed").unlink()
    size = beside(killed, "-wal").stat().st_size
    for turn, place in enumerate((32 + 100, 32 + FRAME * 3 + 9, size // 2, size - 100)):
        broken = copy(killed, tmp_path / f"broken-{turn}")
        flip(beside(broken, "-wal"), place, 2)
        if place == size - 100:
            assert rows(broken) == wanted[:-1]
            continue
        with pytest.raises(DataLoss, match="with later commits behind it"):
            rows(broken)


@pytest.mark.parametrize("noted", [True, False])
def test_a_transaction_torn_by_a_power_cut_is_no_damage(tmp_path, noted):
    path = tmp_path / "live" / "rater.sqlite"
    engine = open_database(path, STEPS)
    insert(engine, 5)
    before, reached = beside(path, "-committed").read_bytes(), _read_note(beside(path, "-committed")).frames
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO labels VALUES (77, ?)", ("x" * 30_000,))
    torn = copy(path, tmp_path / "torn")
    engine.dispose()
    log = beside(torn, "-wal")
    beside(torn, "-committed").write_bytes(before if noted else b"")
    whole, rng = log.read_bytes(), random.Random(2)
    start = 32 + FRAME * reached
    for turn in range(20):
        cut = copy(torn, tmp_path / f"cut-{turn}")
        data = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):  # sectors that never reached the disk
            sector = rng.randrange(start // 512 + 1, len(data) // 512)
            data[sector * 512 : (sector + 1) * 512] = bytes(512)
        beside(cut, "-wal").write_bytes(data[: rng.choice((len(data), rng.randrange(start, len(data))))])
        assert {row.sequence for row in rows(cut)} - {77} == set(range(5))


def test_a_process_that_ends_without_a_word_leaves_nothing_to_doubt(tmp_path):
    """At its end the interpreter closes connections, and SQLite takes the log away with the last one."""
    path = tmp_path / "rater.sqlite"
    code = (
        "import sys; from pathlib import Path; from konomi_chassis.storage.database import Migration, open_database;"
        f"engine = open_database(Path(sys.argv[1]), [Migration(1, {STEPS[0].statements!r})]);"
        "connection = engine.connect(); connection.begin();"
        "connection.exec_driver_sql(\"INSERT INTO labels VALUES (1, 'a')\"); connection.commit();"
        "print(sorted(entry.name for entry in Path(sys.argv[1]).parent.iterdir()))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert "rater.sqlite-committed" in ran.stdout
    assert not beside(path, "-committed").exists()
    assert rows(path) == [(1, "a")]


@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_log_that_is_gone_is_told(killed, how):
    log = beside(killed, "-wal")
    log.unlink() if how == "missing" else log.write_bytes(b"")
    with pytest.raises(DataLoss, match="it is missing or empty") as caught:
        open_database(killed, STEPS)
    assert "delete rater.sqlite-wal and rater.sqlite-committed" in caught.value.message
    beside(killed, "-committed").unlink()
    assert len(rows(killed)) == 0


def test_a_log_without_its_database_is_told(killed):
    killed.unlink()
    with pytest.raises(DataLoss, match="is missing, its log"):
        open_database(killed, STEPS)


def test_a_log_that_was_begun_anew_is_no_damage(tmp_path):
    """The note of an earlier turn speaks of frames that are in the database by now."""
    path = tmp_path / "live" / "rater.sqlite"
    engine = open_database(path, STEPS)
    insert(engine, 3)
    old = beside(path, "-committed").read_bytes()
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO labels VALUES (10, ?)", ("x" * 6_000_000,))  # checkpointed at once
    insert(engine, 3, start=20)
    after = copy(path, tmp_path / "after")
    engine.dispose()
    beside(after, "-committed").write_bytes(old)
    assert _read_note(beside(after, "-committed")).salts != recoverable(beside(after, "-wal")).salts
    assert [row.sequence for row in rows(after)] == [0, 1, 2, 10, 20, 21, 22]


def test_the_note_follows_writers_in_many_threads(tmp_path):
    path = tmp_path / "live" / "rater.sqlite"
    engine = open_database(path, STEPS)
    threads = [threading.Thread(target=insert, args=(engine, 15, start * 100)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    copied = copy(path, tmp_path / "copied")
    engine.dispose()
    assert _read_note(beside(copied, "-committed")) == recoverable(beside(copied, "-wal"))
    assert len(rows(copied)) == 90


def test_after_damage_was_found_the_database_stays_as_it_was(killed):
    flip(beside(killed, "-wal"), 32 + FRAME + 100, 0)
    before = {entry.name: entry.read_bytes() for entry in killed.parent.iterdir()}
    for _ in range(2):
        with pytest.raises(DataLoss):
            open_database(killed, STEPS)
    after = {entry.name: entry.read_bytes() for entry in killed.parent.iterdir() if entry.suffix != ".lock"}
    assert after == before


def test_a_log_of_zeros_was_never_written(tmp_path):
    log = tmp_path / "rater.sqlite-wal"
    log.write_bytes(bytes(5000))
    assert recoverable(log) is None
    log.write_bytes(b"")
    assert recoverable(log) is None
    check_log(tmp_path / "none.sqlite")


def test_the_note_is_as_it_was_written(tmp_path):
    note = Path(tmp_path / "note")
    note.write_bytes(b"00112233aabbccdd 0000000012 00000000\n")
    assert _read_note(note) is None
    from konomi_chassis.storage.sqlite.write_ahead_log import _render

    note.write_bytes(_render(Reach("00112233aabbccdd", 12)))
    assert _read_note(note) == Reach("00112233aabbccdd", 12)
