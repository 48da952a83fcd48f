"""A LoRA of Chroma as exported for other programs, in diffusers' own Chroma pipeline at the published width.

Its converter counts on the width 3072, so that it takes no tiny model's: one block of each kind here, 0.8 GB.
"""

import pytest
import torch
from diffusers import ChromaTransformer2DModel
from safetensors.torch import load, save

from konomi_trainer.export import kohya
from tests.families import tiny_packed
from tests.families.flow.test_packed_adapters import as_kohya
from tests.trainer.base_models.test_memory_counts import shape_of

WIDTH, RANK = 3072, 2
JOINT = [f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")]
JOINT += [f"transformer_blocks.0.attn.{name}" for name in ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")]
MODULES = [*JOINT, *(f"single_transformer_blocks.0.attn.to_{letter}" for letter in "qkv")]


@pytest.mark.chaos
def test_diffusers_own_pipeline_takes_every_format_of_a_lora_of_chroma() -> None:
    pipe = tiny_packed.chroma()
    config = dict(pipe.transformer.config) | {"num_attention_heads": 24, "attention_head_dim": 128}
    config |= {"axes_dims_rope": (16, 56, 56)}
    network = shape_of(lambda: ChromaTransformer2DModel.from_config(config), torch.bfloat16).to_empty(device="cpu")
    pipe.transformer = network
    generator, weights = torch.Generator().manual_seed(1), {}
    for name in MODULES:
        weights[f"transformer.{name}.lora_A.weight"] = torch.randn(RANK, WIDTH, generator=generator)
        weights[f"transformer.{name}.lora_B.weight"] = torch.randn(WIDTH, RANK, generator=generator)
    comfy = kohya.rename(weights, "chroma", 0)
    renamed = load(as_kohya(save({name: tensor.contiguous() for name, tensor in comfy.items()})))
    for data in (weights, comfy, renamed):
        pipe.load_lora_weights({name: tensor.clone() for name, tensor in data.items()})
        for name in MODULES:
            own = weights[f"transformer.{name}.lora_B.weight"] @ weights[f"transformer.{name}.lora_A.weight"]
            found = network.get_submodule(name).get_delta_weight("default_0").float()
            assert torch.allclose(found, own, atol=0.02 * own.abs().max().item()), name
        pipe.unload_lora_weights()
