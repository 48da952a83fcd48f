"""FLUX.1, Chroma, Qwen-Image, FLUX.2 [klein]: konomi's loop is diffusers' own call, and what each is alone in."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import packing, table
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import TextReading
from konomi_chassis.models.families.flow.klein_path import shift_for
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import ImageRequest, Sampling
from tests.families.tiny_packed import MODELS

CPU = torch.device("cpu")
ROWS = [ImageRequest(0, "a cat", 5), ImageRequest(1, "an owl on a wall", 6)]
STEPS = 3
PLAIN = TextReading()


@pytest.fixture(scope="module", params=MODELS)
def pipe(home: Path, request: pytest.FixtureRequest) -> Any:
    """A base model of these families, loaded in float32."""
    pipe = load(home, str(request.param))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load(home: Path, id: str) -> Any:
    return load_pipeline(BaseModels(home).get(id), home / "configs", CPU, torch.float32)


def by_prompt(pipe: Any, row: ImageRequest, guidance: float) -> dict[str, Any]:
    """Returns what the pipeline's own call is given for one prompt; Chroma's masks have to come as booleans."""
    family = table.of_pipeline(pipe)
    if family.name == "chroma":
        return by_embeddings(pipe, [row], guidance)
    if family.name == "qwen_image":
        return {"prompt": row.prompt, "negative_prompt": "", "true_cfg_scale": guidance}
    return {"prompt": row.prompt, "guidance_scale": guidance, "max_sequence_length": family.chunk_states(pipe)}


def by_embeddings(pipe: Any, rows: list[ImageRequest], guidance: float) -> dict[str, Any]:
    family = table.of_pipeline(pipe)
    text, nothing = (
        family.join([family.encode(pipe, [prompt], PLAIN, CPU) for prompt in prompts])
        for prompts in ([row.prompt for row in rows], [""] * len(rows))
    )
    scale = "true_cfg_scale" if family.name == "qwen_image" else "guidance_scale"
    return {**family.arguments(text, nothing), scale: guidance}


@pytest.mark.slow
@pytest.mark.parametrize(("guidance", "sides"), [(1.0, (32, 32)), (4.0, (48, 32))])
@torch.inference_mode()
def test_text_to_image_is_diffusers_own_call_bit_by_bit(guidance: float, sides: tuple[int, int], pipe: Any) -> None:
    width, height = sides
    ours = Denoiser(pipe)

    def theirs(rows: list[ImageRequest], **given: Any) -> np.ndarray:
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        settings = {"num_inference_steps": STEPS, "width": width, "height": height}
        return pipe(**given, **settings, generator=generators, output_type="np").images

    for rows in ([ROWS[0]], ROWS):
        drawn = ours.run(DenoisingBatch(rows, len(rows)), Sampling(STEPS, guidance, width, height), lambda: False)
        assert drawn.shape == (len(rows), height, width, 3) and drawn.std() > 0.01
        given = by_prompt(pipe, rows[0], guidance) if len(rows) == 1 else by_embeddings(pipe, rows, guidance)
        assert np.array_equal(drawn, theirs(rows, **given))


@torch.inference_mode()
def test_a_text_is_encoded_as_the_pipeline_s_own_call_does(pipe: Any) -> None:
    family = table.of_pipeline(pipe)
    ours = family.encode(pipe, ["an owl"], PLAIN, CPU)
    theirs, *_ = pipe.encode_prompt("an owl", device=CPU, max_sequence_length=family.chunk_states(pipe))
    length = ours.hidden.shape[1]
    assert torch.equal(ours.hidden, theirs[:, :length]) and ours.mask is None
    pieces = len("▁an▁owl") + 2  # with the end of the text and one of padding
    assert length == (pieces if family.name == "chroma" else theirs.shape[1])


@torch.inference_mode()
def test_a_chat_template_of_a_folder_is_never_run(home: Path) -> None:
    for id in ("klein", "qwen-image"):
        pipe = load(home, id)
        family = table.of_pipeline(pipe)
        before = family.encode(pipe, ["an owl"], PLAIN, CPU).hidden
        pipe.tokenizer.chat_template = "{{ 1 / 0 }}"
        assert torch.equal(family.encode(pipe, ["an owl"], PLAIN, CPU).hidden, before)


@pytest.mark.slow
def test_a_distilled_model_takes_the_guidance_as_a_number(home: Path) -> None:
    dev, schnell, klein, base = (load(home, id) for id in ("flux1-dev", "flux1-schnell", "klein", "klein-base"))
    family = table.of_pipeline(dev)
    assert not any(table.of_pipeline(pipe).is_guided(pipe) for pipe in (dev, schnell, klein))
    assert table.of_pipeline(base).is_guided(base)
    text = family.encode(dev, ["a cat"], PLAIN, CPU)
    latents, time = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1)), torch.tensor(500.0)

    def answer(condition: Condition) -> torch.Tensor:
        with torch.inference_mode():
            return family.answer(dev.transformer, latents, time, condition)

    strong, one = (answer(family.with_guidance(dev, text, scale)) for scale in (6.0, 1.0))
    assert not torch.equal(strong, one)
    assert torch.equal(answer(text), one), "a training step gives no guidance, which is 1"
    assert family.with_guidance(schnell, text, 6.0) is text


def test_chroma_s_padding_is_masked_whatever_it_holds(home: Path) -> None:
    """Also where activations are made twice, and its single blocks lose the mask: rows of one length go together."""
    pipe = load(home, "chroma")
    family = table.of_pipeline(pipe)
    network = pipe.transformer
    rows = [family.encode(pipe, [text], PLAIN, CPU) for text in ("a cat", "a much longer text", "an owl")]
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    time = torch.tensor([100.0, 500.0, 900.0])
    whole = family.join(rows)
    assert whole.mask is not None
    noisy = Condition(whole.hidden + 5 * ~whole.mask[:, :, None], None, whole.mask)
    alone = torch.cat([family.answer(network, latents[n : n + 1], time[n : n + 1], rows[n]) for n in range(3)])
    assert torch.allclose(family.answer(network, latents, time, noisy), alone, atol=1e-5)
    network.train()
    network.enable_gradient_checkpointing()
    assert torch.allclose(family.answer(network, latents, time, noisy), alone, atol=1e-5)


def test_latents_are_packed_as_diffusers_does() -> None:
    latents = torch.randn(2, 3, 6, 8)
    tokens = packing.pack(latents)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 3, 6, 8))
    assert torch.equal(packing.unpack(tokens, 6, 8), latents)
    assert torch.equal(packing.unpatched(packing.patches(latents)), latents)
    assert torch.equal(packing.places(6, 8, CPU), FluxPipeline._prepare_latent_image_ids(1, 3, 4, CPU, torch.float32))


@pytest.mark.parametrize("tokens", [64, 4096, 4301])
@pytest.mark.parametrize("steps", [4, 50])
def test_the_shift_of_flux_2_is_diffusers_own(tokens: int, steps: int) -> None:
    assert shift_for(tokens, steps) == compute_empirical_mu(tokens, steps)
