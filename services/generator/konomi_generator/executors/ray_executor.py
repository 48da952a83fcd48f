"""A request spread over actors on a Ray cluster; the only file that imports Ray.

Each actor has at most two batches, so a slow machine takes fewer. An actor that is lost is started again by Ray where
there is room, and its batches go back to the queue at once: whoever is free takes them, and nothing waits for a machine
that may never come back. What the lost one had stored of them is looked up by key and not made again.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import ray
from ray import exceptions

from konomi.errors import Cancelled, Unavailable
from konomi_chassis.cluster.connection import LOST, ClusterConnection, answer
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.settings import StoreSettings
from konomi_generator.executors.batches import BatchOutcome, ImageBatch, split
from konomi_generator.executors.worker import ImageWorker
from konomi_generator.generator import Generator
from konomi_generator.job import LOOK_SECONDS
from konomi_generator.requests import Finished, Request
from konomi_generator.settings import GeneratorSettings

AHEAD = 2
"""Batches an actor has at most: one it makes, one that waits so that it never does."""
FRUITLESS = 2
"""Losses an actor may have on average, with no batch coming from any of them, before patience runs out."""
AGAIN_SECONDS = 0.5
"""After which an actor that did not answer is asked again."""


@dataclass
class _Actor:
    """An actor: its handle, the batches it has, and since when it is away; None while it answers."""

    handle: Any
    batches: int = 0
    away_since: float | None = None
    asked: float = 0.0


class RayExecutor:
    """Makes images on a cluster as `Generator` does in one process: the same requests, outcomes and digests.

    Args:
        generator: of this process: it knows the base models, and makes nothing.
        settings: where the cluster is, and how much of it to take.
        own: the generator's settings, which every actor gets.
        store: likewise the store's.
        environment: of this process, for what it says of Ray's tokens and TLS.
        clock: seconds that only grow.

    Raises:
        FailedPrecondition: there is no cluster, anybody could use it, or its machines have no store in common.
    """

    def __init__(
        self,
        generator: Generator,
        settings: ScaleSettings,
        own: GeneratorSettings,
        store: StoreSettings,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generator, self._settings, self._clock = generator, settings, clock
        self._cluster = ClusterConnection(settings, store, environment)
        self._own, self._store, self._gpus = own, store, 0
        self._starting, self._requests = threading.Lock(), 0
        self._actors = self._start()
        self.lost, self.redone = 0, 0
        """How often an actor was lost, and the batches that went back to the queue because of it: two each at most."""

    def generate(self, request: Request, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Makes the images of a request and yields each once its batch is done, in any order; without previews.

        Raises:
            Unavailable: no actor answered for `patience_seconds`, or all were lost again and again before any was done.
            KonomiError: what `Generator.generate` raises, wherever it was raised.
        """
        _, digest = self._generator.model(request.base_model)
        with self._starting:
            self._actors = self._actors or self._start()
            self._requests += 1
        batches = split(request, len(self._actors), self._settings.batch_images)
        work = _Spread(self._actors, batches, digest, self._settings.patience_seconds, self._clock)
        try:
            yield from work.run(stopped)
        finally:
            self.lost, self.redone = self.lost + work.lost, self.redone + work.redone
            work.stop()
            with self._starting:
                self._requests -= 1

    def release(self) -> int | None:
        """Gives the actors' memory back; returns the bytes, None where any of them is at work.

        An actor holds its GPU for as long as it lives, whatever it has loaded. Where others may wait for one, or for
        the cores of an actor, the actors end; the next request starts them again.
        """
        with self._starting:
            if self._requests:
                return None
            freed = 0
            for actor in self._actors:
                if actor.away_since is None:  # one that never answered, or is lost, has nothing
                    bytes_freed = self._released(actor)
                    if bytes_freed is None:
                        return None
                    freed += bytes_freed
            if self._gpus or self._settings.train_executor == "ray":
                self._end()
            return freed

    def _released(self, actor: _Actor) -> int | None:
        try:
            return cast("int | None", ray.get(actor.handle.release.remote(), timeout=self._settings.patience_seconds))
        except (*LOST, exceptions.GetTimeoutError):
            return 0

    def close(self) -> None:
        """Ends the actors and leaves the cluster."""
        self._end()
        self._cluster.close()

    def _start(self) -> list[_Actor]:
        """Starts the actors, which are away until they have answered: some may wait for what others hold."""
        self._gpus = max(self._gpus, self._cluster.gpus())
        handles = _start(self._cluster, self._settings, self._own, self._store, self._gpus)
        return [_Actor(handle, away_since=self._clock()) for handle in handles]

    def _end(self) -> None:
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors = []


