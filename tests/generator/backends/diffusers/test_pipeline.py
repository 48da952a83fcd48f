"""Every layout loads from a folder and from an original file, and gives what diffusers' own call gives, bit by bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from diffusers import (
    AutoencoderKL,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModels
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import load_pipeline, make_scheduler
from konomi_generator.sampling import ImageRequest, Sampling
from konomi_generator.settings import GeneratorSettings

SAMPLING = Sampling(steps=3, guidance_scale=4.0, width=64, height=64, negative_prompt="blurry")
PUBLISHED = {
    "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {
        "unet": 2_567_463_684,
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "text_encoder_2": 694_659_840,
    },
}


def load(id: str, models: BaseModels, settings: GeneratorSettings):
    return load_pipeline(models.get(id), settings.single_file_configs, torch.device("cpu"), torch.float32)


def make(pipe, batch: DenoisingBatch, sampling: Sampling = SAMPLING) -> np.ndarray:
    with torch.inference_mode():
        return Denoiser(pipe).run(batch, sampling, lambda: False)


def rows(count: int) -> list[ImageRequest]:
    return [ImageRequest(n, f"a cat number {n}", 100 + n) for n in range(count)]


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_bundled_configurations_are_the_published_models(layout: str) -> None:
    folder = GeneratorSettings().single_file_configs / layout
    counts = {}
    with init_empty_weights():
        for part in PUBLISHED[layout]:
            config = json.loads((folder / part / "config.json").read_text())
            if part.startswith("text_encoder"):
                kind = CLIPTextModelWithProjection if part.endswith("2") else CLIPTextModel
                model = kind(CLIPTextConfig(**config))
            else:
                model = (UNet2DConditionModel if part == "unet" else AutoencoderKL).from_config(config)
            counts[part] = sum(p.numel() for p in model.parameters())
    assert counts == PUBLISHED[layout]


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_an_original_file_gives_the_folder_s_images(
    layout: str, models: BaseModels, settings: GeneratorSettings
) -> None:
    folder, file = load(layout, models, settings), load(f"{layout}-file", models, settings)
    for part in PUBLISHED[layout]:
        state, other = getattr(folder, part).state_dict(), getattr(file, part).state_dict()
        assert {k: v for k, v in state.items() if not torch.equal(v, other[k])} == {}, part
    assert folder.scheduler.config.prediction_type == file.scheduler.config.prediction_type
    batch = DenoisingBatch(rows(2), 2)
    assert np.array_equal(make(folder, batch), make(file, batch))


@pytest.mark.parametrize("scheduler", ["", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LCMScheduler"])
@pytest.mark.parametrize("id", ["starter", "sd1", "sd2", "sdxl"])
def test_text_to_image_is_diffusers_own_call_bit_by_bit(
    id: str, scheduler: str, models: BaseModels, settings: GeneratorSettings
) -> None:
    sampling = Sampling(3, 4.0, 64, 64, scheduler, "blurry")
    pipe, requests = load(id, models, settings), rows(4)
    ours = make(pipe, DenoisingBatch(requests, 4), sampling)
    pipe.scheduler = make_scheduler(pipe, scheduler)
    pipe.set_progress_bar_config(disable=True)
    texts = [Denoiser(pipe).text(item.prompt) for item in requests]
    negative = Denoiser(pipe).text("blurry")
    given = {
        "prompt_embeds": torch.cat([t.hidden for t in texts]),
        "negative_prompt_embeds": negative.hidden.repeat(4, 1, 1),
    }
    if id == "sdxl":
        given["pooled_prompt_embeds"] = torch.cat([t.pooled for t in texts])
        given["negative_pooled_prompt_embeds"] = negative.pooled.repeat(4, 1)
    assert isinstance(pipe, StableDiffusionXLPipeline if id == "sdxl" else StableDiffusionPipeline)
    generators = [torch.Generator().manual_seed(item.seed) for item in requests]
    theirs = pipe(
        **given, num_inference_steps=3, guidance_scale=4.0, width=64, height=64, generator=generators, output_type="np"
    ).images
    assert np.array_equal(ours, theirs)
    assert ours.std() > 0


@pytest.mark.parametrize("id", ["starter", "sd1"])
def test_image_to_image_is_diffusers_own_call_bit_by_bit(
    id: str, models: BaseModels, settings: GeneratorSettings
) -> None:
    start = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    requests = [ImageRequest(n, "a cat", 7 + n, 0.5, lambda: start) for n in range(2)]
    sampling = Sampling(6, 4.0, 64, 64)
    pipe = load(id, models, settings)
    ours = make(pipe, DenoisingBatch(requests, 2), sampling)
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    text, negative = Denoiser(pipe).text("a cat").hidden, Denoiser(pipe).text("").hidden
    theirs = other(
        prompt_embeds=text.repeat(2, 1, 1),
        negative_prompt_embeds=negative.repeat(2, 1, 1),
        image=[Image.fromarray(start)] * 2,
        strength=0.5,
        num_inference_steps=6,
        guidance_scale=4.0,
        generator=[torch.Generator().manual_seed(item.seed) for item in requests],
        output_type="np",
    ).images
    assert np.abs(ours - theirs).max() < 1e-5


def test_strength_zero_gives_the_picture_back_through_the_autoencoder(
    models: BaseModels, settings: GeneratorSettings
) -> None:
    start = np.full((64, 64, 3), 200, np.uint8)
    pipe = load("starter", models, settings)
    one, other = (make(pipe, DenoisingBatch([ImageRequest(0, "x", seed, 0.0, lambda: start)], 1)) for seed in (1, 2))
    assert np.array_equal(one, other)


def test_an_unknown_scheduler_is_refused(models: BaseModels, settings: GeneratorSettings) -> None:
    with pytest.raises(InvalidArgument, match="DDIMScheduler") as caught:
        make_scheduler(load("starter", models, settings), "os.system")
    assert caught.value.field == "scheduler"


def test_a_model_with_missing_weights_is_refused(
    models: BaseModels, settings: GeneratorSettings, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(models.get("sd1").path, tmp_path / "models" / "holes")
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        file = tmp_path / "models" / "holes" / part / f"{name}.safetensors"
        tensors = load_file(file)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, file)
        with pytest.raises(FailedPrecondition) as caught:
            load("holes", BaseModels(tmp_path), settings)
        assert caught.value.reason == "MODEL_BROKEN"
