"""Base models through diffusers: encoders, network and noise, loaded from checked files and nothing else."""

import gc
import logging
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from transformers import PreTrainedTokenizerBase

from konomi_chassis.memory_shortage import give_back
from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.families import autoencoder, latent_scale, quantized_blocks
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.quantization import NONE
from konomi_chassis.models.families.table import family, of_pipeline
from konomi_chassis.models.loading import Dtypes, load_pipeline
from konomi_chassis.models.memory_needs import reads_in_bf16
from konomi_chassis.models.noise_schedule import GUIDANCE_RESCALE
from konomi_trainer.base_models.captions import CaptionEncoder, CaptionReading
from konomi_trainer.base_models.streamed_blocks import StreamedBlocks
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.dataset import Batch
from konomi_trainer.data.tensors import loadable_name, pack, unpack
from konomi_trainer.training.compilation import BlockCompiler, CostFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaseInfo:
    """What a header says of the base model.

    Attributes:
        layout: name of its family.
        prediction: "epsilon", "v_prediction" or "flow".
        resolution: side of its images, pixels.
        layers_per_block: of its UNet.
        zero_terminal_snr: whether its noise schedule ends without any signal.
    """

    layout: str
    prediction: str
    resolution: int
    layers_per_block: int
    zero_terminal_snr: bool = False


SAMPLE_GUIDANCE = 5.0
PICTURES = frozenset({"vae"})
PLAIN_READING = CaptionReading()
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TrainingPlacement:
    """Where and how a base model runs: see TrainerSettings; precision is that of the frozen weights, packed or not."""

    device: str
    precision: str
    gradient_checkpointing: bool
    compile_blocks: bool | Literal["auto"] = "auto"
    stream_blocks: bool = False
    quantization: str = NONE


