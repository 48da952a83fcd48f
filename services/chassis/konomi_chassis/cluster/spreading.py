"""Batches of work spread over the actors of a cluster, at most two with each, so that a slow machine takes fewer.

An actor that is lost is started again by Ray where there is room, and its batches go back to the queue at once: whoever
is free takes them, and nothing waits for a machine that may never come back.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from konomi.errors import Cancelled, Unavailable
from konomi_chassis.cluster.connection import answer, first_answered

Batch = TypeVar("Batch")
AHEAD = 2
"""Batches an actor has at most: one it works on, one that waits so that it never does."""
FRUITLESS = 2
"""Losses an actor may have on average, with no batch coming from any of them, before patience runs out."""
AGAIN_SECONDS = 0.5
"""After which an actor that did not answer is asked again."""
LOOK_SECONDS = 0.1
"""After which it is looked whether anybody still waits."""


@dataclass
class Actor:
    """An actor: its handle, the batches it has, and since when it is away; None while it answers.

    Its class has a method `ready`, which answers anything but None once the actor is there.
    """

    handle: Any
    batches: int = 0
    away_since: float | None = None
    asked: float = 0.0


@dataclass(frozen=True)
class BatchWork(Generic[Batch]):
    """What is done, and in what words it fails.

    Attributes:
        hand: gives an actor, by its handle, a batch; returns Ray's reference of the answer.
        stop: tells an actor that nobody waits any more.
        silent: said where no actor answers.
        fruitless: said where actors go away again and again before any of them has done a batch.
    """

    hand: Callable[[Any, Batch], Any]
    stop: Callable[[Any], None]
    silent: str
    fruitless: str


class BatchSpread(Generic[Batch]):
    """One request over the actors.

    Args:
        actors: who works; the batches they have of other requests count.
        batches: what there is to do, first ones first.
        work: how it is done.
        patience: seconds for which no actor at all may answer.
        clock: seconds that only grow.
        check: called again and again; raises why no actor will answer any more.
    """

    def __init__(
        self,
        actors: Sequence[Actor],
        batches: Sequence[Batch],
        work: BatchWork[Batch],
        patience: float,
        clock: Callable[[], float],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._actors, self._waiting, self._work, self._check = actors, deque(batches), work, check
        self._patience, self._clock, self._began = patience, clock, clock()
        self._running: dict[Any, tuple[Actor, Batch]] = {}
        self._asked: dict[Any, Actor] = {}
        self.lost, self.redone = 0, 0
        """How often an actor was lost, and the batches that went back to the queue because of it: two each at most."""
        self._came, self._lost_since = self._began, 0
        for actor in actors:  # how long one was away before nobody asked it anything is no matter
            actor.away_since = None if actor.away_since is None else self._began

    def run(self, stopped: Callable[[], bool]) -> Iterator[tuple[Batch, Any]]:
        """Yields every batch once, with what an actor answered, in any order.

        Raises:
            Cancelled: nobody waits any more.
            Unavailable: no actor answers, or all are lost again and again (reason CLUSTER_AWAY).
            Exception: what an actor raised, or `check`.
        """
        while self._waiting or self._running:
            self._hand_out()
            for ref in self._answered():
                yield from self._taken(ref)
            if stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")
            self._check()
            self._check_patience()

    def stop(self) -> None:
        """Ends what is still under way, because the request failed or nobody waits for it."""
        for actor, _ in self._running.values():
            actor.batches -= 1
            self._work.stop(actor.handle)
        self._running.clear()

    def _hand_out(self) -> None:
        """Gives each actor up to two batches, those that have least first; asks the lost ones whether they are back."""
        now = self._clock()
        for actor in self._actors:
            if actor.away_since is not None and actor not in self._asked.values() and now >= actor.asked:
                actor.asked = now + AGAIN_SECONDS
                self._asked[actor.handle.ready.remote()] = actor
        for most in range(1, AHEAD + 1):
            for actor in self._actors:
                ample = most == 1 or len(self._waiting) > len(self._actors)  # at the end nobody hoards
                if self._waiting and ample and actor.away_since is None and actor.batches < most:
                    batch = self._waiting.popleft()
                    actor.batches += 1
                    self._running[self._work.hand(actor.handle, batch)] = (actor, batch)

    def _answered(self) -> list[Any]:
        refs = [*self._running, *self._asked]
        if not refs:
            time.sleep(LOOK_SECONDS)
            return []
        return first_answered(refs, LOOK_SECONDS)

    def _taken(self, ref: Any) -> Iterator[tuple[Batch, Any]]:
        """Takes an answer: what came of a batch, or that an actor is back or lost."""
        asked = self._asked.pop(ref, None)
        if asked is not None:
            if answer(ref) is not None:
                asked.away_since = None
            return
        actor, batch = self._running.pop(ref)
        try:
            outcome = answer(ref)
        except BaseException:
            actor.batches -= 1
            raise
        if outcome is None:
            self._lose(actor, batch)
            return
        actor.batches -= 1
        self._came, self._lost_since = self._clock(), 0
        yield batch, outcome

    def _lose(self, actor: Actor, batch: Batch) -> None:
        self.redone += 1
        self._waiting.appendleft(batch)
        actor.batches -= 1
        if actor.away_since is None:
            self.lost, self._lost_since = self.lost + 1, self._lost_since + 1
            actor.away_since, actor.asked = self._clock(), 0.0

    def _check_patience(self) -> None:
        now, away = self._clock(), [actor.away_since for actor in self._actors]
        if self._lost_since > FRUITLESS * len(self._actors) and now - self._came > self._patience:
            raise Unavailable(self._work.fruitless, reason="CLUSTER_AWAY", retry_after=60.0)
        if all(since is not None and now - since > self._patience for since in away):
            raise Unavailable(self._work.silent, reason="CLUSTER_AWAY", retry_after=60.0)
