"""Bounded admission: so many calls, bytes and pixels at once, in all and per caller, and a quick refusal beyond.

Work is measured before it is carried here: a caller says in the metadata of a call how many bytes its message has and
how many pixels its images, and where there is no room for them the call is refused while the message is still unsent.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from konomi.errors import ResourceExhausted
from konomi_chassis.auth.authentication import Principal
from konomi_chassis.rpc.lanes import NAMED, OPEN_AT_ONCE, WATCHES_AT_ONCE, CallLane
from konomi_chassis.rpc.retry_schedule import RetrySchedule
from konomi_chassis.settings import ServerSettings

BYTES_KEY, PIXELS_KEY = "konomi-bytes", "konomi-pixels"
"""Metadata in which a caller says how large the message of a call is, and how many pixels the images in it have."""

UNDECLARED_BYTES = 1024 * 1024
"""Taken for the message of a caller that does not say, until it has come."""

PIXELS_PER_BYTE = 3
"""Of images of which only the bytes are known: photographs as JPEG."""

BYTES_PER_PIXEL = 4
"""No image has more: whoever says of fewer pixels than that is not believed."""


@dataclass(frozen=True)
class Load:
    """How much a call brings: bytes of its message, pixels of the images in it (None: nobody said)."""

    bytes: int = 0
    pixels: int | None = None

    @property
    def weight(self) -> tuple[int, int]:
        """Bytes and pixels to reckon with."""
        if self.pixels is None:
            return self.bytes, PIXELS_PER_BYTE * self.bytes
        return self.bytes, max(self.pixels, self.bytes // BYTES_PER_PIXEL)


class Place:
    """A call's place; what the call brings is corrected once its message has come."""

    def __init__(self, admission: "Admission", load: Load | None) -> None:
        self._admission, self.load = admission, load

    def weigh(self, size: int) -> None:
        """Corrects what the call brings to the size of its message, where the call is weighed at all.

        Raises:
            ResourceExhausted: it is larger than was said, and there is no room for it (reason BUSY).
        """
        if self.load is not None:
            self._admission.reweigh(self, Load(size, self.load.pixels))


class Admission:
    """Counts the calls in flight, and of those that work their bytes and pixels.

    Args:
        settings: how many there may be.
        clock: seconds that never go back.
    """

    def __init__(self, settings: ServerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = settings.max_in_flight
        self._each = settings.max_in_flight_per_principal
        self._reserve = min(settings.label_reserve, settings.max_in_flight - 1)
        self._most = (settings.max_bytes_in_flight, settings.max_pixels_in_flight)
        self._of_lane: Counter[CallLane] = Counter()
        self._of_caller: Counter[tuple[CallLane, str]] = Counter()
        self._of_others: Counter[CallLane] = Counter()
        self._held = (0, 0)
        self._changed = threading.Condition()
        self._clock = clock
        self._turns = {lane: RetrySchedule(clock) for lane in CallLane}
        self._turns_of_caller: dict[tuple[CallLane, str], RetrySchedule] = {}

    @contextmanager
    def admit(self, lane: CallLane, caller: Principal, load: Load | None = None) -> Iterator[Place]:
        """Takes a place for the time of the block.

        Args:
            lane: of the call.
            caller: who calls.
            load: what the call brings; only work is weighed.

        Raises:
            ResourceExhausted: there is no room (reason BUSY), with the delay after which to try again.
        """
        key = (lane, f"{caller.scope}:{caller.name}")
        other, place = caller.scope != "owner", Place(self, load if lane is CallLane.WORK else None)
        with self._changed:
            self._check(lane, caller, key)
            if place.load is not None:
                self._check_load()
            self._of_lane[lane] += 1
            self._of_caller[key] += 1
            self._of_others[lane] += other
            self._hold(place.load, 1)
        try:
            yield place
        finally:
            with self._changed:
                self._of_lane[lane] -= 1
                self._of_others[lane] -= other
                self._of_caller[key] -= 1
                self._turns[lane].freed()
                if key in self._turns_of_caller:
                    self._turns_of_caller[key].freed()
                if not self._of_caller[key]:
                    del self._of_caller[key]
                    self._turns_of_caller.pop(key, None)
                self._hold(place.load, -1)
                self._changed.notify_all()

    def reweigh(self, place: Place, load: Load) -> None:
        """Puts another load in the place of a call's.

        Raises:
            ResourceExhausted: it is the larger one, and there is no room for it (reason BUSY).
        """
        with self._changed:
            before = place.load
            self._hold(before, -1)
            try:
                if before is None or any(new > old for new, old in zip(load.weight, before.weight, strict=True)):
                    self._check_load()
                place.load = load
            finally:
                self._hold(place.load, 1)

    def wait_until_idle(self, seconds: float) -> bool:
        """Waits until no known caller has a call in flight; says whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not any(self._of_lane[lane] for lane in NAMED), timeout=seconds)

    def _check(self, lane: CallLane, caller: Principal, key: tuple[CallLane, str]) -> None:
        if lane is CallLane.OPEN and self._of_lane[lane] >= OPEN_AT_ONCE:
            raise self._busy("Too many calls without a token are in flight", lane)
        if lane is CallLane.WATCH and self._of_lane[lane] >= WATCHES_AT_ONCE:
            raise self._busy("Health has as many watches as it takes", lane)
        if lane not in NAMED:
            return
        if self._of_lane[lane] >= self._total:
            raise self._busy("The server has as many calls as it takes", lane)
        if lane is not CallLane.WORK:
            if caller.scope == "owner":
                return  # the owner's labels and pictures, the page's: nobody else may starve them
            if self._of_others[lane] >= self._total - self._reserve:
                raise self._busy("The server has as many calls as it takes", lane)
        if self._of_caller[key] >= self._each:
            raise self._busy(f"{caller.name} has {self._each} calls in flight already", lane, key)

    def _check_load(self) -> None:
        """Refuses once what is held reaches the most: one call may go beyond it, so that a large one has its turn."""
        if any(held >= most for held, most in zip(self._held, self._most, strict=True)):
            raise self._busy("The server has as many images as it takes", CallLane.WORK)

    def _busy(self, why: str, lane: CallLane, key: tuple[CallLane, str] | None = None) -> ResourceExhausted:
        """Returns the refusal, with a turn among those who wait for a place of the lane, or of one caller's in it."""
        turns = self._turns[lane] if key is None else self._turns_of_caller.setdefault(key, RetrySchedule(self._clock))
        wait = turns.turn()
        return ResourceExhausted(f"{why}; try again in {wait:.1f} seconds.", reason="BUSY", retry_after=wait)

    def _hold(self, load: Load | None, sign: int) -> None:
        if load is not None:
            size, pixels = load.weight
            self._held = (self._held[0] + sign * size, self._held[1] + sign * pixels)


def load_of(metadata: Mapping[str, str]) -> Load:
    """Returns what a call brings by its metadata; what is not said, or is no number, is taken for something small."""
    size = _number(metadata.get(BYTES_KEY))
    return Load(UNDECLARED_BYTES if size is None else size, _number(metadata.get(PIXELS_KEY)))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) <= 12 else None
