"""Batches drawn one ahead of the device, in a thread: a batch is a function of its number, so the bits stay."""

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Ahead(Generic[Key, Value]):
    """Draws what is asked for next while what was asked for is computed with.

    On a CPU the thread would only take cores from the step, so there everything is drawn when it is asked for.
    """

    def __init__(self, draw: Callable[[Key], Value], following: Callable[[Key], Key], ahead: bool, kept: int) -> None:
        """Takes a pure function of a key, and which key is asked for after another.

        Args:
            draw: makes the value of a key.
            following: key → the key that is asked for next, as a rule.
            ahead: whether it is drawn in a thread before it is asked for.
            kept: how many values are kept for parts of a batch that ask for them again.
        """
        self._draw, self._following, self._kept = draw, following, kept
        self._thread = ThreadPoolExecutor(1, "next-batch") if ahead else None
        self._values: dict[Key, Value] = {}
        self._coming: dict[Key, Future[Value]] = {}

    def __getitem__(self, key: Key) -> Value:
        """Returns the value of a key, and begins with the one that follows it."""
        if key not in self._values:
            coming = self._coming.pop(key, None)
            value = self._draw(key) if coming is None else coming.result()
            while len(self._values) >= self._kept:
                self._values.pop(next(iter(self._values)))
            self._values[key] = value
            if self._thread is not None:
                self._begin(self._following(key), self._thread)
        return self._values[key]

    def _begin(self, key: Key, thread: ThreadPoolExecutor) -> None:
        if key in self._values or key in self._coming:
            return
        while len(self._coming) >= self._kept:  # a rank that computes other rows asks in another order
            self._coming.pop(next(iter(self._coming))).cancel()
        self._coming[key] = thread.submit(self._draw, key)
