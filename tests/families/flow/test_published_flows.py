"""The flow families in their published sizes, without memory: weights, bytes, what comes and goes, and what fits."""

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from konomi_chassis.models.catalogue import BaseModel, resident_weights
from konomi_chassis.models.families import autoencoder, table
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.quantization import quantizable_weights
from konomi_chassis.models.memory_needs import ADAPTER_SHARE, NightShape, night_memory
from konomi_trainer.methods import lora
from tests.contract.source_tree import ROOT
from tests.published_size import flows
from tests.published_size.flows import PUBLISHED, PublishedFlow
from tests.trainer.base_models.test_memory_counts import LiveBytes, as_a_gpu_computes, pretend, shape_of

SIDE, SCALE, HALF, GIB = 1024, 8, 2, 1 << 30
LARGEST = {
    "flux1": "FLUX.1 [dev]",
    "chroma": "Chroma1-HD",
    "qwen_image": "Qwen-Image",
    "flux2_klein": "FLUX.2 [klein] 9B",
    "sd3": "Stable Diffusion 3.5 Large",
    "z_image": "Z-Image",
    "lumina2": "Lumina Image 2.0",
}
"""Family → the largest of its models, which its table of memory counts."""
FITS = {
    "FLUX.1 [dev]": ("reduced", "reduced", "reduced", "whole"),
    "FLUX.1 [schnell]": ("reduced", "reduced", "reduced", "whole"),
    "Chroma1-HD": ("reduced", "reduced", "reduced", "whole"),
    "Qwen-Image": ("none", "none", "reduced", "reduced"),
    "FLUX.2 [klein] 4B": ("reduced", "reduced", "whole", "whole"),
    "FLUX.2 [klein] 9B": ("none", "none", "reduced", "whole"),
    "Stable Diffusion 3 Medium": ("none", "reduced", "whole", "whole"),
    "Stable Diffusion 3.5 Medium": ("none", "reduced", "whole", "whole"),
    "Stable Diffusion 3.5 Large": ("none", "reduced", "reduced", "whole"),
    "Z-Image": ("reduced", "reduced", "reduced", "whole"),
    "Lumina Image 2.0": ("reduced", "whole", "whole", "whole"),
}
"""What of a night in bfloat16 fits on cards of 12, 16, 24 and 48 GiB."""


@pytest.fixture
def whole_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lumina 2 reads from a mask how long its texts are, which here have no numbers: as long as they can be."""
    longest = PUBLISHED[LARGEST["lumina2"]].tokens
    monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: [longest] * tensor.numel())


def weights(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_transformer_has_the_published_weights(name: str) -> None:
    flow = PUBLISHED[name]
    with torch.device("meta"):
        counted = HALF * weights(flow.transformer())
    assert counted == pytest.approx(flow.bytes, rel=0.01)


def published_model(name: str) -> BaseModel:
    flow = PUBLISHED[name]
    with torch.device("meta"):
        state = flow.transformer().state_dict()
        sizes = {name: weight.numel() for name, weight in state.items()}
        parameters = {"transformer": sum(sizes.values()), "vae": weights(flows.autoencoder(flow)), **flow.texts}
    packed, largest = quantizable_weights(sizes, {name: weight.dim() for name, weight in state.items()})
    return BaseModel(
        "mine",
        Path("mine"),
        flow.family,
        "diffusers",
        0,
        SIDE,
        parameters,
        resident=resident_weights(sizes),
        quantizable=packed,
        largest_layer=largest,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FITS)
def test_what_night_fits_on_which_card(name: str) -> None:
    memory = night_memory(published_model(name), NightShape(images_together=1, rows_together=1))
    assert memory is not None
    assert tuple(memory.fit(size * GIB) for size in (12, 16, 24, 48)) == FITS[name]


ROWS = {
    "Lumina Image 2.0": ("Lumina Image 2.0",),
    "FLUX.2 [klein] 4B": ("FLUX.2 [klein] 4B",),
    "Z-Image, FLUX.1, Chroma": ("Z-Image", "FLUX.1 [dev]", "FLUX.1 [schnell]", "Chroma1-HD"),
    "Stable Diffusion 3 and 3.5 Medium": ("Stable Diffusion 3 Medium", "Stable Diffusion 3.5 Medium"),
    "Stable Diffusion 3.5 Large": ("Stable Diffusion 3.5 Large",),
    "FLUX.2 [klein] 9B": ("FLUX.2 [klein] 9B",),
    "Qwen-Image": ("Qwen-Image",),
}
"""A row of the guide's table to the models it speaks of."""
WORDS = {"none": ("no", "×"), "reduced": ("slowly", "△"), "whole": ("whole", "○")}


