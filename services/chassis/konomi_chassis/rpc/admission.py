"""Bounded admission: so many calls at once, in all and per caller, and a quick refusal beyond."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from konomi.errors import ResourceExhausted
from konomi_chassis.auth.authentication import ANONYMOUS, Principal
from konomi_chassis.auth.policy import LABELLING
from konomi_chassis.settings import ServerSettings

ANONYMOUS_IN_FLIGHT = 16
RETRY_SECONDS = 1.0


class Admission:
    """Counts the calls in flight."""

    def __init__(self, settings: ServerSettings) -> None:
        self._total = settings.max_in_flight
        self._each = settings.max_in_flight_per_principal
        self._reserve = min(settings.label_reserve, settings.max_in_flight - 1)
        self._in_flight: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def admit(self, rpc: str, caller: Principal) -> Iterator[None]:
        """Takes a place for the time of the block.

        Raises:
            ResourceExhausted: no place is free (reason BUSY), with the delay after which to try again.
        """
        key = f"{caller.scope}:{caller.name}"
        with self._changed:
            self._check(rpc, caller, key)
            self._in_flight[key] += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight[key] -= 1
                if not self._in_flight[key]:
                    del self._in_flight[key]
                self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Waits until no known caller has a call in flight; says whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._named_in_flight() == 0, timeout=seconds)

    def _named_in_flight(self) -> int:
        return self._in_flight.total() - self._in_flight[f"{ANONYMOUS.scope}:{ANONYMOUS.name}"]

    def _check(self, rpc: str, caller: Principal, key: str) -> None:
        if caller.scope is None:
            if self._in_flight[key] >= ANONYMOUS_IN_FLIGHT:
                raise _busy("Too many calls without a token are in flight")
            return
        if rpc in LABELLING:
            if self._named_in_flight() >= self._total:
                raise _busy("The server has as many calls as it takes")
            return
        if self._named_in_flight() >= self._total - self._reserve:
            raise _busy("The server has as many calls as it takes")
        if self._in_flight[key] >= self._each:
            raise _busy(f"{caller.name} has {self._each} calls in flight already")


def _busy(why: str) -> ResourceExhausted:
    return ResourceExhausted(f"{why}; try again in a moment.", reason="BUSY", retry_after=RETRY_SECONDS)
