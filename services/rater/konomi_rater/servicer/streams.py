"""A stream of requests: taken in batches of whatever came within a moment, all for the taste its first one names."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import TypeVar

from konomi.errors import InvalidArgument

T = TypeVar("T")
_END = object()


def gather(items: Iterator[T], size: int, seconds: float) -> Iterator[list[T]]:
    """Yields lists of 1..size items in order.

    A caller that waits for each answer gets it; one that streams freely gets full batches. At most two
    batches are read ahead, so a fast sender is slowed down instead of filling the memory.

    Args:
        items: the stream; an exception it raises is raised here, after what came before it.
        size: items in a batch at most.
        seconds: how long to wait for more once one has come.
    """
    waiting: queue.Queue[object] = queue.Queue(maxsize=2 * size)
    stopped = threading.Event()
    reader = threading.Thread(target=_read, args=(items, waiting, stopped), name="gather", daemon=True)
    reader.start()
    try:
        ended: object = None
        while ended is None:
            batch: list[T] = []
            until = None
            while len(batch) < size:
                try:
                    item = waiting.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if item is _END or isinstance(item, BaseException):
                    ended = item
                    break
                batch.append(item)  # type: ignore[arg-type]
                until = until or time.monotonic() + seconds
            if batch:
                yield batch
        if isinstance(ended, BaseException):
            raise ended
    finally:
        stopped.set()


def stream_taste(current: str, names: list[str], *, required: bool = True) -> str:
    """Returns the taste of a stream: the first message decides, later ones repeat it or leave it empty.

    Args:
        current: name of the taste so far, empty before the first message.
        names: what the next messages say.
        required: whether one of them must have named it by now.

    Raises:
        InvalidArgument: another taste is named, or none where one is required.
    """
    for name in names:
        if name and current and name != current:
            raise InvalidArgument(
                f"expected one taste in a stream ({current}), found {name[:80]!r} too; open another stream",
                reason="TASTE_CHANGED",
                field="taste",
            )
        current = current or name
        if required and not current:
            raise InvalidArgument(
                'expected "tastes/{id}" in the first message, found none', reason="TASTE_REQUIRED", field="taste"
            )
    return current


def _read(items: Iterator[T], waiting: queue.Queue[object], stopped: threading.Event) -> None:
    last: object = _END
    try:
        for item in items:
            if not _put(waiting, item, stopped):
                return
    except BaseException as error:  # noqa: BLE001 - handed over to the thread that serves the stream
        last = error
    _put(waiting, last, stopped)


def _put(waiting: queue.Queue[object], item: object, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            waiting.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False
