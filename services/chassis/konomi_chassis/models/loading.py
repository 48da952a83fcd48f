"""Stable Diffusion pipelines from checked folders and files, as every service loads them; nothing is ever fetched.

Of the chassis this file alone imports diffusers and transformers, and with `prompt_encoder` alone torch; a service
without them imports neither.
"""

import inspect
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
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.schedulers import KarrasDiffusionSchedulers
from safetensors import safe_open
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.memory_shortage import is_broken_device, is_shortage
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.clip_vocabulary import END, clip_vocabulary
from konomi_chassis.models.diffusers_folder import read_json, weight_files
from konomi_chassis.models.original_names import HEADS, OPEN_CLIP_PARTS
from konomi_chassis.models.original_tensors import OriginalTensors

PADS = {("sd1", 1): END, ("sd2", 1): "!", ("sdxl", 1): END, ("sdxl", 2): "!"}
"""Padding token of each tokenizer of each layout, as their authors trained them."""
SCHEDULERS = frozenset(kind.name for kind in KarrasDiffusionSchedulers) | {LCMScheduler.__name__}
"""Classes a model's scheduler may be of."""


def load_pipeline(
    model: BaseModel, configs: Path, device: torch.device, dtype: torch.dtype, unet_dtype: torch.dtype | None = None
) -> Any:
    """Loads a base model into a StableDiffusion(XL)Pipeline, ready to run.

    Args:
        model: a model the catalogue has checked; nothing else is read, nothing is ever fetched.
        configs: folder with the configurations of single-file checkpoints, by layout.
        device: where it shall run.
        dtype: number format of the weights.
        unet_dtype: of the UNet's, where it is another; no wider copy of it is ever made.

    Raises:
        FailedPrecondition: its weights do not fit its configuration (reason MODEL_BROKEN).
        RuntimeError, MemoryError: memory ran out, or the device is broken (see memory_shortage); nothing is left of it.
    """
    load = _from_folder if model.format == "diffusers" else _from_file
    try:
        with quiet():
            pipe = load(model, configs, dtype, unet_dtype or dtype)
            return _placed(pipe, model, device, dtype)
    except KonomiError:
        raise
    except Exception as error:
        if is_shortage(error) or is_broken_device(error):
            raise
        raise _broken(model.id, f"its weights do not fit its configuration ({type(error).__name__})") from error


def _placed(pipe: Any, model: BaseModel, device: torch.device, dtype: torch.dtype) -> Any:
    """Returns the pipeline on its device, frozen."""
    for part in (pipe.unet, pipe.vae):
        part.to(memory_format=torch.channels_last)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if model.layout == "sdxl" and dtype == torch.float16 and pipe.vae.config.get("force_upcast"):
        pipe.vae.to(dtype=torch.float32)  # SDXL's own VAE overflows in fp16
    return pipe.to(device)


def _from_folder(model: BaseModel, _configs: Path, dtype: torch.dtype, unet_dtype: torch.dtype) -> Any:
    folder = model.path
    index = read_json(folder / "model_index.json", f"The file model_index.json of {model.id}")
    tiny = read_json(folder / "vae" / "config.json", f"The vae of {model.id}").get("_class_name") == "AutoencoderTiny"
    parts: dict[str, Any] = {
        "unet": _weights(UNet2DConditionModel, folder / "unet", unet_dtype),
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


def _from_file(model: BaseModel, configs: Path, dtype: torch.dtype, unet_dtype: torch.dtype) -> Any:
    config = configs / model.layout
    heads = HEADS[model.layout]
    with safe_open(model.path, "pt") as file:
        tensors = OriginalTensors(model.id, file, dtype)
        parts: dict[str, Any] = {
            "unet": OriginalTensors(model.id, file, unet_dtype).unet(
                _empty_network(UNet2DConditionModel, config / "unet"), heads["unet"]
            ),
            "vae": tensors.vae(_empty_network(AutoencoderKL, config / "vae"), heads["vae"]),
        }
        for part, kind in (("text_encoder", CLIPTextModel), ("text_encoder_2", CLIPTextModelWithProjection)):
            if part in heads:
                empty = _empty_encoder(kind, config / part)
                parts[part] = tensors.text_encoder(empty, heads[part], (model.layout, part) in OPEN_CLIP_PARTS)
    parts |= {
        "tokenizer": _tokenizer(model.layout, 1),
        "scheduler": _scheduler(config / "scheduler", **model.schedule.configuration()),
    }
    if model.layout != "sdxl":
        return _plain(parts)
    parts["tokenizer_2"] = _tokenizer(model.layout, 2)
    index = read_json(config / "model_index.json", "The bundled model_index.json")
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    return StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=zeros, add_watermarker=False)


