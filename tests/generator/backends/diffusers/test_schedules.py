"""How steps lie along the noise: Karras' levels, spacings, Align Your Steps; asked, by default, refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler
from diffusers.schedulers import AysSchedules

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_generator.backends.diffusers.align_your_steps import noise_levels, timesteps_at
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import ALIGNABLE, make_schedule
from konomi_generator.png import SAMPLERS
from konomi_generator.sampling import ImageRequest, Sampling
from tests.generator import tiny_models

PLAIN = Sampling(6, 4.0, 64, 64)
EULER = replace(PLAIN, scheduler="EulerDiscreteScheduler")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipes():
    """Tiny models by layout; XL's noise ends without signal in `zero`."""
    zero = tiny_models.sdxl()
    zero.scheduler = EulerDiscreteScheduler(
        **tiny_models.SCHEDULE,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
    )
    return {"sd1": tiny_models.sd1(), "sdxl": tiny_models.sdxl(), "zero": zero}


def drawn(pipe, sampling: Sampling, **image: object) -> np.ndarray:
    batch = DenoisingBatch([ImageRequest(0, "a cat", 5, **image)], 1)
    with torch.inference_mode():
        return Denoiser(pipe).run(batch, sampling, lambda: False)


def steps(pipe, sampling: Sampling):
    return make_schedule(pipe, sampling).begin(sampling.steps, CPU)


def refused(pipe, sampling: Sampling) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        make_schedule(pipe, sampling)
    assert caught.value.reason == "SCHEDULER"
    return caught.value


def test_without_a_wish_the_schedule_is_the_model_s_own(pipes) -> None:
    pipe = pipes["sd1"]
    schedule = make_schedule(pipe, PLAIN)
    assert schedule.scheduler.config == pipe.scheduler.config and not schedule.aligned
    assert (schedule.spacing, schedule.karras) == ("leading", False)


@pytest.mark.parametrize(
    ("spacing", "first", "last"), [("leading", 831.0, 1.0), ("trailing", 999.0, 166.0), ("linspace", 999.0, 0.0)]
)
def test_timesteps_are_spaced_as_asked(spacing: str, first: float, last: float, pipes) -> None:
    sampling = replace(EULER, timestep_spacing=spacing)
    scheduler = steps(pipes["sd1"], sampling)
    assert (float(scheduler.timesteps[0]), float(scheduler.timesteps[-1])) == (first, last)
    assert make_schedule(pipes["sd1"], sampling).spacing == spacing
    assert np.isfinite(drawn(pipes["sd1"], sampling)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "HeunDiscreteScheduler"])
def test_karras_levels_are_the_paper_s_over_the_whole_schedule(name: str, pipes) -> None:
    pipe = pipes["sdxl"]
    sampling = replace(PLAIN, scheduler=name, karras_sigmas=True)
    scheduler = steps(pipe, sampling)
    signal = scheduler.alphas_cumprod.double()
    low, high = float(((1 - signal[0]) / signal[0]) ** 0.5), float(((1 - signal[-1]) / signal[-1]) ** 0.5)
    rho, ramp = 7.0, np.linspace(0, 1, 6)
    expected = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho  # 2206.00364, eq. 5
    sigmas = scheduler.sigmas.numpy()
    own = sigmas[[0, *range(1, len(sigmas) - 1, 2)]] if name.startswith("Heun") else sigmas[:-1]
    assert np.allclose(own, expected, rtol=1e-3)
    schedule = make_schedule(pipe, sampling)
    assert schedule.karras and schedule.spacing == ""
    assert not np.array_equal(drawn(pipe, sampling), drawn(pipe, replace(sampling, karras_sigmas=False)))


