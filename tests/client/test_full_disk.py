"""A full disk, however it is said, is one error that says what to do."""

import errno
import sqlite3

import pytest

from konomi import errors
from konomi.cli import commands
from konomi.errors import Internal, ResourceExhausted
from konomi.night.engine.workflow import fault


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (sqlite3.OperationalError("database or disk is full"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (ValueError("full of words"), False),
    ],
)
def test_what_means_that_there_is_no_room(error, full):
    assert errors.is_full(error) is full
    failure = fault(error)
    assert isinstance(failure, ResourceExhausted if full else Internal)
    assert ("Free some" in failure.message) is full


def test_a_command_on_a_full_disk_says_so_without_a_traceback(monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(commands, "command_for", refuse)
    assert commands.run(["doctor"]) == 4
    assert "No space left on device. Free some" in capsys.readouterr().err
