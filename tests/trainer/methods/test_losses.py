"""The losses against diffusers' own schedulers and the papers' formulas."""

import pytest
import torch
from diffusers import DDPMScheduler

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.unet import discrete_path
from konomi_trainer.methods import losses

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.fixture
def drawn() -> tuple[DDPMScheduler, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    scheduler = DDPMScheduler(**SCHEDULE)
    latents, noise = (torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2))
    timesteps = torch.tensor([0, 10, 500, 999])
    return scheduler, latents, noise, timesteps, scheduler.alphas_cumprod[timesteps]


def test_noise_and_velocity_are_those_of_diffusers(drawn) -> None:  # type: ignore[no-untyped-def]
    scheduler, latents, noise, timesteps, alphas = drawn
    assert torch.allclose(
        discrete_path.add_noise(latents, noise, alphas), scheduler.add_noise(latents, noise, timesteps)
    )
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    assert torch.allclose(discrete_path.target("v_prediction", latents, noise, alphas), velocity)
    assert discrete_path.target("epsilon", latents, noise, alphas) is noise
    with pytest.raises(FailedPrecondition):
        discrete_path.target("sample", latents, noise, alphas)


def test_min_snr_is_the_paper_s_weight() -> None:
    alphas = torch.tensor([0.99, 0.9, 0.5, 0.01])
    snr = alphas / (1 - alphas)
    assert torch.allclose(discrete_path.min_snr("epsilon", alphas, 5.0), snr.clamp_max(5) / snr)
    assert torch.allclose(discrete_path.min_snr("v_prediction", alphas, 5.0), snr.clamp_max(5) / (snr + 1))
    assert discrete_path.min_snr("epsilon", alphas, 0).tolist() == [1, 1, 1, 1]


def test_weights_count_samples() -> None:
    prediction, wanted = torch.zeros(2, 1, 2, 2), torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    assert losses.weighted_mse(prediction, wanted, torch.tensor([1.0, 1.0])).item() == 10
    assert losses.weighted_mse(prediction, wanted, torch.tensor([2.0, 0.0])).item() == 2
