"""What a run publishes at its checkpoints for others to judge: adapter, held-out loss and sample sheet.

A checkpoint is published before it is committed: after a kill in between it is made again, from the same weights.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sqlalchemy import Connection

from konomi.errors import FailedPrecondition, NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.configuration import Configuration
from konomi_trainer.data.cache import Tensors
from konomi_trainer.methods.base import Files, PreparedMethod
from konomi_trainer.storage import models, runs
from konomi_trainer.training.checkpoints import Checkpoints

SAMPLE_STEPS = 20


@dataclass(frozen=True)
class Reports:
    """What is asked for: adapters, the prompts of a sample sheet, denoising steps of a sample."""

    adapters: bool = False
    prompts: tuple[str, ...] = ()
    steps: int = SAMPLE_STEPS


@dataclass(frozen=True)
class Publication:
    """One published checkpoint; what was not asked for is None.

    Attributes:
        step: optimiser steps done.
        loss: mean over the last steps.
        validation_loss: of the held-out images.
        files: the adapter.
        media_type: of its file.
        sheet: PNG.
    """

    step: int
    loss: float
    validation_loss: float | None
    files: Files | None
    media_type: str
    sheet: bytes | None


class Publisher:
    """Makes publications of one run."""

    def __init__(
        self,
        prepared: PreparedMethod,
        reports: Reports,
        sampler: Callable[[], np.ndarray | None] | None,
        record: Mapping[str, str],
        publish: Callable[[Publication], None],
    ) -> None:
        """Takes the run's method made ready, what is asked for, and where publications go."""
        self._prepared, self._reports, self._sampler = prepared, reports, sampler
        self._record, self._publish = record, publish

    def __call__(self, step: int, trained: Tensors, loss: float) -> None:
        """Publishes a step where anything is asked for.

        Args:
            step: optimiser steps done.
            trained: the weights to keep, by name; the run may keep others in its networks, to which it returns.
            loss: mean over the last steps.
        """
        validate = self._prepared.validate
        if validate is None and self._sampler is None and not self._reports.adapters:
            return
        with _put(self._prepared.weights, trained):
            value = validate() if validate else None
            images = self._sampler() if self._sampler else None
            sheet = contact_sheet(images) if images is not None else None
        files = self._prepared.save(trained, self._record) if self._reports.adapters else None
        self._publish(Publication(step, loss, value, files, self._prepared.media_type, sheet))


class PublishedCheckpoints(Checkpoints):
    """Checkpoints that are published first."""

    def __init__(
        self, folder: Path, fault: Callable[[str], None], publisher: Publisher, committed: Callable[[int], None]
    ) -> None:
        """Uses `folder` as Checkpoints does; `committed` hears of the step of each that is there for good."""
        super().__init__(folder, fault)
        self._publisher, self._committed = publisher, committed

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Publishes and then commits a checkpoint, and says so of all but the one that is made before any step."""
        if step:
            averaged = any(name.startswith("average/") for name in tensors)
            head = "average/" if averaged else "weight/"
            trained = {name.removeprefix(head): t.clone() for name, t in tensors.items() if name.startswith(head)}
            recent = [loss for loss in numbers["losses"][-10:] if loss is not None]
            self._publisher(step, trained, sum(recent) / len(recent) if recent else 0.0)
            self.fault("checkpoint.after_publication")
        super().save(step, tensors, numbers)
        if step:
            self._committed(step)


def contact_sheet(images: np.ndarray) -> bytes:
    """Returns a PNG of images side by side, four in a row.

    Args:
        images: (N, H, W, 3) uint8.
    """
    count, height, width, _ = images.shape
    wide = min(4, count)
    sheet = Image.new("RGB", (wide * width, -(-count // wide) * height), "white")
    for index, image in enumerate(images):
        sheet.paste(Image.fromarray(image), (index % wide * width, index // wide * height))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


@contextmanager
def _put(weights: Mapping[str, torch.nn.Parameter], others: Tensors) -> Iterator[None]:
    """Puts other weights into the networks for a while."""
    kept = {name: weight.detach().clone() for name, weight in weights.items()}
    _copy(weights, others)
    try:
        yield
    finally:
        _copy(weights, kept)


def _copy(weights: Mapping[str, torch.nn.Parameter], tensors: Tensors) -> None:
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[name])


def finish(
    connection: Connection, run: runs.Run, step: int, metrics: Mapping[str, float], now: float
) -> models.ModelRow:
    """Makes a published checkpoint the model of its run, which ends; belongs into one transaction.

    A run that has ended with its last weights may still be given an earlier checkpoint, until its model is promoted.

    Args:
        connection: inside a transaction.
        run: as it is in the table.
        step: of the checkpoint.
        metrics: figures to keep with the model.
        now: seconds since 1970.

    Raises:
        NotFound: the run published no adapter at this step.
        FailedPrecondition: the model was promoted already, or the adapter was collected.
    """
    published = _published_adapter(connection, run, step)
    figures = {"steps": float(step), "loss": published.loss, **metrics}
    if published.validation_loss is not None:
        figures["validation_loss"] = published.validation_loss
    model = models.get(connection, run.model) if run.model else None
    if model is None:
        configuration = Configuration(**json.loads(run.configuration))
        model = model_of(run, configuration, published.adapter_digest, figures, now)
        models.register(connection, model)
    elif models.was_promoted(connection, model):
        raise FailedPrecondition(
            f"expected a model that was never promoted; {model.id} was, so its weights stay: start a new run",
            reason="MODEL_PROMOTED",
        )
    else:
        models.exchange(connection, model, published.adapter_digest, {**model.metrics, **figures})
    runs.succeed(connection, run.id, run.id, step, published.loss)
    return model


def _published_adapter(connection: Connection, run: runs.Run, step: int) -> runs.Published:
    for published in runs.published(connection, run.id):
        if published.step == step and published.adapter_collected:
            raise FailedPrecondition(
                f"The adapter of step {step} of run {run.id} was collected by the storage policy; start a new run, or "
                "choose another step.",
                reason="CHECKPOINT_COLLECTED",
            )
        if published.step == step and published.adapter_digest:
            return published
    raise NotFound(
        f"The run {run.id} has published no adapter at step {step}; see its checkpoints, and ask for adapters "
        "in `reports` when it is created.",
        reason="CHECKPOINT_NOT_FOUND",
    )


def model_of(
    run: runs.Run, configuration: Configuration, adapter_digest: str, metrics: dict[str, float], now: float
) -> models.ModelRow:
    """Returns the model of a run, which bears its id."""
    request = pb.CreateTrainingRunRequest.FromString(run.request)
    return models.ModelRow(
        id=run.id,
        training_run=run.id,
        taste=run.taste,
        display_name=request.display_name,
        method=configuration.method,
        base_model=configuration.base_model,
        base_digest=configuration.base_digest,
        parents=tuple(request.parents),
        adapter_digest=adapter_digest,
        manifest_digest=run.manifest_digest,
        rater_version=request.rater_version,
        config_digest=run.config_digest,
        configuration=run.configuration,
        seed=configuration.seed,
        metrics=metrics,
        night=request.night,
        create_time=now,
    )
