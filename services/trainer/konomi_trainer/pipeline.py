"""Base models through diffusers: encoders, UNet and noise schedule, loaded from a local folder and nothing else."""

import gc
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DiffusionPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.utils import convert_state_dict_to_kohya
from diffusers.utils import logging as diffusers_logging
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from konomi_trainer.cache import Tensors
from konomi_trainer.dataset import Batch

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Placement:
    """Where and how a base model runs: device, precision of the frozen weights, whether activations are made twice."""

    device: str
    precision: str
    gradient_checkpointing: bool


class Base:
    """One loaded base model.

    Attributes:
        space: names its latents and embeddings in the cache: digest of its weights and kind of device.
        resolution: side of the square images it was made for, pixels.
        prediction: "epsilon" or "v_prediction".
        alphas: (T,) float32 cumulative products of its noise schedule.
        unet: the network that is trained.
    """

    def __init__(self, pipe: DiffusionPipeline, digest: str, placement: Placement) -> None:
        """Takes a pipeline in float32; only the UNet is made smaller, so the cache fits every precision."""
        self._pipe, self._placement = pipe, placement
        self.space = f"{digest}:{torch.device(placement.device).type}"
        schedule = DDPMScheduler.from_config(pipe.scheduler.config)
        self.prediction = str(schedule.config.prediction_type)
        self.alphas = schedule.alphas_cumprod.float().to(placement.device)
        pipe.unet.to(dtype=PRECISIONS[placement.precision], memory_format=torch.channels_last)
        pipe.to(placement.device)
        self.unet = pipe.unet
        self.xl = isinstance(pipe, StableDiffusionXLPipeline)
        self.resolution = int(self.unet.config.sample_size) * int(pipe.vae_scale_factor)
        if placement.gradient_checkpointing:
            self.unet.train()
            self.unet.enable_gradient_checkpointing()

    @torch.no_grad()
    def encode_image(self, pixels: torch.Tensor) -> Tensors:
        """Returns the latent of a (3, S, S) image in -1..1 as the UNet expects it: "mean", and any "std"."""
        vae = self._pipe.vae
        encoded = vae.encode(pixels[None].to(self._placement.device))
        if isinstance(vae, AutoencoderTiny):
            return {"mean": encoded.latents[0].float().cpu() * vae.config.scaling_factor}
        mean, std = encoded.latent_dist.mean[0].float().cpu(), encoded.latent_dist.std[0].float().cpu()
        scale: torch.Tensor | float = vae.config.scaling_factor
        if (
            getattr(vae.config, "latents_mean", None) is not None
            and getattr(vae.config, "latents_std", None) is not None
        ):
            mean = mean - torch.tensor(vae.config.latents_mean).view(-1, 1, 1)
            scale = scale / torch.tensor(vae.config.latents_std).view(-1, 1, 1)
        return {"mean": mean * scale, "std": std * scale}

    @torch.no_grad()
    def encode_caption(self, caption: str) -> Tensors:
        """Returns the embedding of a caption exactly as the pipeline makes it: "hidden", and "pooled" for SDXL."""
        device = torch.device(self._placement.device)
        if not self.xl:
            hidden, _ = self._pipe.encode_prompt(caption, device, 1, False)
            return {"hidden": hidden[0].float().cpu()}
        hidden, _, pooled, _ = self._pipe.encode_prompt(caption, device=device, do_classifier_free_guidance=False)
        share = 0.0 if caption == "" and self._pipe.config.force_zeros_for_empty_prompt else 1.0
        return {"hidden": hidden[0].float().cpu() * share, "pooled": pooled[0].float().cpu() * share}

    def embed(self, captions: list[str]) -> Tensors:
        """Returns embeddings of captions, "hidden" (N, T, D) and for SDXL "pooled" (N, P), differentiable."""
        device = torch.device(self._placement.device)
        if not self.xl:
            return {"hidden": self._pipe.encode_prompt(captions, device, 1, False)[0]}
        hidden, _, pooled, _ = self._pipe.encode_prompt(captions, device=device, do_classifier_free_guidance=False)
        return {"hidden": hidden, "pooled": pooled}

    def text_towers(self) -> list[tuple[PreTrainedTokenizerBase, torch.nn.Module]]:
        """Returns tokenizer and text encoder of the base, two pairs for SDXL."""
        pairs = [(self._pipe.tokenizer, self._pipe.text_encoder)]
        return [*pairs, (self._pipe.tokenizer_2, self._pipe.text_encoder_2)] if self.xl else pairs

    def release_image_encoder(self) -> None:
        """Frees the autoencoder alone, for methods that go on encoding texts."""
        self._pipe.vae = None
        gc.collect()

    def release_encoders(self) -> None:
        """Frees the autoencoder and the text encoders once everything is cached."""
        for name in ("vae", "text_encoder", "text_encoder_2"):
            if getattr(self._pipe, name, None) is not None:
                setattr(self._pipe, name, None)
        gc.collect()
        if self._placement.device != "cpu":
            torch.cuda.empty_cache()

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Returns the UNet's (B, C, h, w) answer to noisy latents at (B,) timesteps."""
        device, dtype = self._placement.device, PRECISIONS[self._placement.precision]
        added = None
        if self.xl and batch.pooled is not None:
            added = {"text_embeds": batch.pooled.to(device, dtype), "time_ids": batch.sizes.to(device, dtype)}
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            hidden = batch.hidden.to(device, dtype)
            answer = self.unet(noisy.to(dtype), timesteps, hidden, added_cond_kwargs=added, return_dict=False)
        return answer[0]


def load(folder: Path, layout: str, digest: str, placement: Placement) -> Base:
    """Loads a base model from a diffusers folder; only safetensors are read and no hub is asked.

    Args:
        folder: the diffusers folder.
        layout: "sdxl", or anything else for Stable Diffusion 1.x and 2.x.
        digest: of its weights.
        placement: device and precision.
    """
    kind = StableDiffusionXLPipeline if layout == "sdxl" else StableDiffusionPipeline
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    options = {"use_safetensors": True, "local_files_only": True, "dtype": torch.float32}
    if layout != "sdxl":
        options |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return Base(kind.from_pretrained(folder, **options), digest, placement)


def kohya_keys(state: Tensors) -> Tensors:
    """Returns a peft LoRA of a UNet under kohya's names; each `.alpha` is the rank, for the caller to correct."""
    return convert_state_dict_to_kohya(dict(state))
