"""Turns of refused callers: one after another, as fast as places come free, never in a crowd."""

from collections import deque
from itertools import pairwise

import pytest

from konomi_chassis.rpc.retry_schedule import LONGEST, SHORTEST, SLOWEST, TURNS_A_PLACE, RetrySchedule


class Clock:
    """Seconds that a test moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_refusal_alone_waits_the_shortest_and_a_crowd_is_spread(clock):
    schedule = RetrySchedule(clock)
    turns = [schedule.turn() for _ in range(200)]
    assert turns[0] == SHORTEST
    assert all(later - earlier == pytest.approx(1 / SLOWEST, abs=0.002) for earlier, later in pairwise(turns))
    assert max(schedule.turn() for _ in range(2000)) == LONGEST
    clock.now += LONGEST + 1
    assert schedule.turn() == SHORTEST, "nobody waits any more"


def test_turns_come_as_fast_as_places_do(clock):
    schedule = RetrySchedule(clock)
    for _ in range(4000):
        clock.now += 0.01
        schedule.freed()
    turns = [schedule.turn() for _ in range(1000)]
    assert turns[-1] - turns[0] == pytest.approx(1000 / (TURNS_A_PLACE * 100), rel=0.02)
    clock.now += 60
    later = [schedule.turn() for _ in range(100)]
    assert later[-1] - later[0] == pytest.approx(99 / SLOWEST, rel=0.02), "what was fast a minute ago says nothing"


@pytest.mark.parametrize("callers", [50, 200, 1000])
def test_those_who_keep_to_their_turns_are_refused_at_one_rate_however_many_they_are(clock, callers):
    """A server that serves 32 calls at once, each for a second; every caller comes again at once when served."""
    schedule, places, refused, served = RetrySchedule(clock), 32, 0, 0
    arrivals = sorted((clock.now, number) for number in range(callers))
    ends: deque[float] = deque()
    while arrivals and clock.now < 160:
        clock.now, number = arrivals.pop(0)
        while ends and ends[0] <= clock.now:
            ends.popleft()
            schedule.freed()
        if len(ends) < places:
            ends.append(clock.now + 1.0)
            served += 1
            back = clock.now + 1.0
        else:
            refused += 1
            back = clock.now + schedule.turn()
        arrivals.append((back, number))
        arrivals.sort()
    assert served >= 0.9 * 60 * places, "places stay in use"
    assert refused - callers <= 60 * 2.2 * TURNS_A_PLACE * places