def _empty_network(kind: Any, folder: Path) -> Any:
    """Returns a network as its configuration describes it, without memory for its weights."""
    with torch.device("meta"):
        return kind.from_config(kind.load_config(str(folder), local_files_only=True))


def _empty_encoder(kind: Any, folder: Path) -> Any:
    config = CLIPTextConfig.from_pretrained(str(folder), local_files_only=True)
    with torch.device("meta"):
        encoder = kind(config)
    for module in encoder.modules():
        if "position_ids" in module._buffers:  # the one buffer, which no file need hold
            module.position_ids = torch.arange(config.max_position_embeddings).expand((1, -1))
    return encoder


def _plain(parts: dict[str, Any]) -> Any:
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def _weights(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    files = weight_files(folder)  # of a base model's parts; of any other folder none
    half = bool(files) and all(".fp16" in path.name for path in files)
    part, loading = kind.from_pretrained(
        str(folder),
        torch_dtype=dtype,
        use_safetensors=True,
        local_files_only=True,
        variant="fp16" if half else None,
        output_loading_info=True,
    )
    missing = [key for key in loading["missing_keys"] if not key.endswith("position_ids")]
    if missing or loading.get("mismatched_keys"):
        raise ValueError(f"{len(missing)} weights are missing in {folder.name}")
    return part


def load_image_encoder(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Returns the image encoder of an IP-Adapter and what makes pixels ready for it, as diffusers' own loader does.

    Args:
        folder: with config.json and model.safetensors, checked.
        dtype: number format of the weights.

    Raises:
        FailedPrecondition: its weights do not fit its configuration (reason MODEL_BROKEN).
        RuntimeError, MemoryError: memory ran out.
    """
    try:
        encoder = _weights(CLIPVisionModelWithProjection, folder, dtype).eval().requires_grad_(False)
        side = encoder.config.image_size
        return encoder, CLIPImageProcessor(size=side, crop_size=side)
    except Exception as error:
        if is_shortage(error) or is_broken_device(error):
            raise
        raise FailedPrecondition(
            f"The image encoder {folder.name} cannot be loaded: its weights do not fit its configuration "
            f"({type(error).__name__}). Fetch it again.",
            reason="MODEL_BROKEN",
        ) from error


def _scheduler(folder: Path, **changes: Any) -> Any:
    config = read_json(folder / "scheduler_config.json", "The file scheduler_config.json")
    config |= changes
    name = str(config.get("_class_name"))
    if name not in SCHEDULERS:
        raise FailedPrecondition(
            f"The model's scheduler is {name[:64]!r}; konomi runs {', '.join(sorted(SCHEDULERS))}.",
            reason="MODEL_LAYOUT",
        )
    kind = getattr(diffusers, name)
    if config.get("rescale_betas_zero_snr") and not knows_zero_snr(kind):
        kind = EulerDiscreteScheduler
    return kind.from_config(config)


def knows_zero_snr(kind: Any) -> bool:
    """Says whether a class of schedulers can begin where nothing but noise is left."""
    return "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters


def _tokenizer(layout: str, number: int) -> CLIPTokenizer:
    vocabulary, merges = clip_vocabulary()
    return CLIPTokenizer(
        vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=PADS[(layout, number)]
    )


def _broken(id: str, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f'The base model "{id}" cannot be loaded: {why}. Download it again.', reason="MODEL_BROKEN"
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