class BasePipeline:
    """One loaded base model.

    Attributes:
        space: names its latents in the cache: digest of its weights and kind of device.
        text_space: names its embeddings in the cache: the same, and how captions are read.
        chunk_states: hidden states of one chunk of a caption, 77.
        resolution: side of the squares whose area images have, pixels.
        step: what both sides of an image are multiples of, pixels.
        family: of the model.
        path: its noise, on the device.
        device: where it runs.
        network: what is trained.
        texts, parts: names of the parts of the pipeline that have weights: text encoders, all.
        checkpointing: whether activations are made twice instead of being kept.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        digest: str,
        placement: TrainingPlacement,
        resolution: int = 0,
        reading: CaptionReading = PLAIN_READING,
        guidance: float = SAMPLE_GUIDANCE,
    ) -> None:
        """Takes a pipeline; its autoencoder is float32, so that the cache fits every precision.

        Args:
            pipe: of a family.
            digest: of its weights.
            placement: where it runs.
            resolution: see the attribute; 0 is the model's own.
            reading: how captions are read.
            guidance: of sample sheets; 1 is none.
        """
        self._pipe, self._placement, self.family = pipe, placement, of_pipeline(pipe)
        self.parts = frozenset(self.family.weighted)
        self.texts = self.parts - PICTURES - {self.family.network}
        self.device = torch.device(placement.device)
        self.space = f"{digest}:{self.device.type}"
        self.text_space = self.space + reading.name + _text_format(pipe, self.texts)
        self._captions = CaptionEncoder(pipe, placement.device, reading)
        self.chunk_states = self._captions.chunk_states
        schedule = getattr(diffusers, self.family.trains_by).from_config(pipe.scheduler.config)
        self._rescale = GUIDANCE_RESCALE if schedule.config.get("rescale_betas_zero_snr") else 0.0
        self.path = self.family.path(schedule, self.device)
        self._here: frozenset[str] = self.parts if placement.device == "cpu" else frozenset()
        self.network = _frozen(getattr(pipe, self.family.network), placement)
        self.resolution = resolution or self.family.trained_side(pipe)
        self.step = _whole_tokens(self.resolution // 16, self.family.unit(pipe))
        self._sampling, self._guidance = False, self.family.defaults.guiding.theirs(guidance)
        self.checkpointing, self._learning = False, list[torch.nn.Module]()
        self._streamed = StreamedBlocks(self.network, self.device) if placement.stream_blocks else None
        if placement.gradient_checkpointing:
            self.checkpoint_activations()

    def checkpoint_activations(self) -> bool:
        """Makes activations twice from now on instead of keeping them; False where it does so already.

        Blocks that come one by one do so anyhow, without the network's own way.
        """
        if self.checkpointing:
            return False
        if self._streamed is None:
            self.network.train()
            self.network.enable_gradient_checkpointing()
        self.checkpointing = True
        self._checkpoint_texts()
        return True

    def compiler(self, steps: int, cache: Path) -> BlockCompiler:
        """Returns what decides whether a run of so many steps compiles the network's blocks, by figures in `cache`."""
        kind, precision = torch.device(self._placement.device).type, self._placement.precision
        name = f"{self.space[:16]}-{kind}-{precision}.json"
        plain = self._streamed is None and self._placement.quantization == NONE
        asked = self._placement.compile_blocks if plain else False
        return BlockCompiler(self, asked, steps, CostFile(kind, cache / "compilation" / name))

    def compile_blocks(self) -> None:
        """Compiles the network's repeated blocks at their next use; what cannot be compiled goes on as it is."""
        torch._dynamo.config.suppress_errors = True
        self.network.compile_repeated_blocks()

    def learn_texts(self) -> None:
        """Brings the text encoders' frozen weights, which learn beside the network, to the type it has."""
        self._learning = [tower for _, tower in self.text_towers()]
        for tower in self._learning:
            tower.to(dtype=PRECISIONS[self._placement.precision])
        if self.checkpointing:
            self._checkpoint_texts()

    def _checkpoint_texts(self) -> None:
        for tower in self._learning:
            tower.train()  # nothing of it is random: CLIP's dropout is 0
            tower.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]

    def settle(self) -> None:
        """Has all parts on the device, as training needs them: of blocks that come one by one what learns."""
        self._bring(self.parts)
        if self._streamed is not None:
            self._streamed.settle()

    def _bring(self, names: frozenset[str]) -> None:
        """Has these parts on the device, and the others on the host: while a set is encoded none needs another."""
        if names <= self._here and (self._here == names or self._placement.device == "cpu"):
            return
        for part, leaves in sorted(((part, part not in names) for part in self.parts), key=lambda pair: not pair[1]):
            module = getattr(self._pipe, part, None)
            if module is self.network and self._streamed is not None and not leaves:
                self._streamed.settle()
            elif module is not None:
                module.to("cpu" if leaves else self._placement.device)
        give_back()
        self._here = names

    @torch.no_grad()
    def encode_image(self, pixels: torch.Tensor) -> Tensors:
        """Returns the latent of a (3, S, S) image in -1..1 as the network expects it: "mean", and any "std"."""
        self._bring(PICTURES)
        vae = self._pipe.vae
        encoded = autoencoder.encode(vae, pixels[None].to(self._placement.device))
        if isinstance(vae, AutoencoderTiny):
            return {"mean": self.family.to_model(encoded.latents[0].float().cpu(), vae)}
        mean, std = encoded.latent_dist.mean[0].float().cpu(), encoded.latent_dist.std[0].float().cpu()
        return {"mean": self.family.to_model(mean, vae), "std": latent_scale.spread_to_model(std, vae)}

    def encode_caption(self, caption: str) -> Tensors:
        """Returns the embedding of a caption: "hidden", "pooled" for SDXL; see CaptionEncoder.alone."""
        self._bring(self.texts)
        return self._captions.alone(caption)

    def embed(self, captions: list[str]) -> Tensors:
        """Returns embeddings of captions, "hidden" (N, T, D) and for SDXL "pooled" (N, P), differentiable.

        Also "mask" (N, T) where they differ in length; see Condition.
        """
        self.settle()
        with self._autocast():
            return self._captions.together(captions)

    def text_towers(self) -> list[tuple[PreTrainedTokenizerBase, torch.nn.Module]]:
        """Returns tokenizer and text encoder of the base, two pairs for SDXL."""
        return self.family.towers(self._pipe)

    def word_towers(self) -> list[tuple[PreTrainedTokenizerBase, torch.nn.Module]]:
        """Returns tokenizer and text encoder of those that can learn new words."""
        ends = [name.removeprefix("text_encoder") for name in sorted(self.family.words)]
        return [(getattr(self._pipe, f"tokenizer{end}"), getattr(self._pipe, f"text_encoder{end}")) for end in ends]

    def release_image_encoder(self) -> None:
        """Frees the autoencoder alone, for methods that go on encoding texts."""
        if not self._sampling:
            self._pipe.vae = None
        self.settle()
        gc.collect()

    def release_encoders(self) -> None:
        """Frees the autoencoder, where no samples are drawn, and the text encoders once everything is cached."""
        for name in self.texts:
            if getattr(self._pipe, name, None) is not None:
                setattr(self._pipe, name, None)
        self.release_image_encoder()
        give_back()

    def sampler(self, prompts: list[str], steps: int) -> Callable[[], np.ndarray | None]:
        """Returns a function that draws an image of each prompt, always with the same seeds, as (N, H, W, 3) uint8.

        Texts are encoded at once and again at every call for as long as the text encoders are there. It returns None
        where an image is none: a weight that overflowed would make it black.
        """
        self._sampling = True
        self._pipe.set_progress_bar_config(disable=True)
        self._bring(self.texts)
        encoded = [self._captions.guided(prompt) for prompt in prompts]

        @torch.no_grad()
        def draw() -> np.ndarray | None:
            live, drawn = self._captions.is_there, []
            for index, prompt in enumerate(prompts):
                with self._autocast():
                    latents = self._pipe(
                        **(self._captions.guided(prompt) if live else encoded[index]),
                        num_inference_steps=steps,
                        height=self.resolution,
                        width=self.resolution,
                        **{self.family.defaults.guiding.argument: self._guidance},
                        **({"guidance_rescale": self._rescale} if self._rescale else {}),
                        generator=torch.Generator().manual_seed(index),
                        output_type="latent",
                    ).images
                side = self.resolution
                pixels = self._decode(self.family.drawn(self._pipe, latents, side, side))
                if not bool(torch.isfinite(pixels).all()):
                    log.warning("no sample sheet: the image of %r has pixels that are no numbers", prompt[:80])
                    return None
                drawn.append(self._pipe.image_processor.postprocess(pixels, output_type="np")[0])
            return (np.stack(drawn) * 255).round().astype(np.uint8)

        return draw

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Returns (1, 3, H, W) pixels in -1..1 of (1, C, h, w) latents, float32: in half SDXL's decoder overflows."""
        vae = self._pipe.vae
        latents = self.family.from_model(latents.to(vae.dtype), vae)
        with torch.autocast(torch.device(self._placement.device).type, enabled=False):
            return autoencoder.decode(vae, latents)

    def _autocast(self) -> AbstractContextManager[None]:
        """Returns the context the network, and text encoders that learn, compute in."""
        dtype = PRECISIONS[self._placement.precision]
        return torch.autocast(torch.device(self._placement.device).type, dtype, enabled=dtype != torch.float32)

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Returns the network's (B, C, h, w) answer to noisy latents at (B,) times."""
        dtype = PRECISIONS[self._placement.precision]
        self.settle()
        given = Condition(batch.hidden, batch.pooled, batch.mask, batch.sizes)
        with self._autocast():
            here = given.to(self.device)
            pooled = None if here.pooled is None else here.pooled.to(dtype)
            condition = replace(here, hidden=here.hidden.to(dtype), pooled=pooled)
            return self.family.answer(self.network, noisy.to(dtype), timesteps, condition)


