"""Failpoints do nothing unless named, then exactly what they are told."""

import errno
import os
import signal

import pytest

from konomi_chassis.storage import failpoints
from konomi_chassis.storage.failpoints import failpoint


@pytest.fixture(autouse=True)
def fresh_counts(monkeypatch):
    monkeypatch.setattr(failpoints, "_hits", {})


def test_nothing_happens_unless_it_is_named(monkeypatch):
    monkeypatch.delenv("KONOMI_FAILPOINT", raising=False)
    failpoint("label.after_commit")
    monkeypatch.setenv("KONOMI_FAILPOINT", "label.before_commit")
    failpoint("label.after_commit")


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("eio", errno.EIO)])
def test_errors_from_the_nth_time_on(monkeypatch, action, number):
    monkeypatch.setenv("KONOMI_FAILPOINT", f"write={action}@2")
    failpoint("write")
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            failpoint("write")
        assert caught.value.errno == number


def test_the_default_is_death(monkeypatch):
    monkeypatch.setenv("KONOMI_FAILPOINT", "write")
    child = os.fork()
    if child == 0:
        failpoint("write")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
