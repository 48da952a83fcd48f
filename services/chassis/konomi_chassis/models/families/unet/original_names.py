"""Names of weights in original checkpoints, CompVis', Stability's, CLIP's and OpenCLIP's, by diffusers' own names.

The original UNet numbers what diffusers nests: with n = layers_per_block + 1, resnet and attention j of down block i
are the parts 0 and 1 of input_blocks[n i + j + 1], those of up block i of output_blocks[n i + j].
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

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
OPEN_CLIP_NAMES = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
PLACE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)")


@dataclass(frozen=True)
class Original:
    """Where a weight stands in an original checkpoint.

    Attributes:
        name: of the tensor.
        part: which third of the tensor's rows it is; None for all of it.
        transposed: whether the tensor is the weight's transpose.
    """

    name: str
    part: int | None = None
    transposed: bool = False


def unet_name(name: str, layers_per_block: int, names: Mapping[str, object] | None = None) -> str:
    """Returns the original name of a weight or module of the UNet.

    Args:
        name: diffusers' name.
        layers_per_block: of the UNet.
        names: all its names, which say whether an up block has attention; only needed for upsamplers.
    """
    n = layers_per_block + 1
    for ours, theirs in STEMS.items():
        if name == ours or name.startswith(f"{ours}."):
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
        return f"input_blocks.{n * (block + 1)}.0.op{rest.removeprefix('conv')}"
    if kind == "upsamplers":
        attends = any(other.startswith(f"up_blocks.{block}.attentions.") for other in names or ())
        return f"output_blocks.{n * block + n - 1}.{2 if attends else 1}.{rest}"
    blocks, number = ("input_blocks", n * block + index + 1) if side == "down" else ("output_blocks", n * block + index)
    return f"{blocks}.{number}.1.{rest}" if kind == "attentions" else f"{blocks}.{number}.0.{_resnet(rest)}"


def _resnet(rest: str) -> str:
    head, dot, end = rest.partition(".")
    return f"{RESNET.get(head, head)}{dot}{end}"


def vae_name(name: str, blocks: int) -> str:
    """Returns the original name of a weight of the autoencoder.

    Args:
        name: diffusers' name.
        blocks: how many down, and up, blocks it has.
    """
    new = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
    new = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", new)
    new = re.sub(
        r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"decoder.up.{blocks - 1 - int(m[1])}.block.{m[2]}", new
    )
    new = re.sub(
        r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{blocks - 1 - int(m[1])}.upsample", new
    )
    new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
    new = new.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    if "mid_block.attentions.0" in new:
        new = new.replace("mid_block.attentions.0", "mid.attn_1")
        for ours, theirs in VAE_ATTENTION.items():
            new = new.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return new


def text_names(name: str, open_clip: bool) -> list[Original]:
    """Returns where a weight of a text encoder may stand, below the encoder's head, the usual place first.

    CLIP's encoders are published with and, in older checkpoints, without "text_model." before their names; OpenCLIP's
    keep queries, keys and values as one tensor, and their projection transposed or as a layer.

    Args:
        name: transformers' name.
        open_clip: whether the checkpoint holds OpenCLIP's encoder.
    """
    plain = name.removeprefix("text_model.")
    hugging_face = [Original(f"text_model.{plain}"), Original(plain)]
    if not open_clip:
        return hugging_face
    if plain == "text_projection.weight":
        return [Original("text_projection", transposed=True), *hugging_face]
    if match := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)", plain):
        whole = f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"
        return [Original(whole, "qkv".index(match[2])), *hugging_face]
    if match := re.match(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", plain):
        theirs = OPEN_CLIP.get(match[2], match[2])
        return [Original(f"transformer.resblocks.{match[1]}.{theirs}.{match[3]}"), *hugging_face]
    return [Original(OPEN_CLIP_NAMES.get(plain, plain)), *hugging_face]
