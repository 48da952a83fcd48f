"""The use case of the trainer: from a frozen manifest and a configuration to the bytes of an adapter."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from konomi.errors import KonomiError
from konomi_trainer import dataset, lora, losses
from konomi_trainer.cache import TensorCache, Tensors
from konomi_trainer.checkpoints import Checkpoints
from konomi_trainer.configuration import Configuration
from konomi_trainer.loop import LoopSettings, Progress, Stopped, train
from konomi_trainer.manifest import parse

log = logging.getLogger(__name__)
FP16_LOSS_SCALE = 1024.0
METHODS = {"lora": lora}


class Base(dataset.Encoder, Protocol):
    """A loaded base model; see pipeline.py."""

    prediction: str
    alphas: torch.Tensor
    unet: torch.nn.Module

    def release_encoders(self) -> None:
        """Frees what is not needed once images and captions are encoded."""

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, batch: dataset.Batch) -> torch.Tensor:
        """Returns the UNet's (B, C, h, w) answer."""


class Artifacts(Protocol):
    """The artifact store."""

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified."""


@dataclass(frozen=True)
class Fitted:
    """What a run made: the adapter file, its media type and the figures of the run."""

    adapter: bytes
    media_type: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Listener:
    """How a run talks to its surroundings: phase, progress after each step, whether to stop, where a kill may hit."""

    phase: Callable[[str], None]
    progress: Callable[[Progress], None]
    stopping: Callable[[], bool]
    fault: Callable[[str], None] = lambda point: None


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

    def fit(self, run: str, manifest_digest: str, configuration: Configuration, listener: Listener) -> Fitted:
        """Trains one run from its newest checkpoint on, or from the start.

        Args:
            run: id of the run; names its checkpoints.
            manifest_digest: of the frozen manifest.
            configuration: of the run.
            listener: hears phases and progress, says when to stop.

        Raises:
            Stopped: the listener said so.
            KonomiError: the run cannot be finished.
        """
        listener.phase("loading")
        items = parse(self._store.get(manifest_digest))
        base = self._load_base(configuration)
        listener.phase("encoding")
        data = dataset.build(items, self._image, base, self._cache, lambda: _check(listener))
        base.release_encoders()
        listener.phase("training")
        return self._learn(run, manifest_digest, configuration, base, data, listener)

    def forget(self, run: str) -> None:
        """Drops the checkpoints of a run that has ended."""
        Checkpoints(self._checkpoints / run).clear()

    def _image(self, digest: str) -> np.ndarray:
        try:
            return self._pixels(self._store.get(digest))
        except KonomiError as error:
            error.message = f"image {digest} of the manifest: {error.message}"
            raise

    def _learn(
        self,
        run: str,
        manifest_digest: str,
        configuration: Configuration,
        base: Base,
        data: dataset.TrainingSet,
        listener: Listener,
    ) -> Fitted:
        method, rank = METHODS[configuration.method], configuration.rank
        weights = method.attach(base.unet, rank, configuration.seed)
        checkpoints = Checkpoints(self._checkpoints / run, listener.fault)
        loss = DenoisingLoss(base, data, configuration)
        trained, progress = train(
            weights, loss, loop_settings(configuration), checkpoints, listener.progress, listener.stopping
        )
        record = {
            "schema": "konomi.adapter/1", "method": configuration.method, "base_model": configuration.base_model,
            "base_digest": configuration.base_digest, "manifest_digest": manifest_digest,
            "config_digest": configuration.digest(),
        }  # fmt: skip
        listener.phase("saving")
        adapter = method.to_bytes(base.unet, trained, rank, record)
        return Fitted(adapter, method.MEDIA_TYPE, _metrics(trained, progress, len(data.caption)))


class DenoisingLoss:
    """The loss of some rows of a step's batch, a function of the step and the weights alone."""

    def __init__(self, base: Base, data: dataset.TrainingSet, configuration: Configuration) -> None:
        """Takes base model, data and the numbers of the run."""
        self._base, self._data, self._configuration = base, data, configuration
        self._size = configuration.batch_size * configuration.gradient_accumulation
        self._drawn: tuple[int, dataset.Batch] | None = None

    def __call__(self, step: int, rows: range) -> torch.Tensor:
        """Returns the scalar loss of `rows`; over all rows of the batch these sum to the batch's mean."""
        base, part, configuration = self._base, slice(rows.start, rows.stop), self._configuration
        batch = _rows(self._batch(step), part)
        device = base.alphas.device
        latents, noise, timesteps = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        alphas = base.alphas[timesteps]
        wanted = losses.target(base.prediction, latents, noise, alphas)
        answer = base.predict(losses.add_noise(latents, noise, alphas), timesteps, batch)
        snr = losses.min_snr(base.prediction, alphas, configuration.min_snr_gamma)
        return losses.weighted_mse(answer, wanted, batch.weights.to(device) * snr) / self._size

    def _batch(self, step: int) -> dataset.Batch:
        if self._drawn is None or self._drawn[0] != step:
            configuration, length = self._configuration, len(self._base.alphas)
            batch = dataset.draw(
                self._data, configuration.seed, step, self._size, configuration.caption_dropout, length
            )
            self._drawn = (step, batch)
        return self._drawn[1]


def loop_settings(configuration: Configuration) -> LoopSettings:
    """Returns the loop's numbers of a configuration."""
    return LoopSettings(
        steps=configuration.steps,
        rows=configuration.batch_size * configuration.gradient_accumulation,
        micro=configuration.batch_size,
        learning_rate=configuration.learning_rate,
        max_grad_norm=configuration.max_grad_norm,
        ema_decay=configuration.ema_decay,
        checkpoint_steps=configuration.checkpoint_steps,
        loss_scale=FP16_LOSS_SCALE if configuration.precision == "fp16" else 1.0,
    )


def _rows(batch: dataset.Batch, part: slice) -> dataset.Batch:
    cut = {name: None if tensor is None else tensor[part] for name, tensor in vars(batch).items()}
    return dataset.Batch(**cut)


def _metrics(weights: Tensors, progress: Progress, images: int) -> dict[str, float]:
    norm = float(sum(weight.double().square().sum().item() for weight in weights.values())) ** 0.5
    return {
        "loss": progress.mean_loss(), "steps": float(progress.step), "images": float(images),
        "skipped_steps": float(progress.skipped), "rollbacks": float(progress.rollbacks),
        "images_at_once": float(progress.micro), "adapter_norm": norm,
    }  # fmt: skip


def _check(listener: Listener) -> None:
    if listener.stopping():
        raise Stopped
