"""LoRA files as kohya's sd-scripts write them, for A1111, Forge and ComfyUI: names of tensors and header.

Modules are `lora_unet_…`, `lora_te_…` (Stable Diffusion 1.x, 2.x), `lora_te1_…` and `lora_te2_…` (XL), dots being
underscores; XL's UNet goes by its original block numbers. The other kinds bear LyCORIS' names. What of a transformer is
trained goes by the names ComfyUI has for it; see `comfyui`.
"""

import base64
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.table import family
from konomi_chassis.models.families.unet.original_names import unet_name
from konomi_trainer.base_models.pipeline import BaseInfo
from konomi_trainer.configuration import PLAIN
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.conditions import CHUNK_TOKENS, MOST_CHUNKS
from konomi_trainer.export import comfyui
from konomi_trainer.methods.base import KohyaModule
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.storage.models import ModelRow

MEDIA_TYPE = "application/vnd.konomi.kohya+safetensors"
ENDS = {
    ".lora_A.weight": ".lora_down.weight",
    ".lora_B.weight": ".lora_up.weight",
    ".lora_magnitude_vector.weight": ".dora_scale",
    ".lora_magnitude_vector": ".dora_scale",
}
THUMBNAIL = 256


def rename(weights: Tensors, layout: str, layers_per_block: int, rank: int = 0) -> Tensors:
    """Returns peft's weights under kohya's names, float16, each module with its `.alpha`, which is its rank.

    The lengths of a DoRA's rows stay float32.

    Args:
        weights: part, dot and peft's name → weight.
        layout: of the base model.
        layers_per_block: of the UNet.
        rank: of kinds whose weights do not show it.

    Raises:
        FailedPrecondition: kohya's names of such a base's layers are not known (reason EXPORT_FORMAT).
    """
    kind = family(layout)
    if kind.single_file is None and not kind.exported.head:
        raise FailedPrecondition(
            f"expected a base model whose LoRA other programs know by this format; this one is {layout}, whose "
            "layers it would call by names other programs do not know: export for diffusers instead",
            reason="EXPORT_FORMAT",
        )
    renamed: Tensors = {}
    if kind.exported.head:
        head = f"{kind.network}."
        own = {name.removeprefix(head): tensor for name, tensor in weights.items() if name.startswith(head)}
        renamed = comfyui.layers(own, kind.exported)
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(head)}
    for name, tensor in weights.items():
        part, _, path = name.partition(".")
        module, end = _cut(path)
        kohya = f"{_head(part, layout)}_{_path(part, module, layout, layers_per_block).replace('.', '_')}"
        scale = end == ".dora_scale"
        # a row's length multiplies the base's own weights, which half precision would round
        renamed[kohya + end] = tensor.reshape(-1, 1).float() if scale else tensor.half()
        if end == ".lora_down.weight":
            renamed[f"{kohya}.alpha"] = torch.tensor(float(tensor.shape[0]))
        elif rank and not scale:
            renamed[f"{kohya}.alpha"] = torch.tensor(float(rank))
    return renamed


def header(model: ModelRow, base: BaseInfo, rank: int, captions: Sequence[str], author: str = "") -> dict[str, str]:
    """Returns the `ss_*` and `modelspec.*` header of a file; every value is text.

    Args:
        model: the model.
        base: what it was trained on.
        rank: r, which is alpha too.
        captions: of the images it learned from.
        author: who made it; "" leaves it out.
    """
    names, side, v = family(base.layout).exported, base.resolution, base.prediction == "v_prediction"
    module = KohyaModule() if names.head else METHODS[model.method].kohya  # there every kind is the LoRA that equals it
    words = Counter(word.strip() for caption in captions for word in caption.split(",") if word.strip())
    fields = {
        "ss_v2": str(names.second),
        "ss_base_model_version": names.base + ("_v" if names.second and v else ""),
        "ss_network_module": module.name,
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{rank:g}",
        "ss_network_args": module.arguments,
        "ss_sd_model_name": model.base_model,
        "ss_sd_model_hash": model.base_digest[:16],
        "ss_resolution": f"({side}, {side})",
        "ss_clip_skip": "None",
        "ss_num_train_images": f"{model.metrics.get('images', 0):g}",
        "ss_tag_frequency": json.dumps({"konomi": dict(words.most_common(1000))}, ensure_ascii=False),
        "ss_output_name": model.display_name,
        "ss_seed": str(model.seed),
        "ss_steps": f"{model.metrics.get('steps', 0):g}",
        "ss_training_comment": f"konomi {model.id}",
    }
    if base.zero_terminal_snr:
        fields["ss_zero_terminal_snr"] = "True"
    fields |= _reading(json.loads(model.configuration)) | _card(model, base)
    return fields | ({"modelspec.author": author} if author else {})


def _card(model: ModelRow, base: BaseInfo) -> dict[str, str]:
    """Returns the `modelspec.*` half of the header; what follows a flow predicts neither v nor epsilon."""
    predicted = {"v_prediction": "v", "epsilon": "epsilon"}.get(base.prediction)
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture(base)}/lora",
        "modelspec.implementation": family(base.layout).exported.implementation,
        "modelspec.title": model.display_name or model.id,
        "modelspec.resolution": f"{base.resolution}x{base.resolution}",
        **({"modelspec.prediction_type": predicted} if predicted else {}),
    }


def _reading(configuration: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the header says of how captions were read, where it was not as by default."""
    fields = {}
    if (skip := configuration.get("clip_skip", 1)) > 1:
        fields["ss_clip_skip"] = str(skip)
    if configuration.get("prompt_syntax", PLAIN) != PLAIN:
        fields["ss_max_token_length"] = str(MOST_CHUNKS * CHUNK_TOKENS)
    return fields


def hashes(data: bytes) -> dict[str, str]:
    """Returns the header's hashes of a safetensors file: sha256 of the tensors' bytes, which no header changes."""
    digest = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little") :]).hexdigest()
    return {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}


def thumbnail(pixels: np.ndarray) -> str:
    """Returns an image, its middle square 256 pixels wide, as a data URL.

    Args:
        pixels: (H, W, 3) uint8.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    image = Image.fromarray(pixels[top : top + side, left : left + side]).resize(
        (THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS
    )
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _cut(path: str) -> tuple[str, str]:
    for ours, theirs in ENDS.items():
        if path.endswith(ours):
            return path.removesuffix(ours), theirs
    module, _, end = path.rpartition(".")
    return module, f".{end}"


def _head(part: str, layout: str) -> str:
    kind = family(layout)
    return "lora_unet" if part == kind.network else kind.exported.texts[part]


def _path(part: str, module: str, layout: str, layers_per_block: int) -> str:
    kind = family(layout)
    if part != kind.network:
        return f"text_model.{module.removeprefix('text_model.')}"
    return unet_name(module, layers_per_block) if kind.exported.original_blocks else module


def architecture(base: BaseInfo) -> str:
    """Returns what modelspec calls whole checkpoints of a base model's family."""
    return family(base.layout).exported.architecture
