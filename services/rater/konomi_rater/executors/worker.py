"""What an actor does: fetches, decodes and embeds images on its own machine, and answers with their vectors."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.cluster.worker import ClusterWorker, settings_values
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_chassis.lazy_value import LazyValue
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.embedding.batching import Batcher, Lane, queue_limits
from konomi_rater.embedding.device import placement
from konomi_rater.embedding.fingerprint import Fingerprints
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import Caller, ImageSource
from konomi_rater.executors.batches import DigestBatch, EmbeddedBatch
from konomi_rater.settings import RaterSettings


class EmbeddingWorker(ClusterWorker):
    """Embeds batches as the rater does, with store, decoding children and embedder of its own.

    Two batches at once share passes: while one is embedded the next is decoded.

    Args:
        own: the rater's settings as JSON.
        store: the store's, so that every machine looks where the images are.
        decoders: images it decodes at once at most, as it may share its machine.
        versions: of the libraries that embed, as the service has them.
    """

    def __init__(self, own: str, store: str, decoders: int, versions: str) -> None:
        super().__init__(versions)
        settings = RaterSettings(**settings_values(own))
        self._store = ArtifactStore(StoreSettings(**settings_values(store)))
        decoding = DecodeSettings(home=settings.home)
        children = max(1, min(decoding.children(), decoders))
        self._decoder = Decoder(decoding.model_copy(update={"decode_children": children}))
        self._embedders = Embedders(settings.home / "models", placement(settings))
        self._fingerprints = Fingerprints(settings.home / "models")
        self._batcher = LazyValue(
            lambda: Batcher(self._decoder.decode, queue_limits(settings, self._embedders.batch, self._decoder.children))
        )
        self._lock = threading.Lock()
        self._callers: defaultdict[str, list[Caller]] = defaultdict(list)

    def embed(self, job: str, batch: DigestBatch, embedder: str, fingerprint: str, person: str) -> EmbeddedBatch:
        """Embeds a batch so that a vector's bits never depend on what was embedded beside it.

        Args:
            job: name of the request, by which it is stopped.
            batch: the images.
            embedder: name of the embedder.
            fingerprint: of its files where the request was taken.
            person: for whom; those who share an actor take turns.
        """
        try:
            self.check_versions()
            self._check_files(embedder, fingerprint)
            sources = [ImageSource(partial(self._store.get, digest), 0, "image.digest") for digest in batch.digests]
            lane = Lane(self._embedders.open(embedder), keep=True)
            with self._waiting(job, person) as caller:
                return EmbeddedBatch(self._batcher().submit(lane, sources, caller).wait())
        except KonomiError as error:
            return EmbeddedBatch((), error)

    def stop(self, job: str) -> None:
        """Ends a job, also for those of its batches that wait; see `ClusterWorker`."""
        with self._lock:
            super().stop(job)
            for caller in self._callers.get(job, []):
                caller.end()

    @contextmanager
    def _waiting(self, job: str, person: str) -> Iterator[Caller]:
        """Gives who waits for a batch; raises Cancelled where its job was stopped before the batch began."""
        caller = Caller(person, patient=True)
        with self._lock:
            self._callers[job].append(caller)
            if self.is_stopped(job):
                caller.end()
        try:
            caller.check()
            yield caller
        finally:
            with self._lock:
                self._callers[job].remove(caller)
                if not self._callers[job]:
                    del self._callers[job]

    def _check_files(self, embedder: str, fingerprint: str) -> None:
        found = self._fingerprints.of(embedder)
        if found != fingerprint:
            raise FailedPrecondition(
                f'The embedder "{embedder}" of one machine of the cluster is another ({found[:12] or "missing"}) than '
                f"that of the service ({fingerprint[:12]}). Copy the folder `models` of the home to every machine.",
                reason="EMBEDDER_DIFFERS",
            )