class _Spread:
    """One request over the actors."""

    def __init__(
        self, actors: list[_Actor], batches: list[ImageBatch], digest: str, patience: float, clock: Callable[[], float]
    ) -> None:
        self._actors, self._waiting, self._digest = actors, deque(batches), digest
        self._patience, self._clock, self._began = patience, clock, clock()
        self._job = uuid.uuid4().hex
        self._running: dict[Any, tuple[_Actor, ImageBatch]] = {}
        self._asked: dict[Any, _Actor] = {}
        self.lost, self.redone = 0, 0
        self._came, self._lost_since = self._began, 0
        for actor in actors:  # how long one was away before nobody asked it anything is no matter
            actor.away_since = None if actor.away_since is None else self._began

    def run(self, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Yields every image once."""
        while self._waiting or self._running:
            self._hand_out()
            for ref in self._ready():
                yield from self._taken(ref)
            if stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")
            self._check_patience()

    def stop(self) -> None:
        """Ends what is still under way, because the request failed or nobody waits for it."""
        for actor, _ in self._running.values():
            actor.batches -= 1
            actor.handle.stop.remote(self._job)
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
                    self._running[actor.handle.make.remote(self._job, batch, self._digest)] = (actor, batch)

    def _ready(self) -> list[Any]:
        refs = [*self._running, *self._asked]
        if not refs:
            time.sleep(LOOK_SECONDS)
            return []
        return list(ray.wait(refs, num_returns=1, timeout=LOOK_SECONDS)[0])

    def _taken(self, ref: Any) -> Iterator[Finished]:
        """Takes an answer: the images of a batch, or that an actor is back or lost."""
        asked = self._asked.pop(ref, None)
        if asked is not None:
            if answer(ref) is not None:
                asked.away_since = None
            return
        actor, batch = self._running.pop(ref)
        outcome: BatchOutcome | None = answer(ref)
        if outcome is None:
            self._lose(actor, batch)
            return
        actor.batches -= 1
        if outcome.error is not None:
            raise outcome.error
        self._came, self._lost_since = self._clock(), 0
        seconds = self._clock() - self._began
        for finished in outcome.finished:
            yield replace(finished, index=batch.positions[finished.index], seconds=seconds)

    def _lose(self, actor: _Actor, batch: ImageBatch) -> None:
        self.redone += 1
        self._waiting.appendleft(batch)
        actor.batches -= 1
        if actor.away_since is None:
            self.lost, self._lost_since = self.lost + 1, self._lost_since + 1
            actor.away_since, actor.asked = self._clock(), 0.0

    def _check_patience(self) -> None:
        now, away = self._clock(), [actor.away_since for actor in self._actors]
        if self._lost_since > FRUITLESS * len(self._actors) and now - self._came > self._patience:
            raise Unavailable(
                "The machines of the Ray cluster go away before any of them has made a batch. Look at them with "
                "`ray status`, or set a smaller [scale] batch_images; what was made is kept, and the same request "
                "goes on from there.",
                reason="CLUSTER_AWAY",
                retry_after=60.0,
            )
        if all(since is not None and now - since > self._patience for since in away):
            raise Unavailable(
                "No actor of the Ray cluster answers. Look at its machines with `ray status`; what was made is kept, "
                "and the same request goes on from there.",
                reason="CLUSTER_AWAY",
                retry_after=60.0,
            )


def _start(
    cluster: ClusterConnection, settings: ScaleSettings, own: GeneratorSettings, store: StoreSettings, gpus: int
) -> list[Any]:
    """Starts the actors; Ray brings one that is lost back where there is room for it."""
    count = settings.actors or gpus or max(1, cluster.cores() // settings.actor_cpus)
    threads = own.threads or (0 if gpus else settings.actor_cpus)
    actor = ray.remote(
        num_cpus=settings.actor_cpus,
        num_gpus=1 if gpus else 0,
        max_restarts=-1,
        max_task_retries=0,  # a batch goes to whoever is free, and waits for no machine to come back
        max_concurrency=AHEAD + 2,  # so that `stop` is heard while a batch is made
        scheduling_strategy="SPREAD",
    )(ImageWorker)
    settings_of_each = own.model_copy(update={"threads": threads}).model_dump_json()
    return [actor.remote(settings_of_each, store.model_dump_json()) for _ in range(count)]
