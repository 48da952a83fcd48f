"""A toy family, as anybody would add one: this file, and one entry in the table, which the tests make.

It is unlike Stable Diffusion where that matters: a transformer denoises, its texts have as many states as they have
tokens, so rows are padded and masked, and no text has neither pooled vector nor sizes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from transformers import CLIPTextModel

from konomi_chassis.models.families import condition, latent_scale
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import (
    LORA_TARGETS,
    TEXT_TARGETS,
    CompanionNames,
    Defaults,
    ExportNames,
    Found,
    FoundFolder,
    Noise,
    PartLoader,
    SingleFileNames,
    TextReading,
)
from konomi_chassis.models.families.unet.discrete_path import DiscretePath
from konomi_chassis.models.noise_schedule import NoiseSchedule, schedule_of_folder
from konomi_chassis.models.safetensors_check import unsupported
from tests.trainer import tiny

WIDTH = 32


class Toy:
    """See Family."""

    name, network, trains_by = "toy", "transformer", "DDPMScheduler"
    noise: Noise = "diffusion"
    pipelines, loaded_as = ("PixArtAlphaPipeline",), "PixArtAlphaPipeline"
    components: Mapping[str, frozenset[tuple[str, str]]] = {
        "transformer": frozenset({("diffusers", "PixArtTransformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKL")}),
        "text_encoder": frozenset({("transformers", "CLIPTextModel")}),
        "tokenizer": frozenset({("transformers", "CLIPTokenizer")}),
    }
    weighted = ("transformer", "vae", "text_encoder")
    targets: Mapping[str, tuple[str, ...]] = {"transformer": LORA_TARGETS, "text_encoder": TEXT_TARGETS}
    words: Mapping[str, str] = {}
    single_file: SingleFileNames | None = None
    transformer_file: None = None
    exported = ExportNames("toy", "toy-v1", "toy", {"text_encoder": "lora_te"})
    beside, defaults, fragile_autoencoder = CompanionNames(), Defaults(side=16), False

    def recognise(self, found: Found) -> bool:
        return isinstance(found, FoundFolder) and found.pipeline in self.pipelines

    def check(self, found: Found) -> None:
        assert isinstance(found, FoundFolder)
        if found.config("transformer").get("in_channels") != found.config("vae").get("latent_channels"):
            unsupported(found.id, "its transformer does not take the vae's latents")

    def schedule(self, found: Found) -> NoiseSchedule:
        assert isinstance(found, FoundFolder)
        return schedule_of_folder(found.id, found.config("scheduler"))

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        assert isinstance(found, FoundFolder)
        return int(found.config("transformer")["sample_size"]) * 2

    def load(self, parts: PartLoader) -> Any:
        return parts.pipeline(
            self.loaded_as,
            transformer=parts.network("transformer", "PixArtTransformer2DModel"),
            vae=parts.autoencoder("vae", ("AutoencoderKL",)),
            text_encoder=parts.text_encoder("text_encoder", "CLIPTextModel"),
            tokenizer=parts.tokenizer("tokenizer", "CLIPTokenizer"),
            scheduler=parts.scheduler(),
        )

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        return [(pipe.tokenizer, pipe.text_encoder)]

    def clip_skip(self, asked: int) -> int:
        return 1

    def chunk_states(self, pipe: Any) -> int:
        return int(pipe.text_encoder.config.max_position_embeddings)

    def chunk_count(self, pipe: Any, text: str) -> int:
        return 1

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: torch.device) -> Condition:
        """Returns as many states as a text has tokens."""
        ids = [pipe.tokenizer(text, truncation=True, return_tensors="pt").input_ids for text in texts]
        return self.join([Condition(pipe.text_encoder(row.to(device))[0]) for row in ids])

    def drops_by_zeros(self, pipe: Any) -> bool:
        return False

    def join(self, rows: Sequence[Condition]) -> Condition:
        return condition.join(rows)

    def arguments(self, text: Condition, nothing: Condition) -> dict[str, torch.Tensor]:
        def mask(of: Condition) -> torch.Tensor:
            return of.hidden.new_ones(of.hidden.shape[:2])

        return {
            "negative_prompt": None,
            "prompt_embeds": text.hidden,
            "prompt_attention_mask": mask(text),
            "negative_prompt_embeds": nothing.hidden,
            "negative_prompt_attention_mask": mask(nothing),
        }  # type: ignore[dict-item]

    def channels(self, pipe: Any) -> int:
        return int(pipe.transformer.config.in_channels)

    def trained_side(self, pipe: Any) -> int:
        return int(pipe.transformer.config.sample_size) * int(pipe.vae_scale_factor)

    def unit(self, pipe: Any) -> int:
        return int(pipe.transformer.config.patch_size) * int(pipe.vae_scale_factor)

    def to_model(self, latents: torch.Tensor, vae: Any) -> torch.Tensor:
        return latent_scale.to_model(latents, vae)

    def from_model(self, latents: torch.Tensor, vae: Any) -> torch.Tensor:
        return latent_scale.from_model(latents, vae)

    def is_guided(self, pipe: Any) -> bool:
        return True

    def with_guidance(self, pipe: Any, condition: Condition, scale: float) -> Condition:
        return condition

    def drawn(self, pipe: Any, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return latents

    def answer(self, network: Any, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
        answer: torch.Tensor = network(
            latents,
            encoder_hidden_states=condition.hidden,
            timestep=time.expand(len(latents)),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            encoder_attention_mask=condition.mask,
            return_dict=False,
        )[0]
        return answer

    def path(self, scheduler: Any, device: torch.device | None = None) -> DiscretePath:
        return DiscretePath.of(scheduler, device)

    def layer_calls(self, component: str, name: str, pipe: Any, names: Sequence[str]) -> list[str]:
        return [f"{component}.{name}"]


TOY = Toy()


def save(folder: Path) -> None:
    """Saves a tiny model of the family: 16 px images, 8 x 8 latents."""
    torch.manual_seed(6)
    tokens = tiny.tokenizer()
    transformer = PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_channels=WIDTH,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=WIDTH,
        use_additional_conditions=False,
    )
    for name, weight in transformer.named_parameters():
        if name.startswith("proj_out") or "scale_shift_table" in name:
            torch.nn.init.normal_(weight, std=0.2)  # they start so that no text and no layer counts
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        shift_factor=0.25,
        scaling_factor=0.5,
    )
    PixArtAlphaPipeline(
        tokenizer=tokens,
        text_encoder=CLIPTextModel(tiny.text_config(WIDTH, tokens)),
        vae=vae,
        transformer=transformer,
        scheduler=DDIMScheduler(**tiny.SCHEDULE, prediction_type="epsilon", clip_sample=False),
    ).save_pretrained(folder, safe_serialization=True)
