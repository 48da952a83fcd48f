"""What SDXL in its published size keeps on the device during a night, counted on tensors without memory."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.memory_fallback import BLOCK_BYTES, Places, _blocks
from konomi_generator.sampling import AdapterFile
from tests.benchmarks.trainer import published_layouts as published

META = torch.device("meta")
ENDS = (".to_q", ".to_k", ".to_v", ".to_out.0")


class StableDiffusionXLPipeline(SimpleNamespace):
    """The parts under the name of diffusers' pipeline, by which its family is known."""


@pytest.fixture(scope="module")
def pipe() -> SimpleNamespace:
    """SDXL's parts in half precision, the autoencoder in float32."""
    with META:
        parts = {
            "unet": published.unet("sdxl").half(),
            "vae": published.vae("sdxl"),
            "text_encoder": published.text_encoder("sdxl", 1).half(),
            "text_encoder_2": published.text_encoder("sdxl", 2).half(),
        }
    for part in parts.values():
        part.requires_grad_(False)
    return StableDiffusionXLPipeline(**parts, components=parts)


def lora_of(unet: torch.nn.Module, rank: int) -> bytes:
    """A LoRA of every attention layer, as a night makes it."""
    tensors = {}
    for name, module in unet.named_modules():
        if name.endswith(ENDS):
            tensors[f"unet.{name}.lora_A.weight"] = torch.zeros(rank, module.in_features, dtype=torch.float16)
            tensors[f"unet.{name}.lora_B.weight"] = torch.zeros(module.out_features, rank, dtype=torch.float16)
    return save(tensors)


def test_sdxl_with_both_unets_stays_below_8_gigabytes(pipe) -> None:
    adapters = Adapters(pipe)
    places = Places(pipe, META, {"unet": adapters.made_base_unet})
    bare = places.size()
    assert 7.0e9 < bare < 7.2e9
    assert adapters.apply([AdapterFile("a" * 64, lora_of(pipe.unet, 8), 1.0)], both=True)
    assert adapters.base_unet() is not pipe.unet and len(adapters._plain) == 560
    assert bare < places.size() < bare + 0.06e9 < 8e9
    adapters.apply([])
    assert places.size() == bare


def test_block_by_block_sdxl_s_unet_needs_little_at_once(pipe) -> None:
    blocks = list(_blocks(pipe.unet))
    sizes = [sum(weight.numel() * weight.element_size() for weight in block.parameters()) for block in blocks]
    assert max(sizes) <= BLOCK_BYTES < sum(sizes) / 15
    assert sum(sizes) == sum(weight.numel() * weight.element_size() for weight in pipe.unet.parameters())
