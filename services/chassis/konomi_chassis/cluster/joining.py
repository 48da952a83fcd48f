"""Joining a cluster whose head may die meanwhile: Ray itself would go on for days, and whoever waits for it with it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
LOOK_SECONDS = 0.2
"""After which it is looked whether the head is still there."""
JOIN_SECONDS = 120.0
"""For which joining may take where the head is there, or nobody knows."""


class Joining:
    """At most one attempt of this process to join; one that was given up is waited for again before another begins.

    Args:
        clock: seconds that only grow.

    Attributes:
        seen: addresses of heads that let this process in, or were about to: such a one is away, and not missing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self.seen = clock, set[str]()
        self._attempt: Future[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether an attempt was given up that may still come to something, or has since."""
        return self._attempt is not None

    def join(
        self, init: Callable[[], None], listens: Callable[[], None], head_seconds: float, most: float = JOIN_SECONDS
    ) -> None:
        """Joins, or goes on waiting for the attempt before.

        Args:
            init: joins; called in a thread of its own, by an attempt of its own.
            listens: returns where the head accepts connections, raises OSError where it does not.
            head_seconds: for which the head may be away.
            most: for which joining may take.

        Raises:
            TimeoutError: the head stayed away, or joining took too long.
            Exception: what `init` raises.
        """
        if self._attempt is None:
            self._attempt = asked(init)
        attempt, began = self._attempt, self._clock()
        seen = began
        while not attempt.done():
            wait([attempt], LOOK_SECONDS)
            now = self._clock()
            if _is_there(listens):
                seen = now
            if not attempt.done() and (now - seen > head_seconds or now - began > most):
                raise TimeoutError("the head of the cluster did not let this process in")
        self._attempt = None
        attempt.result()


def asked(question: Callable[[], T]) -> "Future[T]":
    """Returns what will come of a question to the cluster, asked in a thread of its own, since it may never return."""
    answer: Future[T] = Future()
    threading.Thread(target=_settle, args=(answer, question), name="cluster question", daemon=True).start()
    return answer


def _settle(answer: "Future[T]", question: Callable[[], T]) -> None:
    try:
        answer.set_result(question())
    except Exception as error:  # noqa: BLE001 whoever waits raises it
        answer.set_exception(error)


def _is_there(listens: Callable[[], None]) -> bool:
    try:
        listens()
    except OSError:
        return False
    return True