@pytest.mark.parametrize(("guide", "language"), [("base-models.md", 0), ("base-models.ja.md", 1)])
def test_the_guide_says_what_fits(guide: str, language: int) -> None:
    lines = (ROOT / "docs" / guide).read_text("utf-8").splitlines()
    (head,) = [place for place, line in enumerate(lines) if "| 6 GB | 8 GB |" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")][-4:] for line in lines[head + 5 : head + 12]]
    assert len(rows) == len(ROWS)
    for row, models in zip(rows, ROWS.values(), strict=True):
        for model in models:
            assert row == [WORDS[fit][language] for fit in FITS[model]], model


def inputs(flow: PublishedFlow, rows: int) -> tuple[torch.Tensor, torch.Tensor, Condition]:
    latents = torch.empty(rows, flow.channels, SIDE // SCALE, SIDE // SCALE, dtype=torch.bfloat16)
    pooled = torch.empty(rows, flow.pooled, dtype=torch.bfloat16) if flow.pooled else None
    hidden = torch.empty(rows, flow.tokens, flow.width, dtype=torch.bfloat16)
    return latents, torch.full((rows,), 500.0), Condition(hidden, pooled)


def transformer(flow: PublishedFlow) -> torch.nn.Module:
    return shape_of(flow.transformer, torch.bfloat16).to(torch.bfloat16)


def drawing(flow: PublishedFlow, rows: int = 2) -> float:
    """Returns the bytes a pixel of a row that is denoised."""
    network = transformer(flow)
    with FakeTensorMode(allow_non_fake_inputs=True):
        pretend(network)
        given = inputs(flow, rows)
        with torch.no_grad(), LiveBytes(network) as count:
            table.family(flow.family).answer(network, *given)
    return count.peak / rows / SIDE**2


def training(flow: PublishedFlow, *, checkpointing: bool) -> float:
    """Returns the bytes a pixel of a row of a training step of a LoRA of rank 8."""
    network, family = transformer(flow), table.family(flow.family)
    with torch.device("meta"):
        lora.attach({"transformer": network}, lora.LORA, 8, 1, family.targets)
    learned = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    assert learned < ADAPTER_SHARE * weights(network)
    if checkpointing:
        network.train()
        network.enable_gradient_checkpointing()
    with FakeTensorMode(allow_non_fake_inputs=True):
        pretend(network)
        given = inputs(flow, 1)
        with as_a_gpu_computes(), LiveBytes(network) as count:
            family.answer(network, *given).float().sum().backward()
    return (count.peak - 4 * learned) / SIDE**2


def decoding_and_encoding(flow: PublishedFlow) -> tuple[float, float]:
    vae = shape_of(lambda: flows.autoencoder(flow), torch.float32)
    peaks = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        pretend(vae)
        works = (
            lambda: autoencoder.decode(vae, torch.empty(1, flow.channels, SIDE // SCALE, SIDE // SCALE)),
            lambda: autoencoder.encode(vae, torch.empty(1, 3, SIDE, SIDE)),
        )
        for work in works:
            with torch.no_grad(), LiveBytes(vae) as count:
                work()
            peaks.append(count.peak / SIDE**2)
    return peaks[0], peaks[1]


@pytest.mark.chaos
@pytest.mark.parametrize("layout", LARGEST)
def test_the_table_says_what_comes_and_goes(layout: str, whole_texts: None) -> None:
    flow, counts = PUBLISHED[LARGEST[layout]], table.family(layout).defaults.activations
    assert counts is not None
    assert counts.drawing == pytest.approx(drawing(flow), rel=0.05)
    assert counts.checkpointed == pytest.approx(training(flow, checkpointing=True), rel=0.05)
    assert counts.training == pytest.approx(training(flow, checkpointing=False), rel=0.05)
    assert (counts.decoding, counts.encoding) == pytest.approx(decoding_and_encoding(flow), rel=0.05)
