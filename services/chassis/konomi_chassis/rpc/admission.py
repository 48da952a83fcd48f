"""Bounded admission: so many calls at once in every lane, in all and per caller, and a quick refusal beyond."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from konomi.errors import ResourceExhausted
from konomi_chassis.auth.authentication import Principal
from konomi_chassis.rpc.lanes import NAMED, OPEN_AT_ONCE, WATCHES_AT_ONCE, CallLane
from konomi_chassis.settings import ServerSettings

RETRY_SECONDS = 1.0


class Admission:
    """Counts the calls in flight."""

    def __init__(self, settings: ServerSettings) -> None:
        self._total = settings.max_in_flight
        self._each = settings.max_in_flight_per_principal
        self._reserve = min(settings.label_reserve, settings.max_in_flight - 1)
        self._of_lane: Counter[CallLane] = Counter()
        self._of_caller: Counter[tuple[CallLane, str]] = Counter()
        self._of_others: Counter[CallLane] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def admit(self, lane: CallLane, caller: Principal) -> Iterator[None]:
        """Takes a place for the time of the block.

        Raises:
            ResourceExhausted: no place is free (reason BUSY), with the delay after which to try again.
        """
        key = (lane, f"{caller.scope}:{caller.name}")
        other = caller.scope != "owner"
        with self._changed:
            self._check(lane, caller, key)
            self._of_lane[lane] += 1
            self._of_caller[key] += 1
            self._of_others[lane] += other
        try:
            yield
        finally:
            with self._changed:
                self._of_lane[lane] -= 1
                self._of_others[lane] -= other
                self._of_caller[key] -= 1
                if not self._of_caller[key]:
                    del self._of_caller[key]
                self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Waits until no known caller has a call in flight; says whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._of_lane[lane] for lane in NAMED), timeout=seconds)

    def _check(self, lane: CallLane, caller: Principal, key: tuple[CallLane, str]) -> None:
        if lane is CallLane.OPEN and self._of_lane[lane] >= OPEN_AT_ONCE:
            raise _busy("Too many calls without a token are in flight")
        if lane is CallLane.WATCH and self._of_lane[lane] >= WATCHES_AT_ONCE:
            raise _busy("Health has as many watches as it takes")
        if lane not in NAMED:
            return
        if self._of_lane[lane] >= self._total:
            raise _busy("The server has as many calls as it takes")
        if lane is not CallLane.WORK:
            if caller.scope == "owner":
                return  # the owner's labels and pictures, the page's: nobody else may starve them
            if self._of_others[lane] >= self._total - self._reserve:
                raise _busy("The server has as many calls as it takes")
        if self._of_caller[key] >= self._each:
            raise _busy(f"{caller.name} has {self._each} calls in flight already")


def _busy(why: str) -> ResourceExhausted:
    return ResourceExhausted(f"{why}; try again in a moment.", reason="BUSY", retry_after=RETRY_SECONDS)
