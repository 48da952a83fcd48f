"""Images of tastes embedded by actors on a Ray cluster; the only file of the rater that imports Ray.

How batches are handed out, and taken back from a lost actor, is `konomi_chassis.cluster.spreading`; that actors hold
GPUs and cores only while there is work, `konomi_chassis.cluster.pool`.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from konomi.errors import KonomiError
from konomi_chassis.cluster.connection import ClusterConnection, rejoined
from konomi_chassis.cluster.pool import ActorPool
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.spreading import Actor, BatchSpread, BatchWork
from konomi_chassis.cluster.versions import EMBEDDING, written
from konomi_chassis.settings import StoreSettings
from konomi_rater.embedding.device import GPU_KEPT, KEPT
from konomi_rater.embedding.fingerprint import Fingerprints
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import Caller, Embedded
from konomi_rater.executors.batches import ROUNDS, DigestBatch, EmbeddedBatch, split
from konomi_rater.executors.worker import EmbeddingWorker
from konomi_rater.settings import RaterSettings

MOST_AT_ONCE = 4096
"""Images of a request that is made of many, however many actors there are: as many are embedded between two commits."""
AT_ONCE = 16
"""Calls an actor hears at once: batches of several requests, so that none waits for another, and `stop`."""


class RayEmbedding:
    """Embeds stored images on a cluster as the rater does in its process: on the CPU the same vectors, bit for bit.

    Args:
        embedders: of this process: they know the files, and embed nothing.
        settings: where the cluster is, and how much of it to take.
        own: the rater's settings, which every actor gets.
        store: likewise the store's.
        environment: of this process, for what it says of Ray's tokens and TLS.
        clock: seconds that only grow.

    It joins the cluster with the first images and leaves it when it has been idle, so that what becomes of the cluster
    meanwhile is nothing to whoever grades.

    Attributes:
        lost, redone: how often an actor was lost, and the batches that went back to the queue because of it.
    """

    def __init__(
        self,
        embedders: Embedders,
        settings: ScaleSettings,
        own: RaterSettings,
        store: StoreSettings,
        environment: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._embedders, self._settings, self._own = embedders, settings, own
        self._store, self._environment, self._clock = store, environment, clock
        self._fingerprints = Fingerprints(embedders.folder)
        self._pool = ActorPool(self._join, self._start, settings.embed_idle_seconds)
        self._closed, self._count, self._was_there = False, settings.embed_actors or 1, False
        self.lost, self.redone = 0, 0

    @property
    def portion(self) -> int:
        """Images worth asking for at once: some batches for every actor the cluster had room for when last seen."""
        return min(MOST_AT_ONCE, self._count * ROUNDS * self._settings.embed_batch_images)

    def embed(self, embedder: str, digests: Sequence[str], caller: Caller) -> list[Embedded | KonomiError]:
        """Embeds stored images: of each, in order, its vector or what is wrong with it.

        Raises:
            Cancelled: the caller went away.
            Unavailable: no actor answered for `patience_seconds`, all were lost again and again before any was done, or
                the cluster's head was, now or since it was there last (CLUSTER_AWAY).
            FailedPrecondition: the embedder's files are missing, here or on a machine, or differ there; there is no
                cluster, anybody could use it, or its machines have no store in common.
        """
        self._embedders.check(embedder)
        work = _work(embedder, self._fingerprints.of(embedder), caller.name)
        with self._pool.at_work() as cluster:
            kept, count = GPU_KEPT if self._gpus(cluster) else KEPT, self._room(cluster)
            batches = split(digests, count, self._settings.embed_batch_images, kept)
            # Actors of this request's own, away until they say that they are there: one that waits for a GPU others
            # hold is given nothing.
            handles = self._pool.actors(min(count, len(batches)))
            actors = [Actor(handle, away_since=self._clock()) for handle in handles]
            patience = self._settings.patience_seconds
            spread = BatchSpread(actors, batches, work, patience, self._clock, cluster.check_head)
            found = self._spread(spread, caller)
        return [result for batch in batches for result in found[batch.start].results]

    def close(self) -> None:
        """Ends the actors and leaves the cluster."""
        self._closed = True
        self._pool.close()

    def _spread(self, spread: BatchSpread[DigestBatch], caller: Caller) -> dict[int, EmbeddedBatch]:
        """Returns what came of each batch, by its start; raises why one came to nothing."""
        found: dict[int, EmbeddedBatch] = {}
        try:
            for batch, outcome in spread.run(lambda: caller.ended or self._closed):
                if outcome.error is not None:
                    raise outcome.error
                found[batch.start] = outcome
        finally:
            self.lost, self.redone = self.lost + spread.lost, self.redone + spread.redone
            spread.stop()
        return found

    def _join(self) -> ClusterConnection:
        """Joins the cluster; one that this process was in before is away where it is not there, and not missing."""
        join = rejoined if self._was_there else ClusterConnection
        cluster = join(self._settings, self._store, self._environment)
        self._was_there = True
        return cluster

    def _gpus(self, cluster: ClusterConnection) -> int:
        return 0 if self._own.embedder_device == "cpu" else cluster.gpus()

    def _room(self, cluster: ClusterConnection) -> int:
        """Returns how many actors there may be by now, on a cluster that may have grown or shrunk."""
        places = self._gpus(cluster) or max(1, cluster.cores() // self._settings.actor_cpus)
        self._count = self._settings.embedding_actors(places)
        return self._count

    def _start(self, cluster: ClusterConnection) -> Any:
        """Starts an actor, which Ray brings back when it is lost and there is room for it."""
        gpus = self._gpus(cluster)
        device = "auto" if gpus else "cpu"  # Ray shows an actor the one GPU it has
        own = self._own.model_copy(update={"embedder_device": device})
        decoders = max(1, cluster.cores() // self._count)  # children decode on the actor's own machine
        actor = ray.remote(
            num_cpus=self._settings.actor_cpus,
            num_gpus=1 if gpus else 0,
            max_restarts=-1,
            max_task_retries=0,  # a batch goes to whoever is free, and waits for no machine to come back
            max_concurrency=AT_ONCE,
            scheduling_strategy="SPREAD",
        )(EmbeddingWorker)
        given = (own.model_dump_json(), self._store.model_dump_json(), decoders, written(EMBEDDING))
        return cluster.started(lambda: actor.remote(*given))


def _work(embedder: str, fingerprint: str, person: str) -> BatchWork[DigestBatch]:
    """Returns how a batch is embedded by an actor whose embedder has these files."""
    job = uuid.uuid4().hex
    return BatchWork(
        hand=lambda handle, batch: handle.embed.remote(job, batch, embedder, fingerprint, person),
        stop=lambda handle: handle.stop.remote(job),
        silent="No actor of the Ray cluster that embeds answers: its machines are away, or other actors hold their "
        "GPUs and cores. Look with `ray status`; a smaller [scale] actors leaves room. What was embedded is kept.",
        fruitless="The machines of the Ray cluster go away before any of them has embedded a batch. Look at them with "
        "`ray status`, or set a smaller [scale] embed_batch_images; what was embedded is kept.",
    )