def test_a_folder_s_own_karras_levels_stay_unless_somebody_says_otherwise(pipes) -> None:
    pipe = tiny_models.sdxl()
    pipe.scheduler = DPMSolverMultistepScheduler(**tiny_models.SCHEDULE, use_karras_sigmas=True)
    open_ = frozenset({"karras_sigmas", "timestep_spacing", "scheduler"})
    assert make_schedule(pipe, replace(PLAIN, defaults=open_)).karras
    assert not make_schedule(pipe, replace(PLAIN, defaults=open_ - {"karras_sigmas"})).karras
    spaced = make_schedule(pipe, replace(PLAIN, timestep_spacing="trailing", defaults=open_ - {"timestep_spacing"}))
    assert (spaced.karras, spaced.spacing) == (False, "trailing")
    pipe.scheduler = EulerDiscreteScheduler(**tiny_models.SCHEDULE, use_karras_sigmas=True, timestep_spacing="leading")
    own, asked = (
        make_schedule(pipe, replace(PLAIN, karras_sigmas=karras, defaults=open_ - asked_for)).begin(6, CPU)
        for karras, asked_for in ((False, set()), (True, {"karras_sigmas"}))
    )
    assert torch.equal(own.sigmas, asked.sigmas), "what an infotext says of it is asked for again"


@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_ten_aligned_steps_are_the_published_ones(layout: str, pipes) -> None:
    table = "StableDiffusionXL" if layout == "sdxl" else "StableDiffusion"
    scheduler = steps(pipes[layout], replace(EULER, steps=10, timestep_spacing="ays"))
    assert np.allclose(scheduler.sigmas.numpy(), AysSchedules[f"{table}Sigmas"], rtol=1e-5)
    multistep = replace(PLAIN, steps=10, scheduler="DPMSolverMultistepScheduler", timestep_spacing="ays")
    published = np.array(AysSchedules[f"{table}Timesteps"])
    assert np.abs(steps(pipes[layout], multistep).timesteps.numpy() - published).max() <= 10


def test_other_numbers_of_aligned_steps_lie_between_the_published_levels() -> None:
    published = AysSchedules["StableDiffusionSigmas"]
    twenty = noise_levels(published, 20)
    assert len(twenty) == 21 and twenty[-1] == 0.0
    assert np.allclose(twenty[:-1:2], published[:-1]) and np.all(np.diff(twenty) < 0)
    assert np.allclose(twenty[1:-2:2], np.sqrt(np.multiply(published[:-2], published[1:-1])))
    assert noise_levels(published, 1) == pytest.approx([14.615, 0.0])


@pytest.mark.parametrize("count", [1, 4, 10, 50, 200])
def test_whole_timesteps_never_repeat(count: int) -> None:
    signal = tiny_models.sd1().scheduler.alphas_cumprod.double().numpy()
    chosen = timesteps_at(noise_levels(AysSchedules["StableDiffusionSigmas"], count), ((1 - signal) / signal) ** 0.5)
    assert len(chosen) == count and np.all(np.diff(chosen) < 0) and chosen[-1] >= 0 and chosen[0] <= 999


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIGNABLE)
def test_every_scheduler_that_can_draws_aligned_steps(name: str, pipes) -> None:
    sampling = replace(PLAIN, scheduler=name, timestep_spacing="ays")
    assert make_schedule(pipes["sd1"], sampling).spacing == "ays"
    image = drawn(pipes["sd1"], sampling)
    assert np.isfinite(image).all()
    assert not np.array_equal(image, drawn(pipes["sd1"], replace(sampling, timestep_spacing="")))


@pytest.mark.parametrize(
    "wish",
    [{"karras_sigmas": True}, {"timestep_spacing": "ays"}, {"timestep_spacing": "trailing"}],
    ids=["karras", "ays", "trailing"],
)
def test_image_to_image_runs_its_share_of_the_steps(wish: dict, pipes) -> None:
    pipe, start = pipes["sd1"], np.full((64, 64, 3), 90, np.uint8)
    sampling = replace(EULER, **wish)
    calls, forward = [], pipe.unet.forward

    def counted(*args, **kwargs):
        calls.append(float(args[1]))
        return forward(*args, **kwargs)

    pipe.unet.forward = counted
    try:
        drawn(pipe, sampling, strength=0.5, init=lambda: start)
    finally:
        pipe.unet.forward = forward
    assert calls == [float(t) for t in steps(pipe, sampling).timesteps[3:]]


