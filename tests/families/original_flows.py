"""Transformers of the flow families under the names of their authors: what single files of them hold."""

import re
from collections.abc import Mapping, Sequence

import torch

from konomi_chassis.models.families import table
from konomi_chassis.models.families.family import OriginalLayer

Weights = dict[str, torch.Tensor]
CONTEXT = r"^transformer_blocks\.(\d+)\."
SD3_LAYERS = (
    OriginalLayer(
        "joint_blocks.{}.x_block.attn.qkv", tuple(f"transformer_blocks.{{}}.attn.to_{letter}" for letter in "qkv")
    ),
    OriginalLayer(
        "joint_blocks.{}.context_block.attn.qkv",
        tuple(f"transformer_blocks.{{}}.attn.add_{letter}_proj" for letter in "qkv"),
    ),
)
FLUX_RENAMES = (
    (r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight", r"single_blocks.\1.norm.query_norm.scale"),
    (r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight", r"single_blocks.\1.norm.key_norm.scale"),
    (rf"{CONTEXT}attn\.norm_q\.weight", r"double_blocks.\1.img_attn.norm.query_norm.scale"),
    (rf"{CONTEXT}attn\.norm_k\.weight", r"double_blocks.\1.img_attn.norm.key_norm.scale"),
    (rf"{CONTEXT}attn\.norm_added_q\.weight", r"double_blocks.\1.txt_attn.norm.query_norm.scale"),
    (rf"{CONTEXT}attn\.norm_added_k\.weight", r"double_blocks.\1.txt_attn.norm.key_norm.scale"),
)
RENAMES: Mapping[str, Sequence[tuple[str, str]]] = {
    "flux1": FLUX_RENAMES,
    "flux2_klein": FLUX_RENAMES,
    "chroma": (
        *FLUX_RENAMES,
        (r"^(distilled_guidance_layer\.layers\.\d+\.)linear_1", r"\1in_layer"),
        (r"^(distilled_guidance_layer\.layers\.\d+\.)linear_2", r"\1out_layer"),
        (r"^(distilled_guidance_layer\.norms\.\d+\.)weight", r"\1scale"),
    ),
    "qwen_image": (),
    "z_image": (
        (r"^all_(x_embedder|final_layer)\.2-1", r"\1"),
        (r"attention\.norm_([qk])", r"attention.\1_norm"),
    ),
    "lumina2": (
        (r"^time_caption_embed\.caption_embedder", "cap_embedder"),
        (r"^time_caption_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_caption_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^norm_out\.linear_1", "final_layer.adaLN_modulation.1"),
        (r"^norm_out\.linear_2", "final_layer.linear"),
        (r"\.attn\.norm_([qk])", r".attention.\1_norm"),
        (r"feed_forward\.linear_(\d)", r"feed_forward.w\1"),
        (r"\.norm1\.linear", ".adaLN_modulation.1"),
        (r"\.norm1\.(norm\.)?weight", ".attention_norm1.weight"),
        (r"\.norm2\.weight", ".attention_norm2.weight"),
    ),
    "sd3": (
        (r"^pos_embed\.pos_embed", "pos_embed"),
        (r"^pos_embed\.proj", "x_embedder.proj"),
        (r"^time_text_embed\.timestep_embedder\.linear_1", "t_embedder.mlp.0"),
        (r"^time_text_embed\.timestep_embedder\.linear_2", "t_embedder.mlp.2"),
        (r"^time_text_embed\.text_embedder\.linear_1", "y_embedder.mlp.0"),
        (r"^time_text_embed\.text_embedder\.linear_2", "y_embedder.mlp.2"),
        (r"^proj_out", "final_layer.linear"),
        (r"^norm_out\.linear", "final_layer.adaLN_modulation.1"),
        (rf"{CONTEXT}attn\.to_out\.0", r"joint_blocks.\1.x_block.attn.proj"),
        (rf"{CONTEXT}attn\.to_add_out", r"joint_blocks.\1.context_block.attn.proj"),
        (rf"{CONTEXT}norm1\.linear", r"joint_blocks.\1.x_block.adaLN_modulation.1"),
        (rf"{CONTEXT}norm1_context\.linear", r"joint_blocks.\1.context_block.adaLN_modulation.1"),
        (rf"{CONTEXT}ff\.net\.0\.proj", r"joint_blocks.\1.x_block.mlp.fc1"),
        (rf"{CONTEXT}ff\.net\.2", r"joint_blocks.\1.x_block.mlp.fc2"),
        (rf"{CONTEXT}ff_context\.net\.0\.proj", r"joint_blocks.\1.context_block.mlp.fc1"),
        (rf"{CONTEXT}ff_context\.net\.2", r"joint_blocks.\1.context_block.mlp.fc2"),
    ),
}
"""Family → what its other names become, those of joined layers apart."""


def original(kind: str, weights: Weights) -> Weights:
    """Returns a transformer's weights under its authors' names, layers that they have as one joined."""
    exported = table.family(kind).exported
    rest, made = dict(weights), Weights()
    for layer in (*exported.layers, *exported.read, *(SD3_LAYERS if kind == "sd3" else ())):
        first = re.compile(re.escape(layer.parts[0]).replace(r"\{\}", r"(\d+)") + r"\.(weight|bias)$")
        for name in weights:
            if match := first.match(name):
                *number, end = match.groups()
                parts = [rest.pop(f"{part.format(*number)}.{end}") for part in layer.parts]
                whole = torch.cat(parts)
                made[f"{layer.name.format(*number)}.{end}"] = _turned(whole) if layer.turned else whole
    blocks = max((int(match[1]) for match in (re.match(CONTEXT, name) for name in weights) if match), default=0)
    for name, tensor in rest.items():
        last_text = kind == "sd3" and name.startswith(f"transformer_blocks.{blocks}.norm1_context.")
        if last_text or (kind == "sd3" and name.startswith("norm_out.linear.")):
            tensor = _turned(tensor)
        for pattern, theirs in RENAMES[kind]:
            name, count = re.subn(pattern, theirs, name)
            if count:
                break
        made[name] = tensor
    return {name: tensor.contiguous() for name, tensor in made.items()}


def _turned(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat(tensor.chunk(2)[::-1])
