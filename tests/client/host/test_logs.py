"""Logs that stay small while their writers go on."""

import subprocess
import sys
import threading
import time

import pytest

from konomi.home import Home
from konomi.host import logs, supervisor
from konomi.host.logs import last_lines, turn_over
from konomi.host.supervisor import Role, Services

WRITER = """
import os, sys, time
for number in range(int(sys.argv[1])):
    os.write(2, b"line %08d\\n" % number)
    if number % 50 == 0:
        time.sleep(0.001)
"""


def contents(log):
    """Returns the files of a log, the oldest first."""
    names = [log.with_name(f"{log.name}.{number}") for number in (9, 8, 7, 6, 5, 4, 3, 2, 1)]
    return [path.read_bytes() for path in (*names, log) if path.exists()]


def test_a_small_log_and_none_are_left_alone(tmp_path):
    log = tmp_path / "rater.log"
    assert not turn_over(log, 100)
    log.write_bytes(b"x" * 99)
    assert not turn_over(log, 100) and contents(log) == [b"x" * 99]


def test_a_large_one_is_emptied_and_only_so_many_are_kept(tmp_path):
    log = tmp_path / "rater.log"
    for letter in (b"a", b"b", b"c", b"d"):
        with log.open("ab") as file:
            file.write(letter * 100)
        assert turn_over(log, 100, 3)
    assert contents(log) == [b"c" * 100, b"d" * 100, b""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rater.log", "rater.log.1", "rater.log.2"]


def test_a_link_is_not_followed_out_of_the_home(tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 200)
    (tmp_path / "rater.log").symlink_to(outside)
    assert not turn_over(tmp_path / "rater.log", 100) and outside.stat().st_size == 200


def test_a_folder_that_cannot_be_written_keeps_its_log(tmp_path, monkeypatch):
    log = tmp_path / "rater.log"
    log.write_bytes(b"x" * 200)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "_copy", full)
    assert not turn_over(log, 100) and contents(log) == [b"x" * 200]
    assert [path.name for path in tmp_path.iterdir()] == ["rater.log"]


def test_a_process_that_appends_goes_on_in_the_emptied_file_and_stays_in_order(tmp_path):
    log, lines = tmp_path / "rater.log", 20_000
    with log.open("ab") as file:
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(lines)], stderr=file)
    turned = 0
    while child.poll() is None:
        turned += turn_over(log, 20_000, 100)
        time.sleep(0.002)
    assert child.returncode == 0 and turned >= 2
    whole = b"".join(contents_of_all(log))
    assert b"\0" not in whole, "an emptied file has no hole: writers append"
    numbers = [int(line.split()[1]) for line in whole.splitlines() if len(line) == 13]
    assert numbers == sorted(numbers) and numbers[-1] == lines - 1
    assert len(numbers) > 0.9 * lines, "only what comes between the last read and the emptying is lost"


def contents_of_all(log):
    """Returns every file of a log that keeps many, the oldest first."""
    numbered = sorted(log.parent.glob(f"{log.name}.*"), key=lambda path: -int(path.suffix[1:]))
    return [path.read_bytes() for path in (*numbered, log)]


@pytest.mark.usefixtures("command_line")
def test_a_running_role_is_looked_after_and_its_last_words_are_still_found(command_line, monkeypatch):
    for name in ("PYTHONPATH", "KONOMI_HOME"):
        monkeypatch.setenv(name, command_line.environment[name])
    home = Home.locate()
    log = home.log("rater")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"old\n" * 3_000_000)
    role = Role("rater", home)
    try:
        assert log.with_name("rater.log.1").stat().st_size == 12_000_000, "turned over at the start"
        role.address(time.monotonic() + 60, threading.Event().is_set)
        with log.open("ab") as file:
            file.write(b"noise\n" * 2_000_000)
        Services([role], {}).check()
        assert log.stat().st_size < 1_000_000 and log.with_name("rater.log.2").exists(), "and while it runs"
        with log.open("ab") as file:
            file.write(b"the last words\n")
        role.kill()
        assert "the last words" in role.failure().message
    finally:
        supervisor.stop([role])


def test_the_last_lines_of_a_log_are_whole_few_and_harmless(tmp_path):
    log = tmp_path / "night.log"
    assert last_lines(log) == []
    log.write_bytes(b"".join(b"line %d \x1b[31m\n" % number for number in range(20_000)))
    lines = last_lines(log, 3)
    assert [line.split()[1] for line in lines] == ["19997", "19998", "19999"]
    assert not any("\x1b" in line for line in lines)
    log.write_bytes(b"x" * 70_000 + b"\nlast " + b"y" * 9000)
    assert last_lines(log) == ["last " + "y" * (logs.LINE_LENGTH - 5)], "half of a line is left out, a long one is cut"
    link = tmp_path / "link.log"
    link.symlink_to(log)
    assert last_lines(link) == []
