"""What Stable Diffusion 1.x, 2.x and XL share: a UNet on latents, CLIP's texts, a thousand steps of noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.clip_vocabulary import END
from konomi_chassis.models.families import latent_scale
from konomi_chassis.models.families.family import (
    LORA_TARGETS,
    TEXT_TARGETS,
    CompanionNames,
    Defaults,
    ExportNames,
    Found,
    FoundFile,
    FoundFolder,
    Noise,
    NoisePath,
    PartLoader,
    SingleFileNames,
    TextReading,
)
from konomi_chassis.models.families.layer_names import text_calls
from konomi_chassis.models.families.unet.original_names import unet_name
from konomi_chassis.models.noise_schedule import NoiseSchedule, schedule_of_file, schedule_of_folder
from konomi_chassis.models.safetensors_check import unsupported

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

UNET, VAE = "model.diffusion_model.", "first_stage_model."
"""What stands before the names of UNet and autoencoder in every single file."""
STEM = f"{UNET}input_blocks.0.0.weight"
CHANNELS = 4
NOT_ONE = "it is no Stable Diffusion 1.x, 2.x or XL checkpoint with UNet, VAE and text encoder"
PADS = {"end": END, "mark": "!"}
"""Padding tokens: CLIP's end of text, and OpenCLIP's."""
PIPELINES = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusionImg2ImgPipeline")
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")
TOKENIZERS = frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")})
COMPONENTS: Mapping[str, frozenset[tuple[str, str]]] = {
    "unet": frozenset({("diffusers", "UNet2DConditionModel")}),
    "vae": frozenset({("diffusers", kind) for kind in AUTOENCODERS}),
    "text_encoder": frozenset({("transformers", "CLIPTextModel")}),
    "tokenizer": TOKENIZERS,
}


@dataclass(frozen=True)
class StableDiffusion:
    """One of the three; see Family. What a subclass does not say, all three have in common."""

    name: str
    single_file: SingleFileNames
    exported: ExportNames
    beside: CompanionNames
    defaults: Defaults
    mark: str
    """What the name of a tensor begins with that only files of this family have."""
    loaded_as: str = "StableDiffusionPipeline"
    fragile_autoencoder: bool = False
    told_by_bias: bool = False
    """Whether files of both predictions have the same tensors, so that a bias's spread tells which it is."""

    transformer_file: ClassVar[None] = None
    pipelines: ClassVar[tuple[str, ...]] = PIPELINES
    network: ClassVar[str] = "unet"
    noise: ClassVar[Noise] = "diffusion"
    trains_by: ClassVar[str] = "DDPMScheduler"
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = COMPONENTS
    weighted: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder")
    words: ClassVar[Mapping[str, str]] = {"text_encoder": "emb_params"}
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"unet": LORA_TARGETS, "text_encoder": TEXT_TARGETS}

    def recognise(self, found: Found) -> bool:
        """Says whether a file bears the family's mark, or a folder the network its pipeline names."""
        if isinstance(found, FoundFile):
            return any(name.startswith(self.mark) for name in found.header.tensors)
        return found.pipeline in self.pipelines and self._has_network(found.config("unet"))

    def _has_network(self, unet: Mapping[str, Any]) -> bool:
        """Says whether a UNet's configuration is of this family; the table asks the most particular one first."""
        return True

    def check(self, found: Found) -> None:
        """Refuses a file that lacks a part, and a UNet that does not take the autoencoder's latents."""
        if isinstance(found, FoundFolder):
            self._check_folder(found)
            return
        stem = found.header.tensors.get(STEM)
        if stem is None or not any(name.startswith(VAE) for name in found.header.tensors):
            unsupported(found.id, NOT_ONE)
        if len(stem.shape) != 4 or stem.shape[1] != CHANNELS:
            unsupported(
                found.id, f"its unet does not take {CHANNELS} latent channels (an inpainting or upscaling model)"
            )

    def _check_folder(self, found: FoundFolder) -> None:
        unet, vae = found.config("unet"), found.config("vae")
        found.config("scheduler")
        if unet.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
            unsupported(found.id, "its unet is not a UNet2DConditionModel")
        if vae.get("_class_name") not in AUTOENCODERS:
            unsupported(found.id, f"its vae is {str(vae.get('_class_name'))[:80]!r}")
        if unet.get("in_channels", CHANNELS) != vae.get("latent_channels", CHANNELS):
            unsupported(found.id, "its unet does not take the vae's latents (an inpainting or upscaling model)")

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns what the scheduler's configuration, or the file's marks, say of the noise."""
        if isinstance(found, FoundFolder):
            schedule = schedule_of_folder(found.id, found.config("scheduler"))
            return replace(schedule, unguided=found.config(self.network).get("time_cond_proj_dim") is not None)
        return schedule_of_file(found.id, found.path, found.header, told_by_bias=self.told_by_bias)

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of the images it was trained for, pixels."""
        if isinstance(found, FoundFile):
            return self.defaults.side
        vae = found.config("vae")
        blocks = vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [0] * 4
        return _latent_side(found.config("unet").get("sample_size")) * 2 ** (len(blocks) - 1)

    def load(self, parts: PartLoader) -> Any:
        """Returns the StableDiffusionPipeline, without what would look at its pictures."""
        loaded = self._parts(parts)
        return parts.pipeline(
            self.loaded_as, **loaded, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )

    def _parts(self, parts: PartLoader) -> dict[str, Any]:
        return {
            "unet": parts.network("unet", "UNet2DConditionModel"),
            "vae": parts.autoencoder("vae", AUTOENCODERS),
            "text_encoder": parts.text_encoder("text_encoder", "CLIPTextModel"),
            "tokenizer": parts.tokenizer("tokenizer", "CLIPTokenizer"),
            "scheduler": parts.scheduler(),
        }

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns the one tokenizer and text encoder."""
        return [(pipe.tokenizer, pipe.text_encoder)]

    def clip_skip(self, asked: int) -> int:
        """Returns the layer that was asked for."""
        return asked

    def chunk_states(self, pipe: Any) -> int:
        """Returns what every encoder reads at once, 77."""
        return min(
            int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))
            for tokenizer, encoder in self.towers(pipe)
        )

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns how many chunks a text has, those that are not read included."""
        from konomi_chassis.models.families.unet import conditioning

        return conditioning.chunk_count(pipe, text)

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded: plain ones by the pipeline's own call."""
        from konomi_chassis.models.families.unet import conditioning

        return conditioning.encode(self, pipe, texts, reading, device)

    def drops_by_zeros(self, pipe: Any) -> bool:
        """Says that no text is an empty text."""
        return False

    def join(self, rows: Sequence["Condition"]) -> "Condition":
        """Returns the rows of all parts, padded and masked where their lengths differ."""
        from konomi_chassis.models.families import condition

        return condition.join(rows)

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how the pipeline's own call takes them."""
        named = {
            "prompt_embeds": text.hidden,
            "negative_prompt_embeds": nothing.hidden,
            "pooled_prompt_embeds": text.pooled,
            "negative_pooled_prompt_embeds": nothing.pooled,
        }
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def channels(self, pipe: Any) -> int:
        """Returns the channels of a latent."""
        return int(pipe.unet.config.in_channels)

    def trained_side(self, pipe: Any) -> int:
        """Returns the side of the images its UNet was made for, pixels."""
        return int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)

    def unit(self, pipe: Any) -> int:
        """Returns how many pixels its UNet makes one of, at its narrowest."""
        return int(pipe.vae_scale_factor) * 2 ** (len(pipe.unet.config.down_block_types) - 1)

    def to_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns latents scaled as the UNet takes them."""
        return latent_scale.to_model(latents, vae)

    def from_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns latents scaled as the autoencoder takes them."""
        return latent_scale.from_model(latents, vae)

    def is_guided(self, pipe: Any) -> bool:
        """Says whether the UNet does not take the guidance as a number, as LCM's distilled ones do."""
        return pipe.unet.config.time_cond_proj_dim is None

    def with_guidance(self, pipe: Any, condition: "Condition", scale: float) -> "Condition":
        """Returns the condition with the guidance embedded where the UNet takes one."""
        from konomi_chassis.models.families.unet import conditioning

        return conditioning.with_guidance(pipe, condition, scale)

    def drawn(self, pipe: Any, latents: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
        """Returns the latents as they are."""
        return latents

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the UNet's answer."""
        from konomi_chassis.models.families.unet import conditioning

        return conditioning.answer(network, latents, time, condition)

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the noise of the scheduler's steps; on a device, in float32, where one is named."""
        from konomi_chassis.models.families.unet.discrete_path import DiscretePath

        return DiscretePath.of(scheduler, device)

    def layer_calls(self, component: str, name: str, pipe: Any, names: Sequence[str]) -> list[str]:
        """Returns kohya's, LyCORIS', ComfyUI's and diffusers' names of a layer."""
        if component != self.network:
            return text_calls(name, component, self.exported.texts[component])
        blocks = pipe.unet.config.layers_per_block
        original = unet_name(name, blocks if isinstance(blocks, int) else 2, dict.fromkeys(names))
        kohya = [f"{head}_{call.replace('.', '_')}" for head in ("lora_unet", "lycoris") for call in (name, original)]
        return [*kohya, f"unet.{name}", name, f"diffusion_model.{original}", f"{UNET}{original}"]


def _latent_side(sample_size: Any) -> int:
    size = sample_size[0] if isinstance(sample_size, list) and sample_size else sample_size
    return size if isinstance(size, int) and 0 < size <= 1024 else 64
