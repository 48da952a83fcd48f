"""Whether the head of a cluster is still there: looked at by this process itself, before Ray does something about it.

Ray ends a process that is in a cluster a minute after it last heard of the head, whatever else the process does; a
service must have left by then. Until the head is given up actors go on working, so that one which comes back in time,
as where its state is kept, costs nothing.
"""

import threading
import time
from collections.abc import Callable

HEAD_SECONDS = 20.0
"""For which the head may be away."""
HEAD_LOOK_SECONDS = 2.0
"""After which it is looked at again."""


class HeadWatch:
    """Looks at a head until it is away for too long, in a thread of its own.

    Args:
        listens: returns where the head accepts connections, raises OSError where it does not.
        lost: called once, by the thread, when it has not for `seconds`.
        seconds: for which the head may be away.
        look_seconds: after which it is looked at again.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        listens: Callable[[], None],
        lost: Callable[[], None],
        seconds: float = HEAD_SECONDS,
        look_seconds: float = HEAD_LOOK_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listens, self._lost, self._clock = listens, lost, clock
        self._seconds, self._look_seconds, self._ended = seconds, look_seconds, threading.Event()
        threading.Thread(target=self._watch, name="head", daemon=True).start()

    def end(self) -> None:
        """Looks no more; waits for nothing, so the watch may end itself."""
        self._ended.set()

    def _watch(self) -> None:
        seen = self._clock()
        while not self._ended.wait(self._look_seconds):
            if self._is_there():
                seen = self._clock()
            elif self._clock() - seen >= self._seconds and not self._ended.is_set():
                self._lost()
                return

    def _is_there(self) -> bool:
        try:
            self._listens()
        except OSError:
            return False
        return True
