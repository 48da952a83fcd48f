"""Weights of diffusers' networks as the tensors of an original single-file checkpoint, by chassis' original_names."""

import re
from collections.abc import Mapping

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.table import family
from konomi_chassis.models.families.unet.original_names import text_names, unet_name, vae_name

Weights = dict[str, torch.Tensor]


def checkpoint(layout: str, parts: Mapping[str, Weights], layers_per_block: int) -> Weights:
    """Returns the tensors of a single-file checkpoint.

    Args:
        layout: of a family that has single files.
        parts: part of the pipeline → its weights under diffusers' and transformers' names.
        layers_per_block: of the UNet.

    Raises:
        FailedPrecondition: such models have no single files (reason EXPORT_FORMAT).
    """
    tensors: Weights = {}
    kind = family(layout)
    if kind.single_file is None:
        raise FailedPrecondition(
            f"expected a base model of Stable Diffusion 1.x, 2.x or XL for this format; this one is {layout}, of which "
            "konomi writes no single-file checkpoints: export a merged folder instead",
            reason="EXPORT_FORMAT",
        )
    for part, head in kind.single_file.heads.items():
        if part == kind.network:
            named = {unet_name(name, layers_per_block, parts[part]): w for name, w in parts[part].items()}
        elif part == "vae":
            named = _vae(parts[part])
        else:
            named = (_open_clip if part in kind.single_file.open_clip else _clip)(parts[part])
        tensors |= {head + name: tensor for name, tensor in named.items()}
    return tensors


def _vae(weights: Weights) -> Weights:
    blocks = 1 + max(int(m[1]) for m in (re.match(r"decoder\.up_blocks\.(\d+)\.", name) for name in weights) if m)
    renamed: Weights = {}
    for name, tensor in weights.items():
        if "mid_block.attentions.0" in name and tensor.dim() == 2:
            tensor = tensor[:, :, None, None]  # the original's attention is a 1x1 convolution
        renamed[vae_name(name, blocks)] = tensor
    return renamed


def _clip(weights: Weights) -> Weights:
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in weights.items()}


def _open_clip(weights: Weights) -> Weights:
    renamed: Weights = {}
    for name, tensor in weights.items():
        place = text_names(name, open_clip=True)[0]
        if place.part is None:
            renamed[place.name] = tensor.T.contiguous() if place.transposed else tensor
        elif place.part == 0:  # queries, keys and values are one tensor
            renamed[place.name] = torch.cat([weights[name.replace(".q_proj.", f".{letter}_proj.")] for letter in "qkv"])
    return renamed
