"""FLUX.1: CLIP's pooled vector and T5's states, and models that were distilled: none has an unconditional half.

Black Forest Labs 2024. FLUX.1 [dev] takes the guidance as a number; FLUX.1 [schnell], distilled to four steps, takes
none and reads half as many tokens of T5. [dev] is for non-commercial use, [schnell] is under Apache-2.0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families.family import (
    TEXT_TARGETS,
    ActivationBytes,
    CompanionNames,
    Defaults,
    ExportNames,
    Found,
    FoundFolder,
    PartLoader,
    TextReading,
    TransformerFile,
)
from konomi_chassis.models.families.flow.packed_family import JOINT_TARGETS, PackedFamily
from konomi_chassis.models.families.flow.transformer import FLOW, FLUX1_LATENTS
from konomi_chassis.models.families.layer_names import FLUX1_LAYERS, FLUX_LAST, HEAD
from konomi_chassis.models.model_settings import DrawingSettings
from konomi_chassis.models.noise_schedule import NoiseSchedule

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

CLIP_TOKENIZERS = frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")})
T5_TOKENIZERS = frozenset({("transformers", "T5Tokenizer"), ("transformers", "T5TokenizerFast")})
TOKENS, FEW_TOKENS = 512, 256
"""Of T5, padding included: of a model that takes the guidance, and of one that does not."""
THOUSAND = 1000
UNGUIDED = 1.0
"""The guidance a training step gives: the velocity of the data itself, which no guidance has moved."""


class Flux1(PackedFamily):
    """The family; see Family."""

    name: ClassVar[str] = "flux1"
    pipelines: ClassVar[tuple[str, ...]] = ("FluxPipeline",)
    loaded_as: ClassVar[str] = "FluxPipeline"
    beside: ClassVar[CompanionNames] = FLUX1_LATENTS
    weighted: ClassVar[tuple[str, ...]] = ("transformer", "vae", "text_encoder", "text_encoder_2")
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("double_blocks.0.img_attn.qkv.weight", "single_blocks.0.modulation.lin.weight", "vector_in.in_layer.weight")
    )
    defaults: ClassVar[Defaults] = Defaults(
        side=1024,
        large=True,
        drawing=DrawingSettings(steps=28, guidance_scale=3.5, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=4, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=466, decoding=3073, encoding=2573, training=28128, checkpointed=2362),
    )
    exported: ClassVar[ExportNames] = ExportNames(
        base="flux1",
        architecture="flux-1-dev",
        pipeline="flux",
        texts={"text_encoder": "lora_te1"},
        head=HEAD,
        layers=FLUX1_LAYERS,
        read=FLUX_LAST,
        implementation="https://github.com/black-forest-labs/flux",
        bound="FLUX.1 [dev], and what was trained on it, is for non-commercial use; FLUX.1 [schnell] is Apache-2.0.",
    )
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "FluxTransformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKL")}),
        "text_encoder": frozenset({("transformers", "CLIPTextModel")}),
        "text_encoder_2": frozenset({("transformers", "T5EncoderModel")}),
        "tokenizer": CLIP_TOKENIZERS,
        "tokenizer_2": T5_TOKENIZERS,
    }
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"transformer": JOINT_TARGETS, "text_encoder": TEXT_TARGETS}
    words: ClassVar[Mapping[str, str]] = {"text_encoder": "clip_l", "text_encoder_2": "t5xxl"}

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns that it has no unconditional half, and whether it is [schnell], which takes no guidance either."""
        assert isinstance(found, FoundFolder)
        takes = bool(found.config("transformer").get("guidance_embeds", False))
        return NoiseSchedule(FLOW, few_steps=not takes, unguided=True)

    def load(self, parts: PartLoader) -> Any:
        """Returns the FluxPipeline."""
        return parts.pipeline(
            self.loaded_as,
            transformer=parts.network("transformer", "FluxTransformer2DModel"),
            vae=parts.autoencoder("vae", ("AutoencoderKL",)),
            text_encoder=parts.text_encoder("text_encoder", "CLIPTextModel"),
            tokenizer=parts.tokenizer("tokenizer", "CLIPTokenizer"),
            text_encoder_2=parts.text_encoder("text_encoder_2", "T5EncoderModel"),
            tokenizer_2=parts.tokenizer("tokenizer_2", "T5TokenizerFast"),
            scheduler=parts.scheduler(),
        )

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns CLIP's, which learns words; T5 does not."""
        return [(pipe.tokenizer, pipe.text_encoder)]

    def chunk_states(self, pipe: Any) -> int:
        """Returns T5's states, padding included."""
        return TOKENS if pipe.transformer.config.guidance_embeds else FEW_TOKENS

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded by the pipeline's own call, whatever the syntax; T5's padding is not masked."""
        from konomi_chassis.models.families.condition import Condition

        given = list(texts)
        hidden, pooled, _ = pipe.encode_prompt(
            given, given, device=device, num_images_per_prompt=1, max_sequence_length=self.chunk_states(pipe)
        )
        return Condition(hidden, pooled)

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how the pipeline's own call takes them."""
        assert text.pooled is not None and nothing.pooled is not None
        return {
            "prompt_embeds": text.hidden,
            "negative_prompt_embeds": nothing.hidden,
            "pooled_prompt_embeds": text.pooled,
            "negative_pooled_prompt_embeds": nothing.pooled,
        }

    def is_guided(self, pipe: Any) -> bool:
        """Says that it has no unconditional half."""
        return False

    def with_guidance(self, pipe: Any, condition: "Condition", scale: float) -> "Condition":
        """Returns the condition with the guidance as a number where the transformer takes one."""
        import torch

        if not pipe.transformer.config.guidance_embeds:
            return condition
        hidden = condition.hidden
        given = torch.full((len(hidden), 1), scale, device=hidden.device, dtype=torch.float32)
        return replace(condition, guidance=given)

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity; where the transformer takes a guidance and none is given, at that of training."""
        import torch

        from konomi_chassis.models.families import packing

        rows, _, height, width = latents.shape
        guidance = None
        if network.config.guidance_embeds:
            given = condition.guidance
            guidance = torch.full((rows,), UNGUIDED, device=latents.device) if given is None else given[:, 0]
        tokens: torch.Tensor = network(
            hidden_states=packing.pack(latents),
            timestep=time.expand(rows).to(latents.dtype) / THOUSAND,
            guidance=guidance,
            pooled_projections=condition.pooled,
            encoder_hidden_states=condition.hidden,
            txt_ids=torch.zeros(condition.hidden.shape[1], 3, device=latents.device),
            img_ids=packing.places(height, width, latents.device),
            return_dict=False,
        )[0]
        return packing.unpack(tokens, height, width)


FLUX1 = Flux1()
"""The family."""
