"""Flow matching against diffusers' own scheduler and training helpers, to one millionth."""

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from diffusers.training_utils import compute_density_for_timestep_sampling, compute_loss_weighting_for_sd3

from konomi_chassis.models.families.flow.flow_path import FlowPath

CPU = torch.device("cpu")
KINDS = {"plain": {}, "static": {"shift": 3.0}, "by size": {"use_dynamic_shifting": True}}


@pytest.fixture(params=KINDS)
def scheduler(request: pytest.FixtureRequest) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**KINDS[request.param])


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_and_its_gradient_are_those_of_diffusers_training_script(
    scheduler: FlowMatchEulerDiscreteScheduler,
) -> None:
    """As its scripts for Stable Diffusion 3 and FLUX: sigmas by index, noise - x_0, weights of "logit_normal"."""
    path, latents, noise = FlowPath.of(scheduler), random(1, 4, 16, 4, 4), random(2, 4, 16, 4, 4)
    share = compute_density_for_timestep_sampling(
        "logit_normal", 4, 0.0, 1.0, generator=torch.Generator().manual_seed(3)
    )
    index = (share * scheduler.config.num_train_timesteps).long()
    times, sigmas = scheduler.timesteps[index], scheduler.sigmas[index].view(-1, 1, 1, 1)
    theirs = (1.0 - sigmas) * latents + sigmas * noise
    assert torch.allclose(path.noisy(latents, noise, times), theirs, atol=1e-6)
    losses, gradients = [], []
    ours = path.weight(times, 5.0).view(-1, 1, 1, 1)
    for seen, target, weight in (
        (theirs, noise - latents, compute_loss_weighting_for_sd3("logit_normal", sigmas)),
        (path.noisy(latents, noise, times), path.target(latents, noise, times), ours),
    ):
        factor = torch.tensor(0.7, requires_grad=True)
        loss = (weight * (factor * seen - target) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        gradients.append(float(factor.grad))  # type: ignore[arg-type]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6) and gradients[0] == pytest.approx(gradients[1], abs=1e-6)


def test_an_image_comes_back_from_what_the_network_should_answer(scheduler: FlowMatchEulerDiscreteScheduler) -> None:
    path, latents, noise = FlowPath.of(scheduler), random(1, 3, 4, 8, 8), random(2, 3, 4, 8, 8)
    times = torch.stack([path.at(share) for share in (0.0, 0.5, 0.999)])
    seen, target = path.noisy(latents, noise, times), path.target(latents, noise, times)
    for row in range(3):
        assert torch.allclose(path.clean(seen[row], target[row], times[row]), latents[row], atol=1e-6)
    assert times[0] < times[1] < times[2] and torch.allclose(seen[2], noise[2], atol=0.02)


@pytest.mark.parametrize("cells", [256, 4096, 16384])
def test_times_are_logit_normal_and_larger_images_see_more_noise(
    cells: int, scheduler: FlowMatchEulerDiscreteScheduler
) -> None:
    path = FlowPath.of(scheduler)
    drawn = path.draw(np.random.default_rng(1), 20_000, cells)
    share = torch.from_numpy(np.random.default_rng(1).standard_normal(20_000, np.float32)).sigmoid()
    sigmas = scheduler.sigmas[(share * 1000).long()]
    if scheduler.config.use_dynamic_shifting:
        sigmas = scheduler.time_shift(calculate_shift(cells // 4), 1.0, sigmas)
    assert torch.allclose(drawn / 1000, sigmas, atol=1e-6)
    middle = float(drawn.median()) / 1000
    shift = scheduler.config.shift if not path.shift else math.exp(path.shift.at(cells // 4))
    assert middle == pytest.approx(shift / (1 + shift), abs=0.02)  # a half, shifted


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("cells", [1024, 16384])
def test_steps_are_those_of_diffusers_pipelines(
    cells: int, spaced: bool, scheduler: FlowMatchEulerDiscreteScheduler
) -> None:
    theirs = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    mu = calculate_shift(cells // 4) if scheduler.config.use_dynamic_shifting else None
    if spaced:
        theirs.set_timesteps(sigmas=np.linspace(1.0, 1 / 7, 7), mu=mu)
    else:
        theirs.set_timesteps(7, mu=mu)
    timesteps = FlowPath.of(scheduler, spaced=spaced).timesteps(scheduler, 7, CPU, cells)
    assert torch.equal(timesteps, theirs.timesteps) and torch.equal(scheduler.sigmas, theirs.sigmas)


def test_sampling_starts_from_noise_or_from_a_picture_with_some(scheduler: FlowMatchEulerDiscreteScheduler) -> None:
    path, latents, noise = FlowPath.of(scheduler), random(1, 2, 4, 8, 8), random(2, 2, 4, 8, 8)
    timesteps = path.timesteps(scheduler, 8, CPU, 1024)
    assert path.begin(scheduler, noise, None, None) is noise and path.scaled(scheduler, noise, timesteps[0]) is noise
    time = timesteps[5:6].repeat(2)
    assert torch.allclose(path.begin(scheduler, noise, latents, time), path.noisy(latents, noise, time), atol=1e-6)
