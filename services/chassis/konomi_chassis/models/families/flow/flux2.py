"""FLUX.2 [klein]: states of three layers of Qwen3 side by side, latents whose patches are standardised.

Black Forest Labs 2026. The base models have an unconditional half; those that were distilled to four steps take no
guidance at all. The 4B models are under Apache-2.0, the 9B ones for non-commercial use. FLUX.2 [dev], which reads its
texts with Mistral, is another family.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families.family import (
    ActivationBytes,
    Defaults,
    ExportNames,
    Found,
    FoundFolder,
    Guiding,
    NoisePath,
    PartLoader,
    TextReading,
    TransformerFile,
)
from konomi_chassis.models.families.flow.flux import THOUSAND
from konomi_chassis.models.families.flow.packed_family import JOINT_TARGETS, PACKED, PackedFamily
from konomi_chassis.models.families.flow.qwen_image import QWEN_TOKENIZERS
from konomi_chassis.models.families.flow.transformer import FLOW
from konomi_chassis.models.families.layer_names import FLUX2_LAYERS, FLUX_LAST, HEAD
from konomi_chassis.models.model_settings import DrawingSettings
from konomi_chassis.models.noise_schedule import NoiseSchedule

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

TOKENS = 512
LAYERS = (9, 18, 27)
"""Of Qwen3, whose states stand side by side."""
TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""How Qwen3 reads a user's text before an answer that is not thought over: what its chat template makes, but written
here, so that no template of a folder is ever run."""
SINGLE_TARGET = "to_qkv_mlp_proj"
"""What a single block calls the layer that makes queries, keys, values and the feed-forward's input in one."""


class Flux2Klein(PackedFamily):
    """The family; see Family."""

    name: ClassVar[str] = "flux2_klein"
    pipelines: ClassVar[tuple[str, ...]] = ("Flux2KleinPipeline",)
    loaded_as: ClassVar[str] = "Flux2KleinPipeline"
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"), autoencoder=False
    )
    defaults: ClassVar[Defaults] = Defaults(
        side=1024,
        large=True,
        drawing=DrawingSettings(steps=50, guidance_scale=4.0, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=4, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=779, decoding=3076, encoding=2572, training=26910, checkpointed=2660),
        guiding=Guiding(apart=True),
    )
    exported: ClassVar[ExportNames] = ExportNames(
        base="flux2",
        architecture="flux-2-klein",
        pipeline="flux2",
        texts={},
        head=HEAD,
        layers=FLUX2_LAYERS,
        read=FLUX_LAST,
        peft_ends=True,
        implementation="https://github.com/black-forest-labs/flux2",
        bound="FLUX.2 [klein] 9B, and what was trained on it, is for non-commercial use; the 4B models are Apache-2.0.",
    )
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "Flux2Transformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKLFlux2")}),
        "text_encoder": frozenset({("transformers", "Qwen3ForCausalLM")}),
        "tokenizer": QWEN_TOKENIZERS,
    }
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"transformer": (*JOINT_TARGETS, SINGLE_TARGET)}

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns whether it was distilled, as its index says."""
        assert isinstance(found, FoundFolder)
        distilled = bool(found.index.get("is_distilled", False))
        return NoiseSchedule(FLOW, few_steps=distilled, unguided=distilled)

    def load(self, parts: PartLoader) -> Any:
        """Returns the Flux2KleinPipeline, distilled where its index says so."""
        return parts.pipeline(
            self.loaded_as,
            transformer=parts.network("transformer", "Flux2Transformer2DModel"),
            vae=parts.autoencoder("vae", ("AutoencoderKLFlux2",)),
            text_encoder=parts.text_encoder("text_encoder", "Qwen3ForCausalLM"),
            tokenizer=parts.tokenizer("tokenizer", "Qwen2TokenizerFast"),
            scheduler=parts.scheduler(),
            is_distilled=bool(parts.index().get("is_distilled", False)),
        )

    def chunk_states(self, pipe: Any) -> int:
        """Returns Qwen3's states, padding included."""
        return TOKENS

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded as the pipeline's own call does, whatever the syntax; padding is not masked."""
        import torch

        from konomi_chassis.models.families.condition import Condition

        turns = [TURN.format(text) for text in texts]
        tokens = pipe.tokenizer(turns, return_tensors="pt", padding="max_length", truncation=True, max_length=TOKENS)
        layers = pipe.text_encoder.model(
            input_ids=tokens.input_ids.to(device),
            attention_mask=tokens.attention_mask.to(device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        return Condition(torch.cat([layers[layer] for layer in LAYERS], dim=-1))

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how the pipeline's own call takes them."""
        return {"prompt_embeds": text.hidden, "negative_prompt_embeds": nothing.hidden}

    def is_guided(self, pipe: Any) -> bool:
        """Says whether it was not distilled."""
        return not pipe.config.is_distilled

    def drawn(self, pipe: Any, latents: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
        """Returns the latents in the transformer's numbers again."""
        return self.to_model(latents, pipe.vae)

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity."""
        from konomi_chassis.models.families import packing

        rows, _, height, width = latents.shape
        texts, pixels = condition.hidden.shape[1], packing.places(height, width, latents.device)
        own = pixels.new_zeros(texts, PACKED)  # frame, row, column, place in the text
        own[:, -1] = pixels.new_tensor(range(texts))
        tokens: torch.Tensor = network(
            hidden_states=packing.pack(latents).to(network.dtype),
            timestep=time.expand(rows).to(latents.dtype) / THOUSAND,
            guidance=None,
            encoder_hidden_states=condition.hidden,
            txt_ids=own,
            img_ids=packing.with_zero(pixels),
            return_dict=False,
        )[0]
        return packing.unpack(tokens, height, width)

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the flow of a scheduler, whose shift grows with the image and falls with the steps."""
        from konomi_chassis.models.families.flow.klein_path import KleinPath

        return KleinPath.of(scheduler, device, cells=PACKED, spaced=True)


FLUX2_KLEIN = Flux2Klein()
"""The family."""
