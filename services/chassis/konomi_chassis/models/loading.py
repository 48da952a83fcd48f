"""Pipelines from checked folders and files, as every service loads them; nothing is ever fetched.

What parts a pipeline has, its family says. Of the chassis this file alone imports diffusers and transformers, and
torch only with it `prompt_encoder` and what of `families` computes; a service without them imports none.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler
from diffusers.schedulers import KarrasDiffusionSchedulers
from safetensors import safe_open
from transformers import CLIPImageProcessor, CLIPTextConfig, CLIPTokenizer, CLIPVisionModelWithProjection

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.memory_shortage import is_broken_device, is_shortage
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.clip_vocabulary import clip_vocabulary
from konomi_chassis.models.diffusers_folder import read_json, weight_files
from konomi_chassis.models.families.family import Family, FoundFile, Noise, PartLoader, SingleFileNames
from konomi_chassis.models.families.table import family
from konomi_chassis.models.original_tensors import OriginalTensors
from konomi_chassis.models.safetensors_check import check_file
from konomi_chassis.models.single_file import UNUSED, autoencoder_head

SCHEDULERS: Mapping[Noise, frozenset[str]] = {
    "diffusion": frozenset(kind.name for kind in KarrasDiffusionSchedulers) | {LCMScheduler.__name__},
    "flow": frozenset({FlowMatchEulerDiscreteScheduler.__name__}),
}
"""Classes a model's scheduler may be of, by how its noise grows."""


@dataclass(frozen=True)
class Dtypes:
    """Number formats of a model's weights.

    Attributes:
        others: of the autoencoder, and what else there is.
        network: of what denoises; no wider copy of it is ever made.
        texts: of the text encoders.
    """

    others: torch.dtype
    network: torch.dtype
    texts: torch.dtype


def load_pipeline(model: BaseModel, configs: Path, device: torch.device, dtype: torch.dtype | Dtypes) -> Any:
    """Loads a base model into its family's pipeline, ready to run.

    Args:
        model: a model the catalogue has checked; nothing else is read, nothing is ever fetched.
        configs: folder with the configurations of single-file checkpoints, by layout.
        device: where it shall run.
        dtype: number format of the weights, one or by part.

    Raises:
        FailedPrecondition: its weights do not fit its configuration (reason MODEL_BROKEN).
        RuntimeError, MemoryError: memory ran out, or the device is broken (see memory_shortage); nothing is left of it.
    """
    kind = family(model.layout)
    dtypes = dtype if isinstance(dtype, Dtypes) else Dtypes(dtype, dtype, dtype)
    try:
        with quiet(), ExitStack() as stack:
            numbers = _Numbers(kind.noise, dtypes)
            parts: PartLoader
            if model.format == "diffusers":
                parts = _FolderParts(model.id, model.path, numbers)
            elif model.lender is not None:
                file = stack.enter_context(safe_open(model.path, "pt"))
                found = FoundFile(model.id, model.path, check_file(model.path))
                parts = _LentParts(model.id, model.lender, numbers, found, file)
            else:
                file, names = stack.enter_context(safe_open(model.path, "pt")), kind.single_file
                assert names is not None, "such a family has no single files"
                parts = _FileParts(model, configs / model.layout, names, file, numbers)
            return _placed(kind.load(parts), kind, device, dtypes.others)
    except KonomiError:
        raise
    except Exception as error:
        if is_shortage(error) or is_broken_device(error):
            raise
        raise _broken(model.id, f"its weights do not fit its configuration ({type(error).__name__})") from error


def _placed(pipe: Any, kind: Family, device: torch.device, dtype: torch.dtype) -> Any:
    """Returns the pipeline on its device, frozen."""
    for part in (getattr(pipe, kind.network), pipe.vae):
        _channels_last(part)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if kind.fragile_autoencoder and dtype == torch.float16 and pipe.vae.config.get("force_upcast"):
        pipe.vae.to(dtype=torch.float32)  # SDXL's own VAE overflows in fp16
    return pipe.to(device)


def _channels_last(part: Any) -> None:
    """Lays the weights of convolutions over images out by pixels; those over videos as well have an axis too many."""
    for weight in part.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)


@dataclass(frozen=True)
class _Numbers:
    """How a model's noise grows, and the number formats of its weights."""

    noise: Noise
    dtypes: Dtypes


