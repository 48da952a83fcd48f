"""When the head of a cluster counts as lost: once it was away for long enough without a break, and only once."""

import threading

from konomi_chassis.cluster.head_watch import HeadWatch


class Head:
    """A head that listens or not, look by look; each look takes a second of its clock."""

    def __init__(self, looks: str) -> None:
        self.looks, self.now, self.done = list(looks), 0.0, threading.Event()
        self.lost_at: list[float] = []

    def listens(self) -> None:
        self.now += 1.0
        if not self.looks:
            self.done.set()
        elif self.looks.pop(0) == ".":
            raise OSError("nobody listens")

    def lost(self) -> None:
        self.lost_at.append(self.now)
        self.done.set()

    def watched(self) -> list[float]:
        watch = HeadWatch(self.listens, self.lost, seconds=3.0, look_seconds=0.001, clock=lambda: self.now)
        assert self.done.wait(60)
        watch.end()
        return self.lost_at


def test_a_head_that_stays_away_is_lost_once() -> None:
    assert Head("++.......").watched() == [5.0]


def test_one_that_comes_back_in_time_is_not() -> None:
    assert Head("+..+..+..+").watched() == []


def test_one_that_is_away_from_the_start_is_lost_too() -> None:
    assert Head("......").watched() == [3.0]
