"""A picture is changed by FLUX.1, Chroma and Qwen-Image as diffusers' own img2img pipelines change it."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import ImageRequest, Sampling
from tests.families.flow.test_packed import by_prompt, load

CHANGES = {
    "flux1-dev": "FluxImg2ImgPipeline",
    "flux1-schnell": "FluxImg2ImgPipeline",
    "chroma": "ChromaImg2ImgPipeline",
    "qwen-image": "QwenImageImg2ImgPipeline",
}
"""Base model → diffusers' pipeline."""
SIDE = 32


@pytest.mark.slow
@pytest.mark.parametrize("id", CHANGES)
@pytest.mark.parametrize(("strength", "steps"), [(0.5, 5), (0.9, 4)])
@torch.inference_mode()
def test_image_to_image_is_diffusers_own_call(strength: float, steps: int, id: str, home: Path) -> None:
    pipe = load(home, id)
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    row = ImageRequest(0, "a cat", 7, strength, lambda: pixels)
    image = Denoiser(pipe).run(DenoisingBatch([row], 1), Sampling(steps, 4.0, SIDE, SIDE), lambda: False)
    changes = getattr(diffusers, CHANGES[id])(**pipe.components)
    changes.set_progress_bar_config(disable=True)
    theirs = changes(
        **by_prompt(pipe, row, 4.0),
        image=Image.fromarray(pixels),
        strength=strength,
        height=SIDE,
        width=SIDE,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(row.seed),
        output_type="np",
    ).images
    # Chroma's pipeline adds its mask, here all ones, to what attention reckons, which changes the last bits alone
    assert np.allclose(image, theirs, atol=1e-5) if id == "chroma" else np.array_equal(image, theirs)
