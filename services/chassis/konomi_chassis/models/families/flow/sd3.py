"""Stable Diffusion 3 and 3.5: a transformer, flow matching, latents of 16 channels, two CLIP encoders and perhaps T5.

Esser et al. 2024 (2403.03206). A folder without T5 is a whole model: its states are zeros then, as diffusers has it.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families import latent_scale
from konomi_chassis.models.families.family import (
    LORA_TARGETS,
    TEXT_TARGETS,
    ActivationBytes,
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
    TransformerFile,
)
from konomi_chassis.models.model_settings import DrawingSettings
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import unsupported

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

FLOW = "flow"
"""What its network answers, as records say it."""
CLIP = ("transformers", "CLIPTextModelWithProjection")
TOKENIZERS = frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")})
T5_TOKENIZERS = frozenset({("transformers", "T5Tokenizer"), ("transformers", "T5TokenizerFast")})


class StableDiffusion3:
    """The family; see Family."""

    name: ClassVar[str] = "sd3"
    pipelines: ClassVar[tuple[str, ...]] = ("StableDiffusion3Pipeline",)
    loaded_as: ClassVar[str] = "StableDiffusion3Pipeline"
    network: ClassVar[str] = "transformer"
    noise: ClassVar[Noise] = "flow"
    trains_by: ClassVar[str] = "FlowMatchEulerDiscreteScheduler"
    weighted: ClassVar[tuple[str, ...]] = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
    single_file: ClassVar[SingleFileNames | None] = None
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("joint_blocks.0.x_block.attn.qkv.weight", "joint_blocks.0.context_block.attn.qkv.weight", "pos_embed")
    )
    fragile_autoencoder: ClassVar[bool] = False
    exported: ClassVar[ExportNames] = ExportNames(
        base="sd3",
        architecture="stable-diffusion-v3",
        pipeline="stable-diffusion-3",
        texts={"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
    )
    beside: ClassVar[CompanionNames] = CompanionNames(tiny_vae="sd3")
    defaults: ClassVar[Defaults] = Defaults(
        side=1024,
        large=True,
        drawing=DrawingSettings(steps=28, guidance_scale=5.0, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=4, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=254, decoding=3073, encoding=2573, training=17408, checkpointed=1418),
    )
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "SD3Transformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKL")}),
        "text_encoder": frozenset({CLIP}),
        "text_encoder_2": frozenset({CLIP}),
        "text_encoder_3": frozenset({("transformers", "T5EncoderModel")}),
        "tokenizer": TOKENIZERS,
        "tokenizer_2": TOKENIZERS,
        "tokenizer_3": T5_TOKENIZERS,
    }
    words: ClassVar[Mapping[str, str]] = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "transformer": (*LORA_TARGETS, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
        "text_encoder": TEXT_TARGETS,
        "text_encoder_2": TEXT_TARGETS,
    }

    def recognise(self, found: Found) -> bool:
        """Says whether a folder's pipeline is this one, or a file holds its transformer."""
        if isinstance(found, FoundFile):
            return self.transformer_file.is_told_by(found.transformer)
        return found.pipeline in self.pipelines

    def check(self, found: Found) -> None:
        """Refuses a transformer that does not take the autoencoder's latents."""
        assert isinstance(found, FoundFolder)
        transformer, vae = found.config("transformer"), found.config("vae")
        if transformer.get("in_channels", 16) != vae.get("latent_channels", 4):
            unsupported(found.id, "its transformer does not take the vae's latents")

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns that it answers the velocity of a flow."""
        return NoiseSchedule(FLOW)

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of the images it was trained for, pixels."""
        assert isinstance(found, FoundFolder)
        blocks = found.config("vae").get("block_out_channels") or [0] * 4
        size = found.config("transformer").get("sample_size")
        side = size if isinstance(size, int) and 0 < size <= 1024 else 128
        return side * 2 ** (len(blocks) - 1)

    def load(self, parts: PartLoader) -> Any:
        """Returns the StableDiffusion3Pipeline, T5 with it where its index names it."""
        loaded: dict[str, Any] = {
            "transformer": parts.network("transformer", "SD3Transformer2DModel"),
            "vae": parts.autoencoder("vae", ("AutoencoderKL",)),
            "scheduler": parts.scheduler(),
            "text_encoder_3": None,
            "tokenizer_3": None,
        }
        for end in ("", "_2"):
            loaded[f"text_encoder{end}"] = parts.text_encoder(f"text_encoder{end}", CLIP[1])
            loaded[f"tokenizer{end}"] = parts.tokenizer(f"tokenizer{end}", "CLIPTokenizer")
        if (parts.index().get("text_encoder_3") or [None])[0]:
            loaded["text_encoder_3"] = parts.text_encoder("text_encoder_3", "T5EncoderModel")
            loaded["tokenizer_3"] = parts.tokenizer("tokenizer_3", "T5TokenizerFast")
        return parts.pipeline(self.loaded_as, **loaded)

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns the two of CLIP, which learn words; T5 does not."""
        return [(pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)]

    def clip_skip(self, asked: int) -> int:
        """Returns 1: it reads its encoders' last layers but one."""
        return 1

    def chunk_states(self, pipe: Any) -> int:
        """Returns what CLIP reads at once, 77; T5's states stand behind."""
        return int(pipe.tokenizer_max_length)

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns 1: what is longer is cut."""
        return 1

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded by the pipeline's own call, whatever the syntax: marks of emphasis are words to T5."""
        from konomi_chassis.models.families.condition import Condition

        given = list(texts)
        hidden, _, pooled, _ = pipe.encode_prompt(
            given, given, given, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Condition(hidden, pooled)

    def drops_by_zeros(self, pipe: Any) -> bool:
        """Says that no text is an empty text."""
        return False

    def join(self, rows: Sequence["Condition"]) -> "Condition":
        """Returns the rows of all parts; all are of one length."""
        from konomi_chassis.models.families import condition

        return condition.join(rows)

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how the pipeline's own call takes them."""
        assert text.pooled is not None and nothing.pooled is not None
        return {
            "prompt_embeds": text.hidden,
            "negative_prompt_embeds": nothing.hidden,
            "pooled_prompt_embeds": text.pooled,
            "negative_pooled_prompt_embeds": nothing.pooled,
        }

    def channels(self, pipe: Any) -> int:
        """Returns the channels of a latent."""
        return int(pipe.transformer.config.in_channels)

    def trained_side(self, pipe: Any) -> int:
        """Returns the side of the images its transformer was made for, pixels."""
        return int(pipe.transformer.config.sample_size) * int(pipe.vae_scale_factor)

    def unit(self, pipe: Any) -> int:
        """Returns the pixels of a token's side."""
        return int(pipe.vae_scale_factor) * int(pipe.transformer.config.patch_size)

    def to_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns latents shifted and scaled as the transformer takes them."""
        return latent_scale.to_model(latents, vae)

    def from_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns latents as the autoencoder takes them."""
        return latent_scale.from_model(latents, vae)

    def is_guided(self, pipe: Any) -> bool:
        """Says that it has an unconditional half."""
        return True

    def with_guidance(self, pipe: Any, condition: "Condition", scale: float) -> "Condition":
        """Returns the condition as it is."""
        return condition

    def drawn(self, pipe: Any, latents: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
        """Returns the latents as they are."""
        return latents

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity."""
        answer: torch.Tensor = network(
            hidden_states=latents,
            timestep=time.expand(len(latents)),
            encoder_hidden_states=condition.hidden,
            pooled_projections=condition.pooled,
            return_dict=False,
        )[0]
        return answer

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the flow of a scheduler."""
        from konomi_chassis.models.families.flow.flow_path import FlowPath

        return FlowPath.of(scheduler, device, cells=4)

    def layer_calls(self, component: str, name: str, pipe: Any, names: Sequence[str]) -> list[str]:
        """Returns diffusers' names of a layer."""
        return [f"{component}.{name}", *([name, f"diffusion_model.{name}"] if component == self.network else [])]


SD3 = StableDiffusion3()
"""The family."""
