"""Diffusers pipelines written as original single-file checkpoints: the key names of CompVis, Stability and OpenCLIP."""

import re

import torch

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
UNET_STEMS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}

Weights = dict[str, torch.Tensor]


def checkpoint(pipe) -> Weights:
    """Returns the tensors of an original checkpoint."""
    tensors = {f"model.diffusion_model.{k}": v for k, v in unet(pipe.unet).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in vae(pipe.vae).items()}
    if hasattr(pipe, "text_encoder_2"):
        tensors |= {f"conditioner.embedders.0.transformer.{k}": v for k, v in clip(pipe.text_encoder).items()}
        tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in open_clip(pipe.text_encoder_2).items()}
    elif pipe.text_encoder.config.hidden_act == "gelu":
        tensors |= {f"cond_stage_model.model.{k}": v for k, v in open_clip(pipe.text_encoder).items()}
    else:
        tensors |= {f"cond_stage_model.transformer.{k}": v for k, v in clip(pipe.text_encoder).items()}
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def unet(model) -> Weights:
    """Returns a UNet's tensors under CompVis names."""
    n = model.config.layers_per_block + 1
    result = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in UNET_STEMS.items():
            if name.startswith(ours + "."):
                name = name.replace(ours, theirs, 1)
        if match := re.match(r"down_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", name):
            i, kind, j, rest = int(match[1]), match[2], int(match[3]), match[4]
            name = f"input_blocks.{n * i + j + 1}.{int(kind == 'attentions')}.{_resnet(kind, rest)}"
        elif match := re.match(r"down_blocks\.(\d+)\.downsamplers\.0\.conv\.(.*)", name):
            name = f"input_blocks.{n * (int(match[1]) + 1)}.0.op.{match[2]}"
        elif match := re.match(r"up_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.*)", name):
            i, kind, j, rest = int(match[1]), match[2], int(match[3]), match[4]
            name = f"output_blocks.{n * i + j}.{int(kind == 'attentions')}.{_resnet(kind, rest)}"
        elif match := re.match(r"up_blocks\.(\d+)\.upsamplers\.0\.(.*)", name):
            i = int(match[1])
            has_attention = hasattr(model.up_blocks[i], "attentions")
            name = f"output_blocks.{n * i + n - 1}.{2 if has_attention else 1}.{match[2]}"
        elif match := re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.*)", name):
            place = 1 if match[1] == "attentions" else 2 * int(match[2])
            name = f"middle_block.{place}.{_resnet(match[1], match[3])}"
        result[name] = tensor
    return result


def vae(model) -> Weights:
    """Returns a KL autoencoder's tensors under CompVis names."""
    last = len(model.config.block_out_channels) - 1
    result = {}
    for name, tensor in model.state_dict().items():
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.down.\1.block.\2", name)
        name = re.sub(r"encoder\.down_blocks\.(\d+)\.downsamplers\.0", r"encoder.down.\1.downsample", name)
        name = re.sub(
            r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"decoder.up.{last - int(m[1])}.block.{m[2]}", name
        )
        name = re.sub(
            r"decoder\.up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"decoder.up.{last - int(m[1])}.upsample", name
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions.0" in name:
            name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
            name = name.replace("to_out.0", "proj_out")
            name = re.sub(r"to_([qkv])", r"\1", name)
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        result[name] = tensor
    return result


def clip(model) -> Weights:
    """Returns a CLIP text tower's tensors under OpenAI-in-transformers names."""
    return {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in model.state_dict().items()}


def open_clip(model) -> Weights:
    """Returns a CLIP text tower's tensors under OpenCLIP names."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    result = {
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
    }
    width = len(result["ln_final.bias"])
    projection = state.get("text_projection.weight", torch.eye(width))
    result["text_projection"] = projection.T
    for layer in range(model.config.num_hidden_layers):
        ours, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{ours}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            result[f"{theirs}attn.in_proj_{kind}"] = torch.cat(parts)
            for name, other in OPEN_CLIP.items():
                result[f"{theirs}{other}.{kind}"] = state[f"{ours}{name}.{kind}"]
    return result


def _resnet(kind: str, rest: str) -> str:
    part, _, tail = rest.partition(".")
    return f"{RESNET.get(part, part)}.{tail}" if kind == "resnets" else rest
