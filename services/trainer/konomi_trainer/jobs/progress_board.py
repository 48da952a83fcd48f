"""What the worker does now, written by its thread and read by watchers of a run."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True)
class Live:
    """What a run does now: phase, steps done, loss, estimated seconds left."""

    phase: str = ""
    step: int = 0
    loss: float = 0.0
    eta_seconds: float = 0.0


class ProgressBoard:
    """Where the worker writes what it does and watchers wait for the next change."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._live: dict[str, Live] = {}
        self._version = 0
        self.closed = False

    def post(self, run: str, live: Live | None) -> None:
        """Sets what a run does, or forgets it, and wakes every watcher."""
        with self._changed:
            if live is None:
                self._live.pop(run, None)
            else:
                self._live[run] = live
            self._version += 1
            self._changed.notify_all()

    def read(self, run: str) -> Live | None:
        """Returns what a run does, or None while nobody works on it."""
        with self._changed:
            return self._live.get(run)

    def version(self) -> int:
        """Returns a number that grows with every change."""
        with self._changed:
            return self._version

    def wait(self, version: int, seconds: float) -> None:
        """Waits until something changed since `version`, or so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version or self.closed, seconds)

    def close(self) -> None:
        """Wakes every watcher for good, so that its stream can end."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
