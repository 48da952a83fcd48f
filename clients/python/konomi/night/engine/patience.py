"""How often a step of a night is tried, and for how long a cluster that is away is waited for."""

import time
from collections.abc import Callable

from konomi.errors import KonomiError
from konomi.night.settings import NightSettings

AWAY = "CLUSTER_AWAY"
"""Reason of a service whose Ray cluster is away: a machine that starts anew, which takes minutes and not seconds."""
AWAY_PAUSE = 60.0
"""Seconds until a cluster is asked again, where a service does not say."""


class Patience:
    """The tries one step has left.

    Args:
        settings: of the night: how often, with what pauses, and how long a cluster may be away.
        clock: seconds that only grow.
    """

    def __init__(self, settings: NightSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._failed, self._pause = 0, settings.backoff_seconds
        self._away_since: float | None = None

    def pause(self, error: KonomiError) -> float | None:
        """Counts a failed try and returns the seconds until the next one, None where there is none.

        A cluster that is away is waited for by the clock: how often it is asked meanwhile is no matter.
        """
        if error.reason == AWAY:
            now = self._clock()
            since = self._away_since = now if self._away_since is None else self._away_since
            left = self._settings.away_seconds - (now - since)
            return min(left, error.retry_after or AWAY_PAUSE) if left > 0 else None
        self._away_since = None
        self._failed += 1
        if self._failed >= self._settings.attempts:
            return None
        pause, self._pause = self._pause, self._pause * 2
        return max(pause, error.retry_after or 0.0)