def load(
    model: BaseModel,
    configs: Path,
    digest: str,
    placement: TrainingPlacement,
    resolution: int = 0,
    reading: CaptionReading = PLAIN_READING,
) -> BasePipeline:
    """Loads a base model, folder or single file; only safetensors are read and no hub is asked.

    Args:
        model: a model the catalogue has checked.
        configs: folder with the configurations of single-file checkpoints, by layout.
        digest: of its weights.
        placement: device and precision.
        resolution: side of the squares whose area images have, pixels; 0 takes the model's own.
        reading: how captions are read.
    """
    on_card = torch.device(placement.device).type == "cuda"
    if on_card:
        torch.set_float32_matmul_precision("high")  # of the encoders: TF32
    half = on_card and placement.precision == "bf16" and reads_in_bf16(family(model.layout))
    dtypes = Dtypes(torch.float32, PRECISIONS[placement.precision], torch.bfloat16 if half else torch.float32)
    pipe = load_pipeline(model, configs, torch.device("cpu"), dtypes)
    guidance = SAMPLE_GUIDANCE if model.settings.drawing.guidance_scale > 1 else 1.0
    return BasePipeline(pipe, digest, placement, resolution or model.resolution, reading, guidance)


def merged(model: BaseModel, configs: Path, adapter: bytes) -> DiffusionPipeline:
    """Returns a base model's pipeline with a LoRA merged into its weights, float32.

    Args:
        model: a model the catalogue has checked.
        configs: folder with the configurations of single-file checkpoints, by layout.
        adapter: the file of a LoRA or DoRA as diffusers writes it.
    """
    pipe = load_pipeline(model, configs, torch.device("cpu"), torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        tensors, header = unpack(adapter)
        named = {loadable_name(name): tensor for name, tensor in tensors.items()}
        (Path(folder) / "adapter.safetensors").write_bytes(pack(named, header))
        pipe.load_lora_weights(folder, weight_name="adapter.safetensors", local_files_only=True)
    parts = [name for name in of_pipeline(pipe).targets if getattr(pipe, name, None) is not None]
    pipe.fuse_lora(components=[part for part in parts if part in pipe._lora_loadable_modules])
    pipe.unload_lora_weights()
    return pipe


def _frozen(network: torch.nn.Module, placement: TrainingPlacement) -> torch.nn.Module:
    """Returns a network in the number format of its run, packed where it is quantised."""
    network.to(dtype=PRECISIONS[placement.precision], memory_format=torch.channels_last)  # type: ignore[call-overload]
    quantized_blocks.quantize(network, placement.quantization, torch.device(placement.device))
    return network


def _whole_tokens(side: int, unit: int) -> int:
    """Returns the largest multiple of a unit that is not more than a side, at least one; pixels."""
    return unit * max(1, side // unit)


def _text_format(pipe: DiffusionPipeline, texts: frozenset[str]) -> str:
    """Names the number format of a pipeline's text encoders in the cache, empty for float32: their states differ."""
    encoders = [encoder for name in sorted(texts) if (encoder := getattr(pipe, name, None)) is not None]
    return ":bf16" if encoders and next(encoders[0].parameters()).dtype == torch.bfloat16 else ""


def has_usual_autoencoder(pipe: DiffusionPipeline) -> bool:
    """Says whether a pipeline has the variational autoencoder that single-file checkpoints hold."""
    return not isinstance(pipe.vae, AutoencoderTiny)


def weights_of(pipe: DiffusionPipeline) -> dict[str, Tensors]:
    """Returns part → name → float16 weight of a pipeline."""
    parts = [name for name in of_pipeline(pipe).weighted if getattr(pipe, name, None) is not None]
    return {
        part: {name: tensor.detach().half() for name, tensor in getattr(pipe, part).state_dict().items()}
        for part in parts
    }
