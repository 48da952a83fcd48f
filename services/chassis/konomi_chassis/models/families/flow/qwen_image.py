"""Qwen-Image: latents of an autoencoder for video, texts read by Qwen2.5-VL in a sentence of its own. Apache-2.0.

Wu et al. 2025 (2508.02324). What the sentence says before the text is dropped, so a text has as many states as tokens;
the guided answer keeps the length, token by token, of the answer to the prompt.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families.family import (
    ActivationBytes,
    Defaults,
    ExportNames,
    Guiding,
    TextReading,
    TransformerFile,
)
from konomi_chassis.models.families.flow.flux import THOUSAND
from konomi_chassis.models.families.flow.packed_family import JOINT_TARGETS, PackedFamily
from konomi_chassis.models.families.layer_names import HEAD
from konomi_chassis.models.model_settings import DrawingSettings

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

QWEN_TOKENIZERS = frozenset({("transformers", "Qwen2Tokenizer"), ("transformers", "Qwen2TokenizerFast")})
MOST_STATES = 512


class QwenImage(PackedFamily):
    """The family; see Family."""

    name: ClassVar[str] = "qwen_image"
    pipelines: ClassVar[tuple[str, ...]] = ("QwenImagePipeline",)
    loaded_as: ClassVar[str] = "QwenImagePipeline"
    kinds: ClassVar[tuple[str, str, str]] = (
        "QwenImageTransformer2DModel",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2Tokenizer",
    )
    autoencoder: ClassVar[str] = "AutoencoderKLQwenImage"
    latent_channels: ClassVar[str] = "z_dim"
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("transformer_blocks.0.attn.add_q_proj.weight", "txt_norm.weight", "img_in.weight"), autoencoder=False
    )
    defaults: ClassVar[Defaults] = Defaults(
        side=1024,
        large=True,
        drawing=DrawingSettings(steps=50, guidance_scale=4.0, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=8, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=380, decoding=6920, encoding=3869, training=36040, checkpointed=2563),
        text_unit=1,
        guiding=Guiding(rule="same_token_length", apart=True, argument="true_cfg_scale"),
    )
    exported: ClassVar[ExportNames] = ExportNames(
        base="qwen-image",
        architecture="qwen-image",
        pipeline="qwen-image",
        texts={},
        head=HEAD,
        implementation="https://github.com/QwenLM/Qwen-Image",
    )
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "QwenImageTransformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKLQwenImage")}),
        "text_encoder": frozenset({("transformers", "Qwen2_5_VLForConditionalGeneration")}),
        "tokenizer": QWEN_TOKENIZERS,
    }
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"transformer": JOINT_TARGETS}

    def chunk_states(self, pipe: Any) -> int:
        """Returns the most states a text has."""
        return MOST_STATES

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns how many states a text has."""
        begin = pipe.prompt_template_encode_start_idx
        return min(len(pipe.tokenizer(pipe.prompt_template_encode.format(text)).input_ids) - begin, MOST_STATES)

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded by the pipeline's own call, whatever the syntax: the model reads words alone."""
        from konomi_chassis.models.families.condition import Condition

        hidden, mask = pipe.encode_prompt(
            list(texts), device=device, num_images_per_prompt=1, max_sequence_length=MOST_STATES
        )
        return Condition(hidden, None, None if mask is None else mask.bool())

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how the pipeline's own call takes them."""
        return {
            "prompt_embeds": text.hidden,
            "prompt_embeds_mask": text.present(),
            "negative_prompt_embeds": nothing.hidden,
            "negative_prompt_embeds_mask": nothing.present(),
        }

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity."""
        from konomi_chassis.models.families import packing

        rows, _, height, width = latents.shape
        condition = condition.trimmed()
        tokens: torch.Tensor = network(
            hidden_states=packing.pack(latents),
            timestep=time.expand(rows).to(latents.dtype) / THOUSAND,
            encoder_hidden_states=condition.hidden,
            encoder_hidden_states_mask=condition.mask,
            img_shapes=[[(1, height // 2, width // 2)]] * rows,
            return_dict=False,
        )[0]
        return packing.unpack(tokens, height, width)


QWEN_IMAGE = QwenImage()
"""The family."""
