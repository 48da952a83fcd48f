"""The use case of the trainer: from a frozen manifest and a configuration to the bytes of an adapter."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from konomi.errors import KonomiError
from konomi_trainer import custom_diffusion, lora
from konomi_trainer.cache import TensorCache, Tensors
from konomi_trainer.checkpoints import Checkpoints
from konomi_trainer.configuration import Configuration
from konomi_trainer.loop import LoopSettings, Progress, Stopped, train
from konomi_trainer.manifest import parse
from konomi_trainer.method import Base, Files, Learning, Method, Source
from konomi_trainer.publishing import Publication, PublishedCheckpoints, Publisher, Reports

log = logging.getLogger(__name__)
FP16_LOSS_SCALE = 1024.0
METHODS: Mapping[str, Method] = {
    "lora": lora.LORA, "dora": lora.DORA, "loha": lora.LOHA, "lokr": lora.LOKR, "custom_diffusion": custom_diffusion,
}  # fmt: skip


class Artifacts(Protocol):
    """The artifact store."""

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified."""


@dataclass(frozen=True)
class Fitted:
    """What a run made: the adapter's files, the media type of the first and the figures of the run."""

    files: Files
    media_type: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Listener:
    """How a run talks to its surroundings: phase, progress after each step, whether to stop, where a kill may hit.

    `published` hears what the run publishes at its checkpoints.
    """

    phase: Callable[[str], None]
    progress: Callable[[Progress], None]
    stopping: Callable[[], bool]
    fault: Callable[[str], None] = lambda point: None
    published: Callable[[Publication], None] = lambda publication: None


class Trainer:
    """Trains adapters."""

    def __init__(
        self,
        store: Artifacts,
        load_base: Callable[[Configuration], Base],
        pixels: Callable[[bytes], np.ndarray],
        folder: Path,
    ) -> None:
        """Joins the parts.

        Args:
            store: where manifests and images are.
            load_base: loads the base model of a configuration.
            pixels: decodes an image file to (H, W, 3) uint8.
            folder: the home; `cache` and `checkpoints` are made in it.
        """
        self._store, self._load_base, self._pixels = store, load_base, pixels
        self._cache, self._checkpoints = TensorCache(folder / "cache"), folder / "checkpoints"

    def fit(
        self,
        run: str,
        manifest_digest: str,
        configuration: Configuration,
        listener: Listener,
        reports: Reports | None = None,
    ) -> Fitted:
        """Trains one run from its newest checkpoint on, or from the start.

        Args:
            run: id of the run; names its checkpoints.
            manifest_digest: of the frozen manifest.
            configuration: of the run.
            listener: hears phases, progress and publications, says when to stop.
            reports: what to publish at every checkpoint; nothing but any held-out loss without it.

        Raises:
            Stopped: the listener said so.
            KonomiError: the run cannot be finished.
        """
        reports = reports or Reports()
        listener.phase("loading")
        items = parse(self._store.get(manifest_digest))
        base = self._load_base(configuration)
        listener.phase("encoding")
        sampler = base.sampler(list(reports.prompts), reports.steps) if reports.prompts else None
        source = Source(items, self._image, self._cache, lambda: _check(listener))
        learning = METHODS[configuration.method].prepare(base, source, configuration)
        listener.phase("training")
        record = {
            "schema": "konomi.adapter/1", "method": configuration.method, "base_model": configuration.base_model,
            "base_digest": configuration.base_digest, "manifest_digest": manifest_digest,
            "config_digest": configuration.digest(),
        }  # fmt: skip
        publisher = Publisher(learning, reports, sampler, record, listener.published)
        checkpoints = PublishedCheckpoints(self._checkpoints / run, listener.fault, publisher)
        settings = loop_settings(configuration, learning)
        trained, progress = train(
            learning.weights, learning.loss, settings, checkpoints, listener.progress, listener.stopping
        )
        listener.phase("saving")
        files = learning.save(trained, record)
        return Fitted(files, learning.media_type, {**_metrics(trained, progress), **learning.figures})

    def forget(self, run: str) -> None:
        """Drops the checkpoints of a run that has ended."""
        Checkpoints(self._checkpoints / run).clear()

    def _image(self, digest: str) -> np.ndarray:
        try:
            return self._pixels(self._store.get(digest))
        except KonomiError as error:
            error.message = f"image {digest} of the manifest: {error.message}"
            raise


def loop_settings(configuration: Configuration, learning: Learning) -> LoopSettings:
    """Returns the loop's numbers of a configuration and a method made ready."""
    return LoopSettings(
        steps=configuration.steps,
        rows=configuration.batch_size * configuration.gradient_accumulation,
        micro=configuration.batch_size,
        learning_rate=configuration.learning_rate,
        max_grad_norm=configuration.max_grad_norm,
        ema_decay=configuration.ema_decay,
        checkpoint_steps=configuration.checkpoint_steps,
        loss_scale=FP16_LOSS_SCALE if configuration.precision == "fp16" else 1.0,
        optimizer=configuration.optimizer,
        shares=learning.shares,
    )


def _metrics(weights: Tensors, progress: Progress) -> dict[str, float]:
    norm = float(sum(weight.double().square().sum().item() for weight in weights.values())) ** 0.5
    return {
        "loss": progress.mean_loss(), "steps": float(progress.step),
        "skipped_steps": float(progress.skipped), "rollbacks": float(progress.rollbacks),
        "images_at_once": float(progress.micro), "adapter_norm": norm,
    }  # fmt: skip


def _check(listener: Listener) -> None:
    if listener.stopping():
        raise Stopped
