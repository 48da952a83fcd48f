"""When callers that were refused should come back: one after another, about as fast as places come free.

A delay that is the same for all brings them back together, and a thousand that come back every second cost a server
more than its work. Each is given a turn of its own in place of that, so however many wait, the refusals of those who
keep to their turns stay a small share of what the server does.
"""

import math
import threading
import time
from collections.abc import Callable

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds a caller is asked to wait, at least and at most."""
TURNS_A_PLACE = 2.0
"""Turns for every place that comes free: more than one, so that places do not stay empty where some do not return."""
SLOWEST = 20.0
"""Turns a second at least: so few cost nothing, and how fast places come free is not known at first."""
MEMORY_SECONDS = 5.0
"""How far back places that came free count, by 1 / e."""


class RetrySchedule:
    """Turns of one queue that nobody stands in.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._freed, self._since, self._next = 0.0, clock(), 0.0

    def freed(self) -> None:
        """Notes that a place came free."""
        with self._lock:
            self._fade()
            self._freed += 1

    def turn(self) -> float:
        """Returns the seconds, SHORTEST to LONGEST, after which a caller refused now should try again."""
        with self._lock:
            now = self._fade()
            rate = max(SLOWEST, TURNS_A_PLACE * self._freed / MEMORY_SECONDS)
            self._next = min(max(self._next + 1 / rate, now + SHORTEST), now + LONGEST)
            return round(self._next - now, 3)

    def _fade(self) -> float:
        now = self._clock()
        self._freed *= math.exp((self._since - now) / MEMORY_SECONDS)
        self._since = now
        return now
