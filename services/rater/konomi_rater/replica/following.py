"""A rater that only reads: what it says to whoever asks for a change, and how it follows the one that writes."""

import logging
import threading
from collections.abc import Callable

from konomi.errors import FailedPrecondition

FOLLOW_SECONDS = 1.0
"""Between two looks at what the writer did; with the look itself that stays within two seconds."""


def read_only(writer: str) -> FailedPrecondition:
    """Returns the error of a change that is asked of a rater that only reads.

    Args:
        writer: address of the one that writes; empty where nobody said it.
    """
    where = f"at {writer}" if writer else "the one that was started without --read-only (KONOMI_WRITER can name it)"
    return FailedPrecondition(
        f"This rater only reads, and what was asked of it changes what is kept. Ask the rater that writes, {where}.",
        reason="READ_ONLY_REPLICA",
    )


class Following:
    """Looks every second at what the writer did, and says whether it could: then calls can be answered too."""

    def __init__(self, follow: Callable[[], None], seconds: float = FOLLOW_SECONDS) -> None:
        """Takes what brings the workspace up to date, and the time between two looks."""
        self._follow, self._seconds = follow, seconds
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, say: Callable[[bool], None]) -> None:
        """Begins to look; `say` is told whenever it turns out to work, or to work no more."""
        self._thread = threading.Thread(target=self._run, args=(say,), name="following", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the looking and waits for it."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, say: Callable[[bool], None]) -> None:
        serving = True
        while not self._end.wait(self._seconds):
            try:
                self._follow()
                well = True
            except Exception as error:  # noqa: BLE001  whatever it is, the next look may go well
                if serving:
                    logging.getLogger(__name__).warning("what the writer keeps cannot be read: %s", error)
                well = False
            if well != serving:
                serving = well
                say(serving)
