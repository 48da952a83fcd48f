"""Embedding requests in flight: who waits for the images, where their bytes come from, who works, what came of each."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from konomi.errors import Cancelled, KonomiError, Unavailable


class Caller:
    """Who waits for images: one per rpc. `end` is called when the rpc is over: deadline, cancelled, or answered."""

    def __init__(self, name: str = "", *, patient: bool = False, confined: bool = False) -> None:
        """Takes who it is and how far its rights go.

        Args:
            name: the person's.
            patient: wait where the queue is full, as a stream does, instead of being refused.
            confined: a digest means an image its taste knows, and no other.
        """
        self.name, self.patient, self.confined, self.ended = name, patient, confined, False
        self._wake = threading.Event()

    def end(self) -> None:
        """Gives up: what has not begun never will."""
        self.ended = True
        self._wake.set()

    def wake(self) -> None:
        """Says that something has come."""
        self._wake.set()

    def wait(self) -> None:
        """Waits until something has come or the rpc is over."""
        self._wake.wait()
        if not self.ended:
            self._wake.clear()

    def check(self) -> None:
        """Raises Cancelled once the rpc is over."""
        if self.ended:
            raise Cancelled("The caller went away.", reason="CANCELLED")


@dataclass(frozen=True)
class ImageSource:
    """Where the encoded bytes of one image come from, how many there are (0 where unknown), and the field they fill."""

    load: Callable[[], bytes]
    size: int
    field: str


@dataclass(frozen=True, eq=False)
class Embedded:
    """An image's unit vector (D,) float32 and its size in pixels."""

    vector: np.ndarray
    width: int
    height: int


class EmbeddingExecutor(Protocol):
    """Who embeds the images that join a taste where this process does not."""

    @property
    def portion(self) -> int:
        """Images worth asking for at once."""

    def embed(self, embedder: str, digests: Sequence[str], caller: Caller) -> list[Embedded | KonomiError]:
        """Embeds stored images so that a vector's bits never depend on what was embedded beside it.

        Args:
            embedder: its name.
            digests: of the images.
            caller: who waits.

        Returns:
            Of each image, in order, its vector or what is wrong with it.

        Raises:
            Cancelled: the caller went away.
            Unavailable: nobody can embed now.
            FailedPrecondition: the embedder's files are missing, here or there, or differ.
        """

    def close(self) -> None:
        """Ends what works, and gives up what it holds."""


class EmbeddingRequest:
    """The images of one call that wait to be embedded, and what has come of them so far."""

    def __init__(self, count: int, caller: Caller) -> None:
        self._results: list[Embedded | Exception | None] = [None] * count
        self._left, self.caller = count, caller

    def fill(self, place: int, result: Embedded | Exception) -> bool:
        """Puts one result in its place; returns whether it was the last."""
        self._results[place] = result
        self._left -= 1
        if not self._left:
            self.caller.wake()
        return not self._left

    def wait(self) -> list[Embedded | KonomiError]:
        """Returns what came of each image, in order.

        Raises:
            Cancelled: the caller went away.
            Unavailable: the server stops.
            Exception: what broke the model or the store, as it was.
        """
        while self._left:
            self.caller.check()
            self.caller.wait()
        self.caller.check()
        for result in self._results:
            if isinstance(result, Exception) and (
                isinstance(result, Unavailable) or not isinstance(result, KonomiError)
            ):
                raise result
        return self._results  # type: ignore[return-value]
