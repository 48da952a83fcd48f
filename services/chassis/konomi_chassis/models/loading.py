"""Stable Diffusion pipelines from checked folders and files, as every service loads them; nothing is ever fetched.

Of the chassis this file alone imports torch, diffusers and transformers; a service without them does not import it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.schedulers import KarrasDiffusionSchedulers
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from konomi.errors import FailedPrecondition
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.clip_vocabulary import END, clip_vocabulary
from konomi_chassis.models.diffusers_folder import read_json

PADS = {("sd1", 1): END, ("sd2", 1): "!", ("sdxl", 1): END, ("sdxl", 2): "!"}
"""Padding token of each tokenizer of each layout, as their authors trained them."""
SCHEDULERS = frozenset(kind.name for kind in KarrasDiffusionSchedulers) | {LCMScheduler.__name__}
"""Classes a model's scheduler may be of."""


def load_pipeline(model: BaseModel, configs: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Loads a base model into a StableDiffusion(XL)Pipeline, ready to run.

    Args:
        model: a model the catalogue has checked; nothing else is read, nothing is ever fetched.
        configs: folder with the configurations of single-file checkpoints, by layout.
        device: where it shall run.
        dtype: number format of the weights.

    Raises:
        FailedPrecondition: its weights do not fit its configuration (reason MODEL_BROKEN).
    """
    load = _from_folder if model.format == "diffusers" else _from_file
    try:
        with quiet():
            pipe = load(model, configs, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise FailedPrecondition(
            f'The base model "{model.id}" cannot be loaded: its weights do not fit its configuration '
            f"({type(error).__name__}). Download it again.",
            reason="MODEL_BROKEN",
        ) from error
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if model.layout == "sdxl" and dtype == torch.float16 and pipe.vae.config.get("force_upcast"):
        pipe.vae.to(dtype=torch.float32)  # SDXL's own VAE overflows in fp16
    return pipe.to(device)


def _from_folder(model: BaseModel, _configs: Path, dtype: torch.dtype) -> Any:
    folder = model.path
    index = read_json(folder / "model_index.json", f"The file model_index.json of {model.id}")
    tiny = read_json(folder / "vae" / "config.json", f"The vae of {model.id}").get("_class_name") == "AutoencoderTiny"
    parts: dict[str, Any] = {
        "unet": _weights(UNet2DConditionModel, folder / "unet", dtype),
        "vae": _weights(AutoencoderTiny if tiny else AutoencoderKL, folder / "vae", dtype),
        "text_encoder": _weights(CLIPTextModel, folder / "text_encoder", dtype),
        "tokenizer": CLIPTokenizer.from_pretrained(str(folder / "tokenizer"), local_files_only=True),
        "scheduler": _scheduler(folder / "scheduler"),
    }
    if model.layout != "sdxl":
        return _plain(parts)
    parts["text_encoder_2"] = _weights(CLIPTextModelWithProjection, folder / "text_encoder_2", dtype)
    parts["tokenizer_2"] = CLIPTokenizer.from_pretrained(str(folder / "tokenizer_2"), local_files_only=True)
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    return StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False)


def _from_file(model: BaseModel, configs: Path, dtype: torch.dtype) -> Any:
    config = configs / model.layout
    scheduler = _scheduler(config / "scheduler", prediction_type=model.prediction_type)
    parts: dict[str, Any] = {"scheduler": scheduler, "tokenizer": _tokenizer(model.layout, 1)}
    options = {"config": str(config), "torch_dtype": dtype, "local_files_only": True}
    if model.layout == "sdxl":
        parts["tokenizer_2"] = _tokenizer(model.layout, 2)
        return StableDiffusionXLPipeline.from_single_file(str(model.path), **parts, **options, add_watermarker=False)
    return StableDiffusionPipeline.from_single_file(
        str(model.path), **parts, **options, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def _plain(parts: dict[str, Any]) -> Any:
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    plain = [path for path in folder.glob("*.safetensors") if ".fp16." not in path.name and "non_ema" not in path.name]
    part, loading = kind.from_pretrained(
        str(folder),
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant=None if plain else "fp16",
        output_loading_info=True,
    )
    missing = [key for key in loading["missing_keys"] if not key.endswith("position_ids")]
    if missing or loading.get("mismatched_keys"):
        raise ValueError(f"{len(missing)} weights are missing in {folder.name}")
    return part


def _scheduler(folder: Path, **changes: Any) -> Any:
    config = read_json(folder / "scheduler_config.json", "The file scheduler_config.json")
    name = str(config.get("_class_name"))
    if name not in SCHEDULERS:
        raise FailedPrecondition(
            f"The model's scheduler is {name[:64]!r}; konomi runs {', '.join(sorted(SCHEDULERS))}.",
            reason="MODEL_LAYOUT",
        )
    return getattr(diffusers, name).from_config(config | changes)


def _tokenizer(layout: str, number: int) -> CLIPTokenizer:
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(
        vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=PADS[(layout, number)]
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and advice out of the log while a model loads."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    levels = [logger.level for logger in loggers]
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
