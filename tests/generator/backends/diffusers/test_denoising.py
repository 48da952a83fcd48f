"""What the loop does beyond diffusers' own: annealed conditions, the base for the first steps, previews, few steps."""

import numpy as np
import pytest
import torch
from diffusers import LCMScheduler

from konomi_chassis.models.families.unet.discrete_path import DiscretePath
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.condition_annealing import Annealer, cleanness
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline, make_scheduler
from konomi_generator.sampling import AdapterFile, Annealing, ImageRequest, Sampling
from tests.generator.backends.diffusers.test_adapters import lora


@pytest.fixture
def pipe(models, settings):
    return open_pipe("starter", models, settings)


def open_pipe(id: str, models, settings):
    return load_pipeline(models.get(id), settings.single_file_configs, torch.device("cpu"), torch.float32)


def make(denoiser: Denoiser, rows: list[ImageRequest], watch=None, **changes: object) -> np.ndarray:
    sampling = Sampling(**({"steps": 4, "guidance_scale": 4.0, "width": 64, "height": 64} | changes))
    with torch.inference_mode():
        return denoiser.run(DenoisingBatch(rows, 4), sampling, lambda: False, watch)


ROWS = [ImageRequest(n, f"a cat number {n}", 20 + n) for n in range(4)]


def test_cleanness_is_the_paper_s_schedule() -> None:
    annealing = Annealing(clean_below=0.6, noise_above=0.9)
    assert [cleanness(t, annealing) for t in (0.0, 0.6, 0.9, 1.0)] == [1.0, 1.0, 0.0, 0.0]
    assert cleanness(0.75, annealing) == pytest.approx(0.5)


def test_an_annealed_condition_keeps_its_mean_and_spread_and_mixes_as_equation_five_says() -> None:
    y = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0)) * 3 + 1
    rescaled = Annealer(Annealing(noise_scale=0.3), [1, 2])(y, 0.8)
    assert torch.allclose(rescaled.mean((1, 2)), y.mean((1, 2)), atol=1e-5)
    assert torch.allclose(rescaled.std((1, 2)), y.std((1, 2)), atol=1e-4)
    plain = Annealer(Annealing(noise_scale=0.3, rescaled_share=0.0), [1, 2])(y, 0.8)
    share = cleanness(0.8, Annealing())
    drawn = (plain - share**0.5 * y) / (0.3 * (1 - share) ** 0.5)
    assert abs(float(drawn.mean())) < 0.2 and abs(float(drawn.std()) - 1) < 0.15
    assert torch.equal(Annealer(Annealing(), [1, 2])(y, 0.5), y)
    assert not Annealer(Annealing(noise_scale=0.0, rescaled_share=1.0), [1])(y[:1], 1.0).any()


def test_each_row_is_annealed_by_its_own_seed() -> None:
    y = torch.ones(3, 2, 4) + torch.arange(4.0)
    together = Annealer(Annealing(), [5, 6, 7])(y, 0.95)
    alone = Annealer(Annealing(), [6])(y[1:2], 0.95)
    assert torch.equal(together[1], alone[0]) and not torch.equal(together[0], together[1])


@pytest.mark.parametrize("id", ["starter", "sdxl"])
def test_annealing_moves_images_and_depends_on_nothing_but_their_own_seed(id: str, models, settings) -> None:
    denoiser, strong = Denoiser(open_pipe(id, models, settings)), Annealing(0.1, 0.9, 1.0)
    whole = make(denoiser, ROWS, annealing=strong)
    assert np.array_equal(whole, make(denoiser, ROWS, annealing=strong))
    assert np.array_equal(whole[2:3], make(denoiser, ROWS[2:3], annealing=strong))
    assert np.abs(whole - make(denoiser, ROWS)).max() > 1e-3
    nothing = make(denoiser, ROWS, annealing=Annealing(0.999, 1.0, 1.0), scheduler="DDIMScheduler")
    assert np.array_equal(nothing, make(denoiser, ROWS, scheduler="DDIMScheduler"))


def test_the_base_makes_the_first_share_of_the_steps(pipe) -> None:
    adapters = Adapters(pipe)
    denoiser = Denoiser(pipe, adapters.base_unet)
    base = make(denoiser, ROWS)
    adapters.apply([AdapterFile("a" * 64, lora(1), 1.0)])
    adapted = make(denoiser, ROWS)
    assert np.array_equal(make(denoiser, ROWS, base_share=1.0), base)
    assert np.array_equal(make(denoiser, ROWS, base_share=0.0), adapted)
    mixed = make(denoiser, ROWS, base_share=0.5)
    assert np.abs(mixed - base).max() > 1e-3 and np.abs(mixed - adapted).max() > 1e-3
    calls: list[str] = []
    for name, unet in (("base", adapters.base_unet()), ("adapted", pipe.unet)):
        plain = unet.forward
        unet.forward = lambda *a, _n=name, _f=plain, **k: (calls.append(_n), _f(*a, **k))[1]
    make(denoiser, ROWS, base_share=0.5)
    assert calls == ["base", "base", "adapted", "adapted"]


def test_previews_come_when_they_are_due_and_change_nothing(pipe) -> None:
    denoiser, seen = Denoiser(pipe), []
    plain = make(denoiser, ROWS[:3], steps=8)
    watched = make(denoiser, ROWS[:3], lambda step, images: seen.append((step, images)), steps=8, preview_every=3)
    assert np.array_equal(plain, watched)
    assert [step for step, _ in seen] == [3, 6] and all(images.shape == (4, 64, 64, 3) for _, images in seen)
    early, late = (np.abs(images[:3] - plain).mean() for _, images in seen)
    assert late < early


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_preview_is_the_clean_image_the_answer_names(prediction: str) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=prediction)
    rng = torch.Generator().manual_seed(0)
    image, noise = torch.randn(1, 4, 8, 8, generator=rng), torch.randn(1, 4, 8, 8, generator=rng)
    t = torch.tensor([400])
    noisy = scheduler.add_noise(image, noise, t)
    alpha = scheduler.alphas_cumprod[400]
    answer = noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * image
    assert torch.allclose(DiscretePath.of(scheduler).clean(noisy, answer, 400), image, atol=1e-4)


def test_a_few_step_adapter_runs_with_its_scheduler_as_in_diffusers(pipe) -> None:
    adapters = Adapters(pipe)
    adapters.apply([AdapterFile("a" * 64, lora(4), 1.0)])
    ours = make(Denoiser(pipe, adapters.base_unet), ROWS, steps=4, guidance_scale=1.0, scheduler="LCMScheduler")
    pipe.scheduler = make_scheduler(pipe, "LCMScheduler")
    assert isinstance(pipe.scheduler, LCMScheduler)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        prompt_embeds=torch.cat([Denoiser(pipe).text(row.prompt).hidden for row in ROWS]),
        num_inference_steps=4,
        guidance_scale=1.0,
        width=64,
        height=64,
        output_type="np",
        generator=[torch.Generator().manual_seed(row.seed) for row in ROWS],
    ).images
    assert np.array_equal(ours, theirs)
