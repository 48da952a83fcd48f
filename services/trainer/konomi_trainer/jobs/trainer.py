"""The use case of the trainer: from a frozen manifest and a configuration to the bytes of an adapter."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from konomi.errors import KonomiError
from konomi_trainer.configuration import Configuration
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.manifest import parse
from konomi_trainer.jobs.publishing import Publication, PublishedCheckpoints, Publisher, Reports
from konomi_trainer.jobs.run_files import RunFiles
from konomi_trainer.methods.base import Files, LoadedBase, PreparedMethod, TrainingSource
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.training.checkpoints import OthersCheckpoints
from konomi_trainer.training.loop import LoopSettings, Progress, Stopped, Surroundings, train
from konomi_trainer.training.ranks import Gather, Ranks, alone

log = logging.getLogger(__name__)
FP16_LOSS_SCALE = 65536.0


class Artifacts(Protocol):
    """The artifact store."""

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified."""


@dataclass(frozen=True)
class TrainedAdapter:
    """What a run made: the adapter's files, the media type of the first and the figures of the run."""

    files: Files
    media_type: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Listener:
    """How a run talks to its surroundings: phase, progress after each step, whether to stop, where a kill may hit.

    `published` hears what the run publishes at its checkpoints, `committed` the step of each once it is durable.
    """

    phase: Callable[[str], None]
    progress: Callable[[Progress], None]
    stopping: Callable[[], bool]
    fault: Callable[[str], None] = lambda point: None
    published: Callable[[Publication], None] = lambda publication: None
    committed: Callable[[int], None] = lambda step: None


@dataclass(frozen=True)
class _TrainingJob:
    """One run; see Trainer.fit."""

    run: str
    manifest_digest: str
    configuration: Configuration
    listener: Listener
    reports: Reports
    ranks: Ranks


class RunTrainer(Protocol):
    """What trains runs: in this process, in one that ends with the run, or on another machine."""

    def fit(
        self,
        run: str,
        manifest_digest: str,
        configuration: Configuration,
        listener: Listener,
        reports: Reports | None = None,
    ) -> TrainedAdapter:
        """Trains one run; see Trainer.fit."""

    @property
    def files(self) -> RunFiles:
        """What runs leave in the home."""

    def close(self) -> None:
        """Leaves what was joined for the work."""


class Trainer:
    """Trains adapters in this process."""

    def __init__(
        self,
        store: Artifacts,
        load_base: Callable[[Configuration], LoadedBase],
        pixels: Callable[[bytes], np.ndarray],
        folder: Path,
        gather: Gather = alone,
    ) -> None:
        """Joins the parts.

        Args:
            store: where manifests and images are.
            load_base: loads the base model of a configuration.
            pixels: decodes an image file to (H, W, 3) uint8.
            folder: the home; `cache` and `checkpoints` are made in it.
            gather: gives the processes a run is trained with.
        """
        self._store, self._load_base, self._pixels, self._gather = store, load_base, pixels, gather
        self.files = RunFiles(folder)

    def fit(
        self,
        run: str,
        manifest_digest: str,
        configuration: Configuration,
        listener: Listener,
        reports: Reports | None = None,
    ) -> TrainedAdapter:
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
        with self._gather(run, manifest_digest, configuration) as ranks:
            job = _TrainingJob(run, manifest_digest, configuration, listener, reports or Reports(), ranks)
            return self._fit(job)

    def close(self) -> None:
        """Has joined nothing."""

    def _fit(self, job: "_TrainingJob") -> TrainedAdapter:
        configuration, listener, reports = job.configuration, job.listener, job.reports
        listener.phase("loading")
        items = parse(self._store.get(job.manifest_digest))
        base = self._load_base(configuration)
        listener.phase("encoding")
        sampler = base.sampler(list(reports.prompts), reports.steps) if reports.prompts else None
        source = TrainingSource(items, self._image, self.files.cache, lambda: _check(listener))
        with job.ranks.after_first():
            prepared = METHODS[configuration.method].prepare(base, source, configuration)
        listener.phase("training")
        record = {
            "schema": "konomi.adapter/1",
            "method": configuration.method,
            "base_model": configuration.base_model,
            "base_digest": configuration.base_digest,
            "manifest_digest": job.manifest_digest,
            "config_digest": configuration.digest(),
        }
        folder = self.files.checkpoints / job.run
        publisher = Publisher(prepared, reports, sampler, record, listener.published)
        published = PublishedCheckpoints(folder, listener.fault, publisher, listener.committed)
        checkpoints = published if job.ranks.first else OthersCheckpoints(folder)
        compiler = base.compiler(configuration.steps, self.files.cache.folder)

        def report(progress: Progress) -> None:
            compiler.after_step(progress.step)
            listener.progress(progress)

        trained, progress = train(
            prepared.weights,
            prepared.loss,
            loop_settings(configuration, prepared),
            checkpoints,
            Surroundings(report, listener.stopping, job.ranks, base.checkpoint_activations),
        )
        listener.phase("saving")
        files = prepared.save(trained, record)
        metrics = {**_metrics(trained, progress, base), "compiled": float(compiler.compiled), **prepared.figures}
        return TrainedAdapter(files, prepared.media_type, metrics)

    def _image(self, digest: str) -> np.ndarray:
        try:
            return self._pixels(self._store.get(digest))
        except KonomiError as error:
            error.message = f"image {digest} of the manifest: {error.message}"
            raise


def loop_settings(configuration: Configuration, prepared: PreparedMethod) -> LoopSettings:
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
        shares=prepared.shares,
    )


def _metrics(weights: Tensors, progress: Progress, base: LoadedBase) -> dict[str, float]:
    norm = float(sum(weight.double().square().sum().item() for weight in weights.values())) ** 0.5
    return {
        "loss": progress.mean_loss(),
        "steps": float(progress.step),
        "skipped_steps": float(progress.skipped),
        "rollbacks": float(progress.rollbacks),
        "images_at_once": float(progress.micro),
        "loss_scale": progress.scale,
        "gradient_checkpointing": float(base.checkpointing),
        "adapter_norm": norm,
    }


def _check(listener: Listener) -> None:
    if listener.stopping():
        raise Stopped
