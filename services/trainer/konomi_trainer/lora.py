"""Low-rank adaptation (Hu et al. 2021, W + (alpha / r) B A) of a UNet's attention, by peft."""

import json
import math
from collections.abc import Mapping

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model

from konomi_trainer import dataset
from konomi_trainer.cache import Tensors
from konomi_trainer.configuration import Configuration
from konomi_trainer.denoising import DenoisingLoss
from konomi_trainer.method import Base, Learning, Source
from konomi_trainer.tensors import pack

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
MEDIA_TYPE = "application/vnd.konomi.adapter+safetensors"
ADAPTER = "default"


def prepare(base: Base, source: Source, configuration: Configuration) -> Learning:
    """Encodes the set, frees the encoders and puts the adapter on the UNet; see method.py."""
    data = dataset.build(source.items, source.pixels, base, source.cache, source.tick)
    base.release_encoders()
    weights = attach(base.unet, configuration.rank, configuration.seed)

    def save(trained: Tensors, record: Mapping[str, str]) -> bytes:
        return to_bytes(base.unet, trained, configuration.rank, record)

    loss = DenoisingLoss(base, data, configuration)
    return Learning(weights, loss, save, MEDIA_TYPE, {"images": float(len(data.caption))})


def attach(unet: torch.nn.Module, rank: int, seed: int) -> dict[str, torch.nn.Parameter]:
    """Freezes the UNet, adds an adapter with alpha = rank to its attention and returns what is trained.

    A is drawn from `seed` in the order of names (Kaiming uniform, as peft does), B starts at zero, so the
    adapter changes nothing until it has learned.

    Args:
        unet: the base model's UNet; changed in place.
        rank: r.
        seed: of A.

    Returns:
        The adapter's weights by their name in the UNet, float32.
    """
    unet.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, init_lora_weights=False, target_modules=list(TARGETS))
    inject_adapter_in_model(config, unet, adapter_name=ADAPTER)
    generator = torch.Generator().manual_seed(seed & (2**63 - 1))
    weights = {name: weight for name, weight in unet.named_parameters() if "lora_" in name}
    for name, weight in sorted(weights.items()):
        bound = 1 / math.sqrt(weight[0].numel())
        start = torch.rand(weight.shape, generator=generator) * 2 * bound - bound
        weight.data = (torch.zeros_like(start) if "lora_B" in name else start).to(weight.device)
        weight.requires_grad_(True)
    return dict(sorted(weights.items()))


def to_bytes(unet: torch.nn.Module, weights: Mapping[str, torch.Tensor], rank: int, record: Mapping[str, str]) -> bytes:
    """Returns the adapter as diffusers writes `pytorch_lora_weights.safetensors`.

    Args:
        unet: the UNet with the adapter attached.
        weights: the trained weights by their name in the UNet.
        rank: r.
        record: where the adapter comes from; it becomes the header entry "konomi".
    """
    state = get_peft_model_state_dict(unet, state_dict=dict(weights), adapter_name=ADAPTER)
    metadata = {
        "unet.lora_alpha": rank, "unet.r": rank, "unet.target_modules": sorted(TARGETS), "unet.peft_type": "LORA",
        "unet.lora_dropout": 0.0, "unet.bias": "none", "unet.use_dora": False, "unet.use_rslora": False,
    }  # fmt: skip
    header = {
        "lora_adapter_metadata": json.dumps(metadata, sort_keys=True),
        "konomi": json.dumps(dict(record), sort_keys=True),
    }
    return pack({f"unet.{name}": tensor.float() for name, tensor in state.items()}, header)
