"""Stable Diffusion 3: konomi's loop is diffusers' own call, and what the family cannot do is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.backends.diffusers.pipeline import make_scheduler
from konomi_generator.sampling import ImageRequest, Sampling
from konomi_trainer.base_models import pipeline
from konomi_trainer.methods import custom_diffusion

ROWS = [ImageRequest(0, "a cat", 5), ImageRequest(1, "an owl on a wall", 6)]


@pytest.fixture(scope="module")
def sd3(home: Path) -> Any:
    return load_pipeline(BaseModels(home).get("sd3"), home / "configs", torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(("guidance", "sides"), [(1.0, (32, 32)), (4.0, (32, 16))])
def test_text_to_image_is_diffusers_own_call_bit_by_bit(guidance: float, sides: tuple[int, int], sd3: Any) -> None:
    """A prompt by its words; several by their embeddings, since diffusers encodes them together and konomi apart."""
    width, height = sides
    sampling, ours = Sampling(4, guidance, width, height), Denoiser(sd3)
    settings = {"num_inference_steps": 4, "guidance_scale": guidance, "width": width, "height": height}
    sd3.set_progress_bar_config(disable=True)

    def theirs(rows: list[ImageRequest], **given: Any) -> np.ndarray:
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        return sd3(**given, **settings, generator=generators, output_type="np").images

    with torch.inference_mode():
        for row in ROWS:
            drawn = ours.run(DenoisingBatch([row], 1), sampling, lambda: False)
            assert drawn.shape == (1, height, width, 3) and drawn.std() > 0.01
            assert np.array_equal(drawn, theirs([row], prompt=row.prompt))
        texts, nothing = [ours.text(row.prompt) for row in ROWS], ours.text("")
        given = {
            "prompt_embeds": torch.cat([text.hidden for text in texts]),
            "pooled_prompt_embeds": torch.cat([text.pooled for text in texts]),
            "negative_prompt_embeds": nothing.hidden.repeat(2, 1, 1),
            "negative_pooled_prompt_embeds": nothing.pooled.repeat(2, 1),
        }
        drawn = ours.run(DenoisingBatch(ROWS, 2), sampling, lambda: False)
        assert np.array_equal(drawn, theirs(ROWS, **given))


def test_schedulers_of_another_noise_are_refused(sd3: Any) -> None:
    assert type(make_scheduler(sd3, "FlowMatchEulerDiscreteScheduler")) is type(sd3.scheduler)
    with pytest.raises(InvalidArgument, match="One of FlowMatchEulerDiscreteScheduler was expected; 'DDIMScheduler'"):
        make_scheduler(sd3, "DDIMScheduler")


def test_custom_diffusion_has_no_counterpart_in_joint_attention(sd3: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected a base model with cross-attention; this one has none"):
        custom_diffusion.attach(sd3.transformer)


def test_a_transformer_for_other_latents_is_refused(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "models" / "sd3", tmp_path / "models" / "sd3")
    file = tmp_path / "models" / "sd3" / "vae" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"latent_channels": 16}))
    with pytest.raises(FailedPrecondition, match="its transformer does not take the vae's latents"):
        BaseModels(tmp_path).get("sd3")


@pytest.mark.slow
def test_a_sample_sheet_is_drawn(home: Path) -> None:
    place = pipeline.TrainingPlacement("cpu", "fp32", False)
    base = pipeline.load(BaseModels(home).get("sd3"), home / "configs", "0" * 64, place)
    draw = base.sampler(["a cat", "an owl"], 2)
    base.release_encoders()
    sheet, again = draw(), draw()
    assert sheet is not None and again is not None
    assert sheet.shape == (2, 32, 32, 3) and np.array_equal(sheet, again) and (sheet[0] != sheet[1]).any()
