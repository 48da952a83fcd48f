"""A nearly full disk: rejected candidates go first, by the owner's policy, and only then does the night stop."""

from types import SimpleNamespace

import pytest

from konomi import errors
from konomi.night.engine import workflow
from konomi.night.engine.workflow import Interrupted, NightWorkflow
from konomi.night.retention import Kept, Taken

GIB = 2**30


@pytest.fixture
def night(tmp_path, monkeypatch):
    """The part of a night that looks at the disk, and a disk on which collecting frees what a test says."""
    disk = SimpleNamespace(free=1 * GIB, frees=2 * GIB, collections=0, fails=None)

    def collect(client, keep, settings, *, dry):
        assert not dry and settings.home == tmp_path
        if disk.fails:
            raise disk.fails
        disk.collections += 1
        disk.free += disk.frees
        return Taken(count=9)

    monkeypatch.setattr(workflow.shutil, "disk_usage", lambda path: SimpleNamespace(free=disk.free))
    monkeypatch.setattr(workflow.retention, "kept", lambda client, nights: Kept())
    monkeypatch.setattr(workflow.retention, "collect_images", collect)
    made = object.__new__(NightWorkflow)
    made.nights = SimpleNamespace(home=tmp_path)
    made.steps = SimpleNamespace(settings=SimpleNamespace(reserve_gib=2.0), gateway=SimpleNamespace(client=None))
    return made, disk


def test_with_room_nothing_is_collected(night):
    made, disk = night
    disk.free = 2 * GIB
    assert made._check_disk() == 0 and disk.collections == 0


def test_what_was_collected_makes_the_room_and_is_counted(night):
    made, disk = night
    assert made._check_disk() == 9 and disk.collections == 1


@pytest.mark.parametrize("fails", [None, errors.FailedPrecondition("no", reason="STORE_ELSEWHERE")])
def test_where_that_is_not_enough_or_cannot_be_the_night_stops_safely(night, fails):
    made, disk = night
    disk.frees, disk.fails = 0, fails
    with pytest.raises(Interrupted) as caught:
        made._check_disk()
    assert caught.value.error.reason == "DISK_FULL" and "kept in reserve" in caught.value.error.message
