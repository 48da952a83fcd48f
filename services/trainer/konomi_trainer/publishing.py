"""What a run publishes at its checkpoints for others to judge: adapter, held-out loss and sample sheet.

A checkpoint is published before it is committed: after a kill in between it is made again, from the same weights.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from konomi_trainer.cache import Tensors
from konomi_trainer.checkpoints import Checkpoints
from konomi_trainer.method import Files, Learning

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
        learning: Learning,
        reports: Reports,
        sampler: Callable[[], np.ndarray] | None,
        record: Mapping[str, str],
        publish: Callable[[Publication], None],
    ) -> None:
        """Takes the run's method made ready, what is asked for, and where publications go."""
        self._learning, self._reports, self._sampler = learning, reports, sampler
        self._record, self._publish = record, publish

    def __call__(self, step: int, trained: Tensors, loss: float) -> None:
        """Publishes a step where anything is asked for.

        Args:
            step: optimiser steps done.
            trained: the weights to keep, by name; the run may keep others in its networks, to which it returns.
            loss: mean over the last steps.
        """
        validate = self._learning.validate
        if validate is None and self._sampler is None and not self._reports.adapters:
            return
        with _put(self._learning.weights, trained):
            value = validate() if validate else None
            sheet = contact_sheet(self._sampler()) if self._sampler else None
        files = self._learning.save(trained, self._record) if self._reports.adapters else None
        self._publish(Publication(step, loss, value, files, self._learning.media_type, sheet))


class PublishedCheckpoints(Checkpoints):
    """Checkpoints that are published first."""

    def __init__(self, folder: Path, fault: Callable[[str], None], publisher: Publisher) -> None:
        """Uses `folder` as Checkpoints does."""
        super().__init__(folder, fault)
        self._publisher = publisher

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], numbers: Mapping[str, Any]) -> None:
        """Publishes and then commits a checkpoint."""
        if step:
            averaged = any(name.startswith("average/") for name in tensors)
            head = "average/" if averaged else "weight/"
            trained = {name.removeprefix(head): t.clone() for name, t in tensors.items() if name.startswith(head)}
            recent = [loss for loss in numbers["losses"][-10:] if loss is not None]
            self._publisher(step, trained, sum(recent) / len(recent) if recent else 0.0)
            self.fault("checkpoint.after_publication")
        super().save(step, tensors, numbers)


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


@torch.no_grad()
def _copy(weights: Mapping[str, torch.nn.Parameter], tensors: Tensors) -> None:
    for name, weight in weights.items():
        weight.copy_(tensors[name])
