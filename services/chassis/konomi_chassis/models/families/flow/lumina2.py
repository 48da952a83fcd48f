"""Lumina Image 2.0: one stream of text and image, Gemma 2 reads the text behind a system prompt, 16 channels.

Qin et al. 2025 (2503.21758). Its time runs from noise 0 to image 1 and its answer points from noise to image, so both
are turned round here. What to keep away from, and no text, have no system prompt, as diffusers has it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families.family import (
    ActivationBytes,
    CompanionNames,
    Defaults,
    ExportNames,
    Found,
    FoundFolder,
    Guiding,
    NoisePath,
    TextReading,
    TransformerFile,
)
from konomi_chassis.models.families.flow.transformer import FLUX1_LATENTS, FlowTransformer, own_states, sensible_side
from konomi_chassis.models.families.layer_names import HEAD, LUMINA2_LAYERS
from konomi_chassis.models.model_settings import DrawingSettings
from konomi_chassis.models.noise_schedule import NoiseSchedule

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

TEXT_TOKENS = 256
"""Tokens of a text that are read, those of the system prompt among them; shorter ones are filled up to as many."""
PROMPT_MARK = " <Prompt Start> "
"""What stands between system prompt and text."""
VAE_SCALE, CELLS = 8, 128
"""Pixels of a latent's cell, and cells of a side where the transformer does not say."""
LATENT_CHANNELS = 16


class Lumina2(FlowTransformer):
    """The family; see Family."""

    name: ClassVar[str] = "lumina2"
    pipelines: ClassVar[tuple[str, ...]] = ("Lumina2Pipeline", "Lumina2Text2ImgPipeline")
    loaded_as: ClassVar[str] = "Lumina2Pipeline"
    beside: ClassVar[CompanionNames] = FLUX1_LATENTS
    kinds: ClassVar[tuple[str, str, str]] = ("Lumina2Transformer2DModel", "Gemma2Model", "GemmaTokenizerFast")
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "Lumina2Transformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKL")}),
        "text_encoder": frozenset({("transformers", "Gemma2Model")}),
        "tokenizer": frozenset({("transformers", "GemmaTokenizer"), ("transformers", "GemmaTokenizerFast")}),
    }
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("cap_embedder.1.weight", "layers.0.attention.qkv.weight"), lacks=("x_pad_token",)
    )
    exported: ClassVar[ExportNames] = ExportNames(
        base="lumina2",
        architecture="lumina-2",
        pipeline="lumina-image-2",
        texts={},
        head=HEAD,
        layers=LUMINA2_LAYERS,
        peft_ends=True,
        implementation="https://github.com/Alpha-VLLM/Lumina-Image-2.0",
    )
    defaults: ClassVar[Defaults] = Defaults(
        side=VAE_SCALE * CELLS,
        large=True,
        drawing=DrawingSettings(steps=30, guidance_scale=4.0, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=8, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=507, decoding=3073, encoding=2573, training=21591, checkpointed=2912),
        text_unit=1,
        guiding=Guiding(rule="same_length", apart=True),
    )

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of the images it was trained for, pixels."""
        assert isinstance(found, FoundFolder)
        return sensible_side(found.config("transformer").get("sample_size"), CELLS) * VAE_SCALE

    def chunk_states(self, pipe: Any) -> int:
        """Returns 1."""
        return 1

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns how many states a text has."""
        return min(len(pipe.tokenizer(pipe.system_prompt + PROMPT_MARK + text).input_ids), TEXT_TOKENS)

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded by the pipeline's own call; marks of emphasis are words to it.

        No text, and what to keep away from, are read without the system prompt.
        """
        encoded: dict[str, torch.Tensor] = {}
        for bare in (True, False):
            given = [text for text in dict.fromkeys(texts) if (reading.negative or not text) == bare]
            if given:
                encoded |= zip(given, _read(pipe, given, device, bare=bare), strict=True)
        return own_states([encoded[text] for text in texts])

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, Any]:
        """Returns how the pipeline's own call takes them: both as long, with their masks."""
        text, nothing = _filled(text), _filled(nothing)
        return {
            "prompt_embeds": text.hidden,
            "prompt_attention_mask": text.mask,
            "negative_prompt_embeds": nothing.hidden,
            "negative_prompt_attention_mask": nothing.mask,
        }

    def trained_side(self, pipe: Any) -> int:
        """Returns the side of the images it was trained for, pixels."""
        return sensible_side(pipe.transformer.config.sample_size, CELLS) * VAE_SCALE

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity, the network's answer turned round."""
        condition = _filled(condition)
        answer: torch.Tensor = network(
            hidden_states=latents,
            timestep=(1 - time / 1000).expand(len(latents)),
            encoder_hidden_states=condition.hidden,
            encoder_attention_mask=condition.mask,
            return_dict=False,
        )[0]
        return -answer

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the flow of a scheduler; where its shift goes by size, the pipeline takes channels for tokens."""
        from konomi_chassis.models.families.flow.flow_path import FlowPath, ShiftByTokens

        path = FlowPath.of(scheduler, device, spaced=True)
        if path.shift is None:
            return path
        always = path.shift.at(LATENT_CHANNELS)
        return replace(path, shift=ShiftByTokens(least=always, largest=always))


def _read(pipe: Any, texts: list[str], device: "torch.device", *, bare: bool) -> "list[torch.Tensor]":
    """Returns the states of texts, each as long as it is."""
    if bare:
        hidden, mask = pipe._get_gemma_prompt_embeds(texts, device, TEXT_TOKENS)
    else:
        hidden, mask, _, _ = pipe.encode_prompt(
            texts, do_classifier_free_guidance=False, device=device, max_sequence_length=TEXT_TOKENS
        )
    return [states[own.bool()] for states, own in zip(hidden, mask, strict=True)]


def _filled(condition: "Condition") -> "Condition":
    """Returns texts as the transformer gets them: filled up, with a mask."""
    condition = condition.padded(max(TEXT_TOKENS, condition.hidden.shape[1]))
    if condition.mask is None:
        import torch

        condition = replace(condition, mask=torch.ones_like(condition.hidden[..., 0], dtype=torch.bool))
    return condition


LUMINA2 = Lumina2()
"""The family."""