def test_what_a_scheduler_cannot_do_is_refused_with_those_that_can(pipes) -> None:
    pipe = pipes["sd1"]
    error = refused(pipe, replace(PLAIN, scheduler="DDIMScheduler", karras_sigmas=True))
    assert error.field == "karras_sigmas" and "EulerDiscreteScheduler" in error.message
    assert error.message.endswith("was expected; DDIMScheduler came.")
    error = refused(pipe, replace(PLAIN, scheduler="EulerAncestralDiscreteScheduler", timestep_spacing="ays"))
    assert error.field == "timestep_spacing" and f"one of {', '.join(sorted(ALIGNABLE))} was" in error.message
    error = refused(pipe, replace(PLAIN, scheduler="DPMSolverSinglestepScheduler", timestep_spacing="trailing"))
    assert error.field == "timestep_spacing" and error.message.startswith("For timestep_spacing trailing one of DDIM")


def test_what_only_the_model_s_settings_ask_for_gives_way(pipes) -> None:
    left = frozenset({"karras_sigmas", "timestep_spacing"})
    for name, wish in (
        ("DDIMScheduler", {"karras_sigmas": True}),
        ("LMSDiscreteScheduler", {"timestep_spacing": "ays"}),
    ):
        schedule, plain = (
            make_schedule(pipes["sd1"], replace(PLAIN, scheduler=name, defaults=left, **changes))
            for changes in (wish, {})
        )
        assert type(schedule.scheduler) is type(plain.scheduler)
        assert (schedule.karras, schedule.spacing) == (plain.karras, plain.spacing) == (False, plain.spacing)


def test_a_schedule_that_ends_without_signal_is_begun_at_its_end(pipes) -> None:
    pipe = pipes["zero"]
    for spacing in ("leading", "ays"):
        error = refused(pipe, replace(PLAIN, timestep_spacing=spacing))
        assert error.field == "timestep_spacing"
        assert error.message.endswith(f"zero terminal SNR; one of linspace, trailing was expected; {spacing} came.")
        left = make_schedule(pipe, replace(PLAIN, timestep_spacing=spacing, defaults=frozenset({"timestep_spacing"})))
        assert left.spacing == "trailing"
    for wish in ({"karras_sigmas": True}, {"timestep_spacing": "linspace"}, {}):
        assert float(steps(pipe, replace(PLAIN, **wish)).timesteps[0]) == 999
        assert np.isfinite(drawn(pipe, replace(PLAIN, **wish))).all()


def test_a_scheduler_that_only_the_model_s_file_names_is_refused_as_its_line(pipes) -> None:
    for pipe, name in ((pipes["sd1"], "Nothing"), (pipes["zero"], "HeunDiscreteScheduler")):
        with pytest.raises(FailedPrecondition) as caught:
            make_schedule(pipe, replace(PLAIN, scheduler=name, defaults=frozenset({"scheduler"})))
        assert caught.value.reason == "MODEL_SETTINGS" and f"name the scheduler '{name}'" in caught.value.message
        assert "Put it right in the model's file" in caught.value.message


@pytest.mark.slow
def test_every_name_is_a_scheduler_that_begins(pipes) -> None:
    assert set(ALIGNABLE) <= set(SAMPLERS)
    for name in SAMPLERS:
        assert len(steps(pipes["sd1"], replace(PLAIN, scheduler=name)).timesteps) >= 6
    assert isinstance(steps(pipes["sd1"], replace(PLAIN, scheduler="HeunDiscreteScheduler")), HeunDiscreteScheduler)
