"""A request spread over actors on a Ray cluster; the only file that imports Ray.

How batches are handed out, and taken back from a lost actor, is `konomi_chassis.cluster.spreading`. What the lost one
had stored of them is looked up by key and not made again.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import ray

from konomi.errors import Unavailable
from konomi_chassis.cluster.connection import LOST, ClusterConnection, first_answered, head_away, rejoined
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.spreading import AHEAD, LOOK_SECONDS, Actor, BatchSpread, BatchWork
from konomi_chassis.cluster.versions import DRAWING, written
from konomi_chassis.settings import StoreSettings
from konomi_generator.executors.batches import BatchOutcome, ImageBatch, split
from konomi_generator.executors.worker import ImageWorker
from konomi_generator.generator import Generator
from konomi_generator.requests import Finished, Request
from konomi_generator.settings import GeneratorSettings


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
        self._own, self._store, self._environment = own, store, environment
        self._gpus, self._count = 0, 0
        self._starting, self._requests = threading.Lock(), 0
        self._actors = self._start()
        self.lost, self.redone = 0, 0
        """How often an actor was lost, and the batches that went back to the queue because of it: two each at most."""

    @property
    def places(self) -> int:
        """How many actors draw at the same time, as many as were started last."""
        return max(1, self._count)

    def generate(self, request: Request, stopped: Callable[[], bool]) -> Iterator[Finished]:
        """Makes the images of a request and yields each once its batch is done, in any order; without previews.

        Raises:
            Unavailable: no actor answered for `patience_seconds`, all were lost again and again before any was done, or
                the cluster's head was (reason CLUSTER_AWAY); the next request joins again.
            KonomiError: what `Generator.generate` raises, wherever it was raised.
        """
        _, digest = self._generator.model(request.base_model)
        with self._at_work() as (cluster, actors):
            kept = request.batch_size or self._own.image_batch or 1  # 0: each actor chooses, by model and size
            batches = split(request, len(actors), self._settings.batch_images, kept)
            began, patience = self._clock(), self._settings.patience_seconds
            spread = BatchSpread(actors, batches, _work(digest), patience, self._clock, cluster.check_head)
            try:
                for batch, outcome in spread.run(stopped):
                    yield from _finished(batch, outcome, self._clock() - began)
            finally:
                self.lost, self.redone = self.lost + spread.lost, self.redone + spread.redone
                spread.stop()

    @contextmanager
    def _at_work(self) -> Iterator[tuple[ClusterConnection, list[Actor]]]:
        """Gives the cluster, joined anew where its head was lost, and its actors, which do not end meanwhile.

        Raises:
            Unavailable: the head is away (reason CLUSTER_AWAY).
        """
        with self._starting:
            if self._cluster.lost:
                if self._requests:  # those have not left it yet, and a process is in one cluster at a time
                    raise head_away()
                self._actors = []
                self._cluster = rejoined(self._settings, self._store, self._environment)
            self._actors = self._actors or self._start()
            cluster, actors = self._cluster, self._actors
            self._requests += 1
        try:
            with cluster.in_use():
                yield cluster, actors
        finally:
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
            if self._cluster.lost:
                return 0
            try:
                with self._cluster.in_use():
                    freed = self._all_released()
            except Unavailable:  # the head was lost meanwhile: what the actors have goes with them
                return 0
            if freed is not None and (self._gpus or self._settings.train_executor == "ray"):
                self._end()
            return freed

    def _all_released(self) -> int | None:
        freed = 0
        for actor in self._actors:
            if actor.away_since is None:  # one that never answered, or is lost, has nothing
                bytes_freed = self._released(actor)
                if bytes_freed is None:
                    return None
                freed += bytes_freed
        return freed

    def _released(self, actor: Actor) -> int | None:
        """Returns what an actor gave back, 0 where it does not answer.

        Raises:
            Unavailable: the head stayed away, and whether the actor is there nobody knows (reason CLUSTER_AWAY).
        """
        ref, began = actor.handle.release.remote(), self._clock()
        try:
            while not first_answered([ref], LOOK_SECONDS):
                self._cluster.check_head()
                if self._clock() - began > self._settings.patience_seconds:
                    return 0
            return cast("int | None", ray.get(ref))
        except LOST:
            return 0

    def close(self) -> None:
        """Ends the actors and leaves the cluster."""
        self._end()
        self._cluster.close()

    def _start(self) -> list[Actor]:
        """Starts the actors, which are away until they have answered: some may wait for what others hold."""
        self._gpus = max(self._gpus, self._cluster.gpus())
        handles = _start(self._cluster, self._settings, self._own, self._store, self._gpus)
        self._count = len(handles)
        return [Actor(handle, away_since=self._clock()) for handle in handles]

    def _end(self) -> None:
        for actor in self._actors:
            self._cluster.end(actor.handle)
        self._actors = []


def _finished(batch: ImageBatch, outcome: BatchOutcome, seconds: float) -> Iterator[Finished]:
    """Yields the images of a batch by their positions in the request; raises what it came to instead."""
    if outcome.error is not None:
        raise outcome.error
    for finished in outcome.finished:
        yield replace(finished, index=batch.positions[finished.index], seconds=seconds)


def _work(digest: str) -> BatchWork[ImageBatch]:
    """Returns how a batch is made by an actor whose base model has this digest."""
    job = uuid.uuid4().hex
    return BatchWork(
        hand=lambda handle, batch: handle.make.remote(job, batch, digest),
        stop=lambda handle: handle.stop.remote(job),
        silent="No actor of the Ray cluster answers. Look at its machines with `ray status`; what was made is kept, "
        "and the same request goes on from there.",
        fruitless="The machines of the Ray cluster go away before any of them has made a batch. Look at them with "
        "`ray status`, or set a smaller [scale] batch_images; what was made is kept, and the same request "
        "goes on from there.",
    )


def _start(
    cluster: ClusterConnection, settings: ScaleSettings, own: GeneratorSettings, store: StoreSettings, gpus: int
) -> list[Any]:
    """Starts the actors; Ray brings one that is lost back where there is room for it."""
    count = settings.drawing_actors(gpus or max(1, cluster.cores() // settings.actor_cpus))
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
    given = (settings_of_each, store.model_dump_json(), written(DRAWING))
    return [cluster.started(lambda: actor.remote(*given)) for _ in range(count)]
