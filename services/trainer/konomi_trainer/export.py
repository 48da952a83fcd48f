"""Models in the formats of other tools: as stored for peft and diffusers, kohya's for A1111, Forge and ComfyUI."""

import json
from collections.abc import Callable
from typing import Any, Protocol

import torch

from konomi.errors import Unimplemented
from konomi_trainer.cache import Tensors
from konomi_trainer.models import Model
from konomi_trainer.tensors import pack, unpack

KOHYA_MEDIA_TYPE = "application/vnd.konomi.kohya+safetensors"
BASES = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
ARCHITECTURES = {
    "sd1": "stable-diffusion-v1/lora", "sd2": "stable-diffusion-v2/lora", "sdxl": "stable-diffusion-xl-v1-base/lora",
}  # fmt: skip


class Store(Protocol):
    """The artifact store."""

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified."""

    def put(self, data: bytes, media_type: str) -> Any:
        """Stores bytes; returns digest, media type and size."""

    def stat(self, digest: str) -> Any:
        """Returns digest, media type and size."""


class Exporter:
    """Writes models for other tools; the same model gives the same bytes."""

    def __init__(
        self, store: Store, kohya_keys: Callable[[Tensors], Tensors], describe: Callable[[str], dict[str, str]]
    ) -> None:
        """Joins the parts.

        Args:
            store: where adapters are and exports go.
            kohya_keys: gives peft weights kohya's names, with `.alpha` equal to the rank.
            describe: id of a base model → {"layout", "prediction", "resolution"}.
        """
        self._store, self._kohya_keys, self._describe = store, kohya_keys, describe

    def export(self, model: Model, form: str) -> Any:
        """Returns the artifact of a model as "peft", "diffusers" or "kohya".

        Raises:
            Unimplemented: any other format.
        """
        if form in ("peft", "diffusers"):
            return self._store.stat(model.adapter_digest)
        if form != "kohya":
            raise Unimplemented(
                f"Export as {form} is not served yet; expected peft, diffusers or kohya: merge in the other tool.",
                reason="EXPORT_NOT_SERVED",
            )
        weights, header = unpack(self._store.get(model.adapter_digest))
        adapter = json.loads(header["lora_adapter_metadata"])
        rank, alpha = int(adapter["unet.r"]), float(adapter["unet.lora_alpha"])
        named = {
            name: torch.tensor(alpha) if name.endswith(".alpha") else tensor.half()
            for name, tensor in self._kohya_keys(weights).items()
        }
        metadata = kohya_metadata(model, self._describe(model.base_model), rank, alpha)
        return self._store.put(pack(named, metadata), KOHYA_MEDIA_TYPE)


def kohya_metadata(model: Model, base: dict[str, str], rank: int, alpha: float) -> dict[str, str]:
    """Returns the `ss_*` and `modelspec.*` header of a kohya LoRA; every value is text.

    Args:
        model: the model.
        base: layout, prediction type and resolution of its base.
        rank: r.
        alpha: of the adapter.
    """
    layout, side, v = base["layout"], base["resolution"], base["prediction"] == "v_prediction"
    return {
        "ss_v2": str(layout == "sd2"),
        "ss_base_model_version": BASES[layout] + ("_v" if layout == "sd2" and v else ""),
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_network_args": "{}",
        "ss_sd_model_name": model.base_model,
        "ss_sd_model_hash": model.base_digest[:16],
        "ss_resolution": f"({side}, {side})",
        "ss_clip_skip": "None",
        "ss_num_train_images": f"{model.metrics.get('images', 0):g}",
        "ss_output_name": model.display_name,
        "ss_seed": str(model.seed),
        "ss_steps": f"{model.metrics.get('steps', 0):g}",
        "ss_training_comment": f"konomi {model.id}",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": ARCHITECTURES[layout],
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": model.display_name or model.id,
        "modelspec.resolution": f"{side}x{side}",
        "modelspec.prediction_type": "v" if v else "epsilon",
    }
