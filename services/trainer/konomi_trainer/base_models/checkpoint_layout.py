"""Weights of diffusers' networks under the names of the original checkpoints: CompVis, Stability, CLIP and OpenCLIP.

The original UNet numbers what diffusers nests: with n = layers_per_block + 1, resnet and attention j of down block i
are the parts 0 and 1 of input_blocks[n i + j + 1], those of up block i of output_blocks[n i + j].
"""

import re
from collections.abc import Mapping

import torch

Weights = dict[str, torch.Tensor]

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
STEMS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
HEADS: Mapping[str, Mapping[str, str]] = {
    "sd1": {
        "unet": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "cond_stage_model.transformer.",
    },
    "sd2": {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model.model."},
    "sdxl": {
        "unet": "model.diffusion_model.",
        "vae": "first_stage_model.",
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
}
"""What stands before each part's names in a single file of each layout."""
OPEN_CLIP_PARTS = {("sd2", "text_encoder"), ("sdxl", "text_encoder_2")}
PLACE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)")


def checkpoint(layout: str, parts: Mapping[str, Weights], layers_per_block: int) -> Weights:
    """Returns the tensors of a single-file checkpoint.

    Args:
        layout: "sd1", "sd2" or "sdxl".
        parts: part of the pipeline → its weights under diffusers' and transformers' names.
        layers_per_block: of the UNet.
    """
    tensors: Weights = {}
    for part, head in HEADS[layout].items():
        if part == "unet":
            named = {unet_name(name, layers_per_block, parts[part]): w for name, w in parts[part].items()}
        elif part == "vae":
            named = _vae(parts[part])
        else:
            named = (_open_clip if (layout, part) in OPEN_CLIP_PARTS else _clip)(parts[part])
        tensors |= {head + name: tensor for name, tensor in named.items()}
    return tensors


def unet_name(name: str, layers_per_block: int, names: Mapping[str, object] | None = None) -> str:
    """Returns the original name of a weight or module of the UNet.

    Args:
        name: diffusers' name.
        layers_per_block: of the UNet.
        names: all its names, which say whether an up block has attention; only needed for upsamplers.
    """
    n = layers_per_block + 1
    for ours, theirs in STEMS.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    if match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name):
        if match[1] == "attentions":
            return f"middle_block.1.{match[3]}"
        return f"middle_block.{2 * int(match[2])}.{_resnet(match[3])}"
    match = PLACE.match(name)
    if match is None:
        return name
    side, block, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    if kind == "downsamplers":
        return f"input_blocks.{n * (block + 1)}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = any(other.startswith(f"up_blocks.{block}.attentions.") for other in names or ())
        return f"output_blocks.{n * block + n - 1}.{2 if attends else 1}.{rest}"
    blocks, number = ("input_blocks", n * block + index + 1) if side == "down" else ("output_blocks", n * block + index)
    return f"{blocks}.{number}.1.{rest}" if kind == "attentions" else f"{blocks}.{number}.0.{_resnet(rest)}"


def _resnet(rest: str) -> str:
    head, _, end = rest.partition(".")
    return f"{RESNET[head]}.{end}"


def _vae(weights: Weights) -> Weights:
    last = max(int(m[1]) for m in (re.match(r"decoder\.up_blocks\.(\d+)\.", name) for name in weights) if m)
    renamed: Weights = {}
    for name, tensor in weights.items():
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
        new = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", new)
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"decoder.up.{last - int(m[1])}.block.{m[2]}", new
        )
        new = re.sub(
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{last - int(m[1])}.upsample", new
        )
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
            for ours, theirs in VAE_ATTENTION.items():
                new = new.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
            if tensor.dim() == 2:
                tensor = tensor[:, :, None, None]  # the original's attention is a 1x1 convolution
        renamed[new] = tensor
    return renamed


def _clip(weights: Weights) -> Weights:
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in weights.items()}


def _open_clip(weights: Weights) -> Weights:
    renamed: Weights = {}
    plain = _clip(weights)
    for name, tensor in plain.items():
        new = name.removeprefix("text_model.")
        if new.startswith("text_projection"):
            renamed["text_projection"] = tensor.T.contiguous()
        elif match := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", new):
            if match[2] == "q":
                whole = [plain[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"]
                renamed[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"] = torch.cat(whole)
        elif match := re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", new):
            renamed[f"transformer.resblocks.{match[1]}.{OPEN_CLIP[match[2]]}.{match[3]}"] = tensor
        elif new.startswith("final_layer_norm."):
            renamed[new.replace("final_layer_norm", "ln_final")] = tensor
        elif new == "embeddings.token_embedding.weight":
            renamed["token_embedding.weight"] = tensor
        elif new == "embeddings.position_embedding.weight":
            renamed["positional_embedding"] = tensor
    return renamed
