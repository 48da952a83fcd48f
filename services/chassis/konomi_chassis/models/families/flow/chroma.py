"""Chroma: FLUX.1 [schnell] trained on and pruned by its modulation, under Apache-2.0: T5 alone, an unconditional half.

Lodestone Rock 2025. A text is its own tokens of T5 and one of padding after them; the rest of the padding is masked,
which is the same as leaving it out. diffusers 0.42 gives attention that mask as numbers, which are added to what is
attended to, so that padding counts (its issue 12116); given as booleans, as here, it masks.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families.family import (
    ActivationBytes,
    CompanionNames,
    Defaults,
    ExportNames,
    Guiding,
    TextReading,
    TransformerFile,
)
from konomi_chassis.models.families.flow.flux import T5_TOKENIZERS, THOUSAND, TOKENS
from konomi_chassis.models.families.flow.packed_family import JOINT_TARGETS, PackedFamily
from konomi_chassis.models.families.flow.transformer import FLUX1_LATENTS
from konomi_chassis.models.families.layer_names import FLUX1_LAYERS, HEAD
from konomi_chassis.models.model_settings import DrawingSettings

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition


class Chroma1(PackedFamily):
    """The family; see Family."""

    name: ClassVar[str] = "chroma"
    pipelines: ClassVar[tuple[str, ...]] = ("ChromaPipeline",)
    loaded_as: ClassVar[str] = "ChromaPipeline"
    beside: ClassVar[CompanionNames] = FLUX1_LATENTS
    kinds: ClassVar[tuple[str, str, str]] = ("ChromaTransformer2DModel", "T5EncoderModel", "T5TokenizerFast")
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("double_blocks.0.img_attn.qkv.weight", "distilled_guidance_layer.in_proj.weight")
    )
    defaults: ClassVar[Defaults] = Defaults(
        side=1024,
        large=True,
        drawing=DrawingSettings(steps=40, guidance_scale=3.0, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=8, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=444, decoding=3073, encoding=2573, training=28106, checkpointed=2364),
        text_unit=1,
        guiding=Guiding(apart=True),
    )
    exported: ClassVar[ExportNames] = ExportNames(
        base="chroma",
        architecture="chroma",
        pipeline="chroma",
        texts={},
        head=HEAD,
        layers=FLUX1_LAYERS,
        implementation="https://github.com/lodestone-rock/flow",
    )
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "ChromaTransformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKL")}),
        "text_encoder": frozenset({("transformers", "T5EncoderModel")}),
        "tokenizer": T5_TOKENIZERS,
    }
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"transformer": JOINT_TARGETS}

    def chunk_states(self, pipe: Any) -> int:
        """Returns the most states a text has."""
        return TOKENS

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns how many states a text has."""
        return min(len(pipe.tokenizer(text).input_ids) + 1, TOKENS)

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded by the pipeline's own call, whatever the syntax, without padding that is masked."""
        from konomi_chassis.models.families.condition import Condition

        hidden, _, mask, *_ = pipe.encode_prompt(
            list(texts),
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            max_sequence_length=TOKENS,
        )
        seen = mask.bool()
        return Condition(hidden * seen[:, :, None], None, seen).trimmed()

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how the pipeline's own call takes them, masks as booleans."""
        return {
            "prompt_embeds": text.hidden,
            "prompt_attention_mask": text.present(),
            "negative_prompt_embeds": nothing.hidden,
            "negative_prompt_attention_mask": nothing.present(),
        }

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity."""
        import torch

        condition, time = condition.trimmed(), time.expand(len(latents))
        if condition.mask is None:
            return _velocity(network, latents, time, condition, None)
        if not (network.gradient_checkpointing and torch.is_grad_enabled()):
            return _velocity(network, latents, time, condition, condition.mask)
        # Its single blocks lose the mask where activations are made twice, so that no row may need one.
        answers = torch.zeros_like(latents)
        lengths = condition.mask.sum(dim=1)
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            own = condition.rows(rows).trimmed()
            answers = answers.index_copy(0, rows, _velocity(network, latents[rows], time[rows], own, None))
        return answers


def _velocity(
    network: Any,
    latents: "torch.Tensor",
    time: "torch.Tensor",
    condition: "Condition",
    mask: "torch.Tensor | None",
) -> "torch.Tensor":
    """Returns the velocity of latents (N, C, h, w) at (N,) times; `mask` is (N, T) bool over the texts' states."""
    import torch

    from konomi_chassis.models.families import packing

    height, width = latents.shape[-2:]
    packed = packing.pack(latents)
    if mask is not None:
        mask = torch.cat([mask, mask.new_ones(packed.shape[:2])], dim=1)
    tokens: torch.Tensor = network(
        hidden_states=packed,
        timestep=time.to(latents.dtype) / THOUSAND,
        encoder_hidden_states=condition.hidden,
        txt_ids=torch.zeros(condition.hidden.shape[1], 3, device=latents.device),
        img_ids=packing.places(height, width, latents.device),
        attention_mask=mask,
        return_dict=False,
    )[0]
    return packing.unpack(tokens, height, width)


CHROMA = Chroma1()
"""The family."""
