"""Names of original checkpoints against a table that was written apart from konomi's, on all three layouts."""

import pytest
import torch

from konomi_trainer.base_models import checkpoint_layout
from tests.generator import original_layout, tiny_models

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.mark.parametrize("layout", ["sd1", "sd2", "sdxl"])
def test_every_weight_has_its_original_name_and_value(layout: str) -> None:
    pipe = getattr(tiny_models, layout)()
    parts = {part: getattr(pipe, part).state_dict() for part in PARTS if getattr(pipe, part, None) is not None}
    ours = checkpoint_layout.checkpoint(layout, parts, pipe.unet.config.layers_per_block)
    theirs = original_layout.checkpoint(pipe)
    missing = {name for name in theirs if name not in ours and "text_projection" not in name}
    assert not missing and not {name for name in ours if name not in theirs}
    for name, tensor in ours.items():
        assert torch.equal(tensor.flatten(), theirs[name].flatten()), name


def test_modules_have_the_names_of_kohya_s_xl_files() -> None:
    names = {
        "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q": (
            "input_blocks.4.1.transformer_blocks.1.attn1.to_q"
        ),
        "down_blocks.2.attentions.1.proj_in": "input_blocks.8.1.proj_in",
        "mid_block.attentions.0.transformer_blocks.9.attn2.to_k": "middle_block.1.transformer_blocks.9.attn2.to_k",
        "up_blocks.0.attentions.2.transformer_blocks.0.attn2.to_v": "output_blocks.2.1.transformer_blocks.0.attn2.to_v",
        "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0": (
            "output_blocks.3.1.transformer_blocks.0.attn1.to_out.0"
        ),
        "mid_block.resnets.1.conv1.weight": "middle_block.2.in_layers.2.weight",
        "down_blocks.0.downsamplers.0.conv.bias": "input_blocks.3.0.op.bias",
        "time_embedding.linear_2.weight": "time_embed.2.weight",
    }
    for ours, theirs in names.items():
        assert checkpoint_layout.unet_name(ours, 2) == theirs
