"""Signed targets in families of every kind of noise: off, the base to the bit; on, a step that learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from konomi_chassis.models.catalogue import BaseModels
from konomi_trainer.base_models import pipeline
from konomi_trainer.configuration import MethodDefaults, complete
from konomi_trainer.data import dataset
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.methods import lora
from konomi_trainer.methods.base import TrainingSource
from tests.families.test_protocol import TEXTS

ROLES = ("selected", "avoided", "base")


@pytest.mark.slow
@pytest.mark.parametrize("id", ["sdxl", "sd3", "z-image", "flux1-dev", "toy"])
def test_a_signed_step_starts_from_the_base_s_own_answer(id: str, home: Path, tmp_path: Path) -> None:
    """While an adapter changes nothing, v is v_old, so the loss is the mean of s² ‖target - v_old‖² / beta."""
    model, place = BaseModels(home).get(id), pipeline.TrainingPlacement("cpu", "fp32", False)
    base = pipeline.load(model, home / "configs", "0" * 64, place)
    items = [ManifestItem(f"{number:064x}", TEXTS[0], 1.0, role) for number, role in enumerate(ROLES)]

    def pixels(digest: str) -> np.ndarray:
        rng = np.random.default_rng(int(digest, 16))
        return rng.integers(0, 256, (base.resolution, base.resolution, 3), np.uint8)

    shape = dataset.Shape(lora._sizes(base, numbers := complete("lora", id, "0" * 64, 1, GIVEN, MethodDefaults())))
    data = dataset.build(items, pixels, base, TensorCache(tmp_path), lambda: None, shape)
    batch = dataset.draw(data, 1, 0, dataset.DrawSettings(4, 0.0, base.path, signed=True))
    with torch.no_grad():
        before = base.predict(base.path.noisy(batch.latents, batch.noise, batch.timesteps), batch.timesteps, batch)
    wanted = base.path.target(batch.latents, batch.noise, batch.timesteps)
    assert batch.signs is not None
    errors = (batch.signs**2 * ((wanted - before) ** 2).flatten(1).mean(1)).mean() / numbers.contrast_beta
    source = TrainingSource(items, pixels, TensorCache(tmp_path), lambda: None)
    method = lora.LORA.prepare(base, source, numbers)
    loss = method.loss(0, range(4))
    assert loss.item() == pytest.approx(errors.item(), rel=1e-5)
    loss.backward()
    still = [weight for name, weight in method.weights.items() if "lora_B" in name and weight.grad is not None]
    assert any(weight.grad.abs().sum() > 0 for weight in still)
    with torch.no_grad():
        for weight in method.weights.values():
            weight += 0.5
        noisy = base.path.noisy(batch.latents, batch.noise, batch.timesteps)
        assert not torch.equal(base.predict(noisy, batch.timesteps, batch), before)
        with lora.switched_off(base.network):
            assert torch.equal(base.predict(noisy, batch.timesteps, batch), before)


GIVEN = {"batch_size": 4, "rank": 2, "caption_dropout": 0.0, "contrast_beta": 0.5}
