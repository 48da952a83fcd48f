"""Stable Diffusion XL: two text encoders, a pooled vector and sizes beside them, images of 1024 pixels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from konomi_chassis.models.families.family import (
    LORA_TARGETS,
    TEXT_TARGETS,
    ActivationBytes,
    CompanionNames,
    Defaults,
    ExportNames,
    FoundFolder,
    PartLoader,
    SingleFileNames,
)
from konomi_chassis.models.families.unet.stable_diffusion import (
    COMPONENTS,
    PADS,
    TOKENIZERS,
    UNET,
    VAE,
    StableDiffusion,
)
from konomi_chassis.models.safetensors_check import unsupported

FIRST, SECOND = "conditioner.embedders.0.", "conditioner.embedders.1."
"""What stands before the names of CLIP's and OpenCLIP's encoders in a single file."""


@dataclass(frozen=True)
class StableDiffusionXL(StableDiffusion):
    """What of XL is not as in the others."""

    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        **COMPONENTS,
        "text_encoder_2": frozenset({("transformers", "CLIPTextModelWithProjection")}),
        "tokenizer_2": TOKENIZERS,
    }
    weighted: ClassVar[tuple[str, ...]] = (*StableDiffusion.weighted, "text_encoder_2")
    words: ClassVar[Mapping[str, str]] = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "unet": LORA_TARGETS,
        "text_encoder": TEXT_TARGETS,
        "text_encoder_2": TEXT_TARGETS,
    }

    def _has_network(self, unet: Mapping[str, Any]) -> bool:
        return unet.get("addition_embed_type") == "text_time"

    def _check_folder(self, found: FoundFolder) -> None:
        super()._check_folder(found)
        for part, why in (
            ("text_encoder", "it has no first text encoder (a refiner)"),
            ("text_encoder_2", "it has no second text encoder"),
        ):
            if not (found.index.get(part) or [None])[0]:
                unsupported(found.id, why)

    def load(self, parts: PartLoader) -> Any:
        """Returns the StableDiffusionXLPipeline; what its index says of the empty prompt is kept."""
        loaded = self._parts(parts)
        loaded["text_encoder_2"] = parts.text_encoder("text_encoder_2", "CLIPTextModelWithProjection")
        loaded["tokenizer_2"] = parts.tokenizer("tokenizer_2", "CLIPTokenizer")
        zeros = bool(parts.index().get("force_zeros_for_empty_prompt", True))
        return parts.pipeline(self.loaded_as, **loaded, force_zeros_for_empty_prompt=zeros, add_watermarker=False)

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns both."""
        return [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]

    def clip_skip(self, asked: int) -> int:
        """Returns 1: XL reads its last layer but one whatever was asked for."""
        return 1

    def drops_by_zeros(self, pipe: Any) -> bool:
        """Says whether the base was trained so."""
        return bool(pipe.config.force_zeros_for_empty_prompt)


SDXL = StableDiffusionXL(
    name="sdxl",
    mark=f"{SECOND}model.",
    loaded_as="StableDiffusionXLPipeline",
    single_file=SingleFileNames(
        heads={
            "unet": UNET,
            "vae": VAE,
            "text_encoder": f"{FIRST}transformer.",
            "text_encoder_2": f"{SECOND}model.",
        },
        counted={"unet": UNET, "vae": VAE, "text_encoder": FIRST, "text_encoder_2": SECOND},
        open_clip=frozenset({"text_encoder_2"}),
        pads={"tokenizer": PADS["end"], "tokenizer_2": PADS["mark"]},
    ),
    exported=ExportNames(
        base="sdxl_base_v1-0",
        architecture="stable-diffusion-xl-v1-base",
        pipeline="stable-diffusion-xl",
        texts={"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
        original_blocks=True,
    ),
    beside=CompanionNames(
        few_step=("lcm-lora-sdxl.safetensors",),
        ip_adapter=("ip-adapter_sdxl_vit-h.safetensors", "ip-adapter-plus_sdxl_vit-h.safetensors"),
        fetched="sdxl",
        tiny_vae="sdxl",
    ),
    defaults=Defaults(
        side=1024,
        large=True,
        aligned_steps="StableDiffusionXLSigmas",
        activations=ActivationBytes(drawing=158, decoding=3073, encoding=2573, training=7515, checkpointed=602),
    ),
    fragile_autoencoder=True,
)
"""The family."""
