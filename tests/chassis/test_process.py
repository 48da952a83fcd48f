"""What a process is told once: how many cores are its own, on any system."""

import os

from konomi_chassis import process


def test_the_cores_are_those_this_process_may_use_and_all_of_them_where_the_system_does_not_say(monkeypatch):
    assert process.usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert process.usable_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert process.usable_cores() == 1
