"""Memory runs out anywhere in a training run: it goes on with less at once, or its error says so in numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from transformers import CLIPTextModel

from konomi.errors import ResourceExhausted
from konomi_chassis.models.catalogue import BaseModels
from konomi_trainer.base_models.pipeline import BasePipeline, TrainingPlacement, load
from konomi_trainer.jobs.worker import failure_of
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import LoopSettings, Surroundings, train

SETTINGS = LoopSettings(
    steps=2, rows=4, micro=4, learning_rate=0.05, max_grad_norm=1.0, ema_decay=0.0, checkpoint_steps=4
)


def short(*_args: object, **_kwargs: object) -> object:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB.")


def told(work: Callable[[], object]) -> ResourceExhausted:
    """Returns the error a run that ends like this shows."""
    with pytest.raises(Exception) as caught:
        work()
    error = failure_of(caught.value)
    assert isinstance(error, ResourceExhausted) and error.reason == "OUT_OF_MEMORY"
    assert "1.50 GiB more were asked for" in error.message and "start the run again" in error.message
    return error


def opened(bases: Path, tmp_path: Path) -> BasePipeline:
    (tmp_path / "models").symlink_to(bases)
    model = BaseModels(tmp_path).get("tiny")
    return load(model, bases, "0" * 64, TrainingPlacement("cpu", "fp32", False))


@pytest.mark.parametrize("part", [UNet2DConditionModel, CLIPTextModel])
def test_a_base_that_does_not_fit_is_told(part: type, bases, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(part, "from_pretrained", short)
    told(lambda: opened(bases, tmp_path))


def test_images_texts_and_sample_sheets_that_do_not_fit_are_told(bases, tmp_path, monkeypatch) -> None:
    base = opened(bases, tmp_path)
    draw = base.sampler(["a face"], 1)
    monkeypatch.setattr(AutoencoderTiny, "encode", short)
    told(lambda: base.encode_image(torch.zeros(3, 64, 64)))
    monkeypatch.setattr(CLIPTextModel, "forward", short)
    told(lambda: base.encode_caption("a face"))
    monkeypatch.undo()
    assert draw().dtype == np.uint8
    monkeypatch.setattr(UNet2DConditionModel, "forward", short)
    told(draw)


def test_the_first_step_of_the_optimiser_that_does_not_fit_is_told(tmp_path, monkeypatch) -> None:
    weight = torch.nn.Parameter(torch.zeros(3))
    monkeypatch.setattr(torch.optim.AdamW, "step", short)

    def loss(_step: int, _rows: range) -> torch.Tensor:
        return (weight - 1).square().sum()

    surroundings = Surroundings(lambda _progress: None, lambda: False)
    told(lambda: train({"w": weight}, loss, SETTINGS, Checkpoints(tmp_path), surroundings))


@pytest.mark.parametrize("words", ["CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator: not enough memory"])
def test_rows_that_do_not_fit_are_taken_fewer_at_once_however_it_is_said(words: str, tmp_path) -> None:
    weight, sizes = torch.nn.Parameter(torch.zeros(3)), []

    def loss(_step: int, rows: range) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > 1:
            raise RuntimeError(words)
        return (weight - 1).square().sum()

    surroundings = Surroundings(lambda _progress: None, lambda: False)
    _, progress = train({"w": weight}, loss, SETTINGS, Checkpoints(tmp_path), surroundings)
    assert progress.step == 2 and sizes == [4, 2, *[1] * 8]
