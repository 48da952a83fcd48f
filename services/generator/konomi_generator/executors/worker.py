"""What an actor does: the whole use case on its own machine, and for each batch nothing but digests in the answer."""

import os

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.cluster.worker import ClusterWorker, settings_values
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_chassis.process import OFFLINE
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.assembly import assemble
from konomi_generator.executors.batches import BatchOutcome, ImageBatch
from konomi_generator.settings import GeneratorSettings


class ImageWorker(ClusterWorker):
    """Makes batches with a generator of its own; it loads the model once and keeps it.

    Args:
        own: the generator's settings as JSON.
        store: the store's, so that every machine puts its images where the others look.
        versions: of the libraries that draw, as the service has them.
    """

    def __init__(self, own: str, store: str, versions: str) -> None:
        super().__init__(versions)
        os.environ.update(OFFLINE)
        settings = GeneratorSettings(**settings_values(own))
        self._store = ArtifactStore(StoreSettings(**settings_values(store)))
        self._decoder = Decoder(DecodeSettings(home=settings.home))
        self._generator, _ = assemble(settings, self._store, self._decoder)

    def make(self, job: str, batch: ImageBatch, digest: str) -> BatchOutcome:
        """Makes a batch, stores its images, and says which they are.

        Args:
            job: name of the request, by which it is stopped.
            batch: what to make.
            digest: of the base model's weights where the request was taken.
        """
        try:
            self.check_versions()
            self._check_model(batch.request.base_model, digest)
            made = self._generator.generate(batch.request, lambda: self.is_stopped(job))
            return BatchOutcome([finished for finished in made if finished.preview is None])
        except KonomiError as error:
            return BatchOutcome((), error)

    def release(self) -> int | None:
        """Gives the model's memory back unless a batch is under way."""
        return self._generator.release()

    def _check_model(self, id: str, digest: str) -> None:
        own = self._generator.model(id)[1]
        if own != digest:
            raise FailedPrecondition(
                f'The base model "{id}" of one machine of the cluster is another ({own[:12]}) than that of the service '
                f"({digest[:12]}). Copy the folder `models` of the home to every machine.",
                reason="MODEL_DIFFERS",
            )
