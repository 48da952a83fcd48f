"""The families that follow a flow, against diffusers' own pipelines loaded from the same folders, to the last bit."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import table
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import Annealing, ImageRequest, Sampling

CPU = torch.device("cpu")
FLOWS = {"sd3": "StableDiffusion3Img2ImgPipeline", "z-image": "ZImageImg2ImgPipeline", "lumina2": ""}
"""Base model → what changes a picture with it in diffusers; empty where nothing does."""
CHANGED = [id for id, kind in FLOWS.items() if kind]
SHORT, LONG = "a cat", "an owl on a wall in the rain, seen from far away by somebody who is very small"
NEGATIVE = "fog, and all that is grey about an autumn morning beside the sea"


@pytest.fixture(scope="module")
def loaded(home: Path) -> dict[str, tuple[Denoiser, Any]]:
    """Each family's model as konomi loads it, and as diffusers does."""
    both = {}
    for id in FLOWS:
        own = load_pipeline(BaseModels(home).get(id), home / "configs", CPU, torch.float32)
        kind = getattr(diffusers, table.of_pipeline(own).loaded_as)
        absent = {name: None for name, part in own.components.items() if part is None}
        theirs = kind.from_pretrained(home / "models" / id, local_files_only=True, **absent)
        for part in (theirs.transformer, theirs.vae):  # convolutions add up in another order
            part.to(memory_format=torch.channels_last)
        theirs.set_progress_bar_config(disable=True)
        both[id] = (Denoiser(own), theirs)
    return both


def drawn(denoiser: Denoiser, rows: list[ImageRequest], sampling: Sampling) -> np.ndarray:
    with torch.inference_mode():
        return denoiser.run(DenoisingBatch(rows, len(rows)), sampling, lambda: False)


def theirs_drawn(denoiser: Denoiser, pipe: Any, row: ImageRequest, sampling: Sampling, **more: Any) -> np.ndarray:
    return pipe(
        prompt=row.prompt,
        negative_prompt=sampling.negative_prompt or None,
        num_inference_steps=sampling.steps,
        guidance_scale=denoiser.family.defaults.guiding.theirs(sampling.guidance_scale),
        generator=torch.Generator().manual_seed(row.seed),
        output_type="np",
        **more,
    ).images


@pytest.mark.parametrize("id", FLOWS)
@pytest.mark.parametrize(
    ("prompt", "negative", "guidance"), [(SHORT, "", 1.0), (SHORT, NEGATIVE, 4.0), (LONG, "", 3.5)]
)
def test_text_to_image_is_diffusers_own_call(
    prompt: str, negative: str, guidance: float, id: str, loaded: dict[str, tuple[Denoiser, Any]]
) -> None:
    denoiser, pipe = loaded[id]
    side = denoiser.family.trained_side(denoiser.pipe)
    sampling = Sampling(3, guidance, side, side // 2, negative_prompt=negative)
    row = ImageRequest(0, prompt, 5)
    image = drawn(denoiser, [row], sampling)
    assert image.shape == (1, side // 2, side, 3) and image.std() > 0.01
    theirs = theirs_drawn(denoiser, pipe, row, sampling, height=side // 2, width=side)
    assert np.array_equal(image, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("id", CHANGED)
@pytest.mark.parametrize(("strength", "steps"), [(0.3, 5), (0.5, 5), (0.9, 4), (1.0, 3)])
def test_image_to_image_is_diffusers_own_call(
    strength: float, steps: int, id: str, loaded: dict[str, tuple[Denoiser, Any]]
) -> None:
    """Of half of five steps both run three: a step that is begun counts whole."""
    denoiser, pipe = loaded[id]
    side = denoiser.family.trained_side(denoiser.pipe)
    pixels = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    sampling = Sampling(steps, 4.0, side, side)
    row = ImageRequest(0, SHORT, 7, strength, lambda: pixels)
    changes = getattr(diffusers, FLOWS[id])(**pipe.components)
    changes.set_progress_bar_config(disable=True)
    theirs = theirs_drawn(denoiser, changes, row, sampling, image=Image.fromarray(pixels), strength=strength)
    image = drawn(denoiser, [row], sampling)
    assert np.array_equal(image, theirs)
    assert not np.array_equal(image, drawn(denoiser, [ImageRequest(0, SHORT, 7)], sampling))


@pytest.mark.slow
@pytest.mark.parametrize("id", FLOWS)
def test_several_texts_at_once_are_those_alone(id: str, loaded: dict[str, tuple[Denoiser, Any]]) -> None:
    """Texts of different lengths are padded and masked; annealed ones too draw their noise over their own states."""
    denoiser, _ = loaded[id]
    side = denoiser.family.trained_side(denoiser.pipe)
    for annealing in (None, Annealing(noise_scale=0.5)):
        sampling = Sampling(3, 4.0, side, side, negative_prompt=NEGATIVE, annealing=annealing)
        rows = [ImageRequest(place, text, place + 3) for place, text in enumerate((SHORT, LONG, "a dog", ""))]
        together = drawn(denoiser, rows, sampling)
        for place, row in enumerate(rows):
            assert np.allclose(together[place], drawn(denoiser, [row], sampling)[0], atol=1e-4)
