"""Stable Diffusion 1.x, and the starter, which has its layout: one CLIP text encoder, images of 512 pixels."""

from konomi_chassis.models.families.family import (
    ActivationBytes,
    CompanionNames,
    Defaults,
    ExportNames,
    SingleFileNames,
)
from konomi_chassis.models.families.unet.stable_diffusion import PADS, UNET, VAE, StableDiffusion

TEXT = "cond_stage_model.transformer."
"""What stands before the names of CLIP's encoder in a single file."""

SD1 = StableDiffusion(
    name="sd1",
    mark=TEXT,
    single_file=SingleFileNames(
        heads={"unet": UNET, "vae": VAE, "text_encoder": TEXT},
        counted={"unet": UNET, "vae": VAE, "text_encoder": "cond_stage_model."},
        pads={"tokenizer": PADS["end"]},
    ),
    exported=ExportNames(
        base="sd_v1",
        architecture="stable-diffusion-v1",
        pipeline="stable-diffusion",
        texts={"text_encoder": "lora_te"},
    ),
    beside=CompanionNames(
        few_step=("lcm-lora-sdv1-5.safetensors",),
        ip_adapter=("ip-adapter_sd15.safetensors", "ip-adapter-plus_sd15.safetensors"),
        fetched="sd15",
        tiny_vae="sd",
    ),
    defaults=Defaults(
        side=512,
        aligned_steps="StableDiffusionSigmas",
        activations=ActivationBytes(
            drawing=261,
            decoding=3073,
            encoding=2573,
            training=4430,
            checkpointed=1035,
        ),
    ),
)
"""The family; whatever has no mark of another is one of it."""
