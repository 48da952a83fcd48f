"""The wish to stop a command of long work: the first signal is an event, the second ends the process."""

import os
import signal
import threading
from _thread import start_new_thread
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yields an event the first SIGINT or SIGTERM sets; the second ends the process at once, which is as safe."""
    stopped = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            os.kill(os.getpid(), signal.SIGKILL)
        # In a thread of its own: this one may hold the event's lock, about to wait for it.
        start_new_thread(stopped.set, ())

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