@dataclass(frozen=True)
class _FolderParts:
    """The parts of a diffusers folder; see PartLoader."""

    id: str
    folder: Path
    numbers: _Numbers

    def index(self) -> Mapping[str, Any]:
        return read_json(self.folder / "model_index.json", f"The file model_index.json of {self.id}")

    def network(self, part: str, kind: str) -> Any:
        return _weights(getattr(diffusers, kind), self.folder / part, self.numbers.dtypes.network)

    def autoencoder(self, part: str, kinds: Sequence[str]) -> Any:
        folder = self.folder / part
        named = read_json(folder / "config.json", f"The {part} of {self.id}").get("_class_name")
        kind = next((kind for kind in kinds if kind == named), kinds[0])
        return _weights(getattr(diffusers, kind), folder, self.numbers.dtypes.others)

    def text_encoder(self, part: str, kind: str) -> Any:
        return _weights(getattr(transformers, kind), self.folder / part, self.numbers.dtypes.texts)

    def tokenizer(self, part: str, kind: str) -> Any:
        return getattr(transformers, kind).from_pretrained(str(self.folder / part), local_files_only=True)

    def scheduler(self) -> Any:
        return _scheduler(self.folder / "scheduler", self.numbers.noise)

    def pipeline(self, kind: str, **parts: Any) -> Any:
        return getattr(diffusers, kind)(**parts)


@dataclass(frozen=True)
class _LentParts(_FolderParts):
    """A single file's transformer, its autoencoder where it has one, and the rest of the folder that lends it."""

    found: FoundFile
    file: Any

    def network(self, part: str, kind: str) -> Any:
        head = self.found.head
        tensors = {name: self.file.get_tensor(head + name) for name in self.found.transformer if name != UNUSED}
        network = getattr(diffusers, kind).from_single_file(
            tensors,
            config=str(self.folder / part),
            torch_dtype=self.numbers.dtypes.network,
            local_files_only=True,
            low_cpu_mem_usage=True,
        )
        missing = [name for name, weight in network.state_dict().items() if weight.is_meta]
        if missing:
            raise ValueError(f"{len(missing)} weights are missing")
        return network

    def autoencoder(self, part: str, kinds: Sequence[str]) -> Any:
        head = autoencoder_head(self.found.header)
        if not head:
            return super().autoencoder(part, kinds)
        empty = _empty_network(getattr(diffusers, kinds[0]), self.folder / part)
        return OriginalTensors(self.id, self.file, self.numbers.dtypes.others).vae(empty, head)


@dataclass(frozen=True)
class _FileParts:
    """The parts of a single file, by its family's names and the bundled configurations; see PartLoader."""

    model: BaseModel
    configs: Path
    names: SingleFileNames
    file: Any
    numbers: _Numbers

    def index(self) -> Mapping[str, Any]:
        return read_json(self.configs / "model_index.json", "The bundled model_index.json")

    def network(self, part: str, kind: str) -> Any:
        tensors = OriginalTensors(self.model.id, self.file, self.numbers.dtypes.network)
        return tensors.unet(_empty_network(getattr(diffusers, kind), self.configs / part), self.names.heads[part])

    def autoencoder(self, part: str, kinds: Sequence[str]) -> Any:
        return self._tensors().vae(
            _empty_network(getattr(diffusers, kinds[0]), self.configs / part), self.names.heads[part]
        )

    def text_encoder(self, part: str, kind: str) -> Any:
        empty = _empty_encoder(getattr(transformers, kind), self.configs / part)
        return self._tensors().text_encoder(empty, self.names.heads[part], part in self.names.open_clip)

    def tokenizer(self, part: str, kind: str) -> Any:
        vocabulary, merges = clip_vocabulary()
        pad = self.names.pads[part]
        return CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=pad)

    def scheduler(self) -> Any:
        changes = self.model.schedule.configuration()
        return _scheduler(self.configs / "scheduler", self.numbers.noise, **changes)

    def pipeline(self, kind: str, **parts: Any) -> Any:
        return getattr(diffusers, kind)(**parts)

    def _tensors(self) -> OriginalTensors:
        return OriginalTensors(self.model.id, self.file, self.numbers.dtypes.others)


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


def _scheduler(folder: Path, noise: Noise, **changes: Any) -> Any:
    config = read_json(folder / "scheduler_config.json", "The file scheduler_config.json")
    config |= changes
    name = str(config.get("_class_name"))
    if name not in SCHEDULERS[noise]:
        raise FailedPrecondition(
            f"The model's scheduler is {name[:64]!r}; konomi runs {', '.join(sorted(SCHEDULERS[noise]))}.",
            reason="MODEL_LAYOUT",
        )
    kind = getattr(diffusers, name)
    if config.get("rescale_betas_zero_snr") and not knows_zero_snr(kind):
        kind = EulerDiscreteScheduler
    return kind.from_config(config)


def knows_zero_snr(kind: Any) -> bool:
    """Says whether a class of schedulers can begin where nothing but noise is left."""
    return "rescale_betas_zero_snr" in inspect.signature(kind.__init__).parameters


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
