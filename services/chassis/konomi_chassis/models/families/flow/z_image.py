"""Z-Image and Z-Image-Turbo: one stream of text and image, Qwen 3 reads the text, latents of 16 channels.

Z-Image: 2511.22699. Turbo is the same network distilled to eight steps without guidance: Decoupled DMD (2511.22677).
Its time runs from noise 0 to image 1 and its answer points from noise to image, so both are turned round here. A
published Turbo says so by its name, and by the shift of its scheduler, 3 where Z-Image has 6.
"""

from collections.abc import Mapping, Sequence
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
    PartLoader,
    TextReading,
    TransformerFile,
)
from konomi_chassis.models.families.flow.transformer import (
    FLOW,
    FLUX1_LATENTS,
    FlowTransformer,
    lengths,
    own_states,
    sensible_side,
)
from konomi_chassis.models.families.layer_names import HEAD, Z_IMAGE_LAYERS
from konomi_chassis.models.model_settings import DrawingSettings
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import unsupported

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

TEXT_TOKENS = 512
"""Tokens of a text that are read, those of the chat around it among them."""
TEXT_UNIT = 32
"""The transformer brings every text to a multiple of so many states."""
SIDE = 1024
TURBO_SHIFT = 3.0
PATCH = 2
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
"""The chat Qwen 3 is asked to answer, thinking allowed. A folder's own template, a program, is never run."""


class ZImage(FlowTransformer):
    """The family; see Family."""

    name: ClassVar[str] = "z_image"
    pipelines: ClassVar[tuple[str, ...]] = ("ZImagePipeline", "ZImageImg2ImgPipeline")
    loaded_as: ClassVar[str] = "ZImagePipeline"
    beside: ClassVar[CompanionNames] = FLUX1_LATENTS
    kinds: ClassVar[tuple[str, str, str]] = ("ZImageTransformer2DModel", "Qwen3Model", "Qwen2Tokenizer")
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]] = {
        "transformer": frozenset({("diffusers", "ZImageTransformer2DModel")}),
        "vae": frozenset({("diffusers", "AutoencoderKL")}),
        "text_encoder": frozenset({("transformers", "Qwen3Model"), ("transformers", "Qwen3ForCausalLM")}),
        "tokenizer": frozenset({("transformers", "Qwen2Tokenizer"), ("transformers", "Qwen2TokenizerFast")}),
    }
    transformer_file: ClassVar[TransformerFile] = TransformerFile(
        ("cap_embedder.1.weight", "layers.0.attention_norm1.weight", "x_pad_token", "cap_pad_token")
    )
    exported: ClassVar[ExportNames] = ExportNames(
        base="zimage",
        architecture="z-image",
        pipeline="z-image",
        texts={},
        head=HEAD,
        read=Z_IMAGE_LAYERS,
        implementation="https://github.com/Tongyi-MAI/Z-Image",
    )
    defaults: ClassVar[Defaults] = Defaults(
        side=SIDE,
        large=True,
        drawing=DrawingSettings(steps=40, guidance_scale=5.0, prompt_syntax="plain"),
        few_step=DrawingSettings(steps=8, guidance_scale=1.0, prompt_syntax="plain"),
        half="bf16",
        activations=ActivationBytes(drawing=537, decoding=3073, encoding=2573, training=36977, checkpointed=2491),
        text_unit=TEXT_UNIT,
        whole_latents=True,
        guiding=Guiding(rule="from_text", nothing=0.0),
    )

    def check(self, found: Found) -> None:
        """Refuses parts that do not fit each other, patches of another size, and one that reads pictures too."""
        super().check(found)
        assert isinstance(found, FoundFolder)
        transformer = found.config("transformer")
        if PATCH not in transformer.get("all_patch_size", [PATCH]):
            unsupported(found.id, f"its transformer has no patches of {PATCH} x {PATCH}")
        if transformer.get("siglip_feat_dim") is not None:
            unsupported(found.id, "its transformer reads pictures beside the text (Z-Image-Omni)")

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns that it answers the velocity of a flow, and whether its scheduler is the Turbo's."""
        assert isinstance(found, FoundFolder)
        return NoiseSchedule(FLOW, few_steps=found.config("scheduler").get("shift") == TURBO_SHIFT)

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of the images it was trained for, pixels: its autoencoder's says it."""
        assert isinstance(found, FoundFolder)
        return sensible_side(found.config("vae").get("sample_size"), SIDE)

    def load(self, parts: PartLoader) -> Any:
        """Returns the ZImagePipeline, which puts texts into the family's own chat."""
        pipe = super().load(parts)
        pipe.tokenizer.chat_template = CHAT
        return pipe

    def chunk_states(self, pipe: Any) -> int:
        """Returns 32."""
        return TEXT_UNIT

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns how many times 32 states a text has."""
        chat = pipe.tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
        count = min(len(pipe.tokenizer(chat).input_ids), TEXT_TOKENS)
        return -(-count // TEXT_UNIT)

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded by the pipeline's own call; marks of emphasis are words to it."""
        given = list(texts)
        states, _ = pipe.encode_prompt(
            given, device=device, do_classifier_free_guidance=False, max_sequence_length=TEXT_TOKENS
        )
        return own_states(states)

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, Any]:
        """Returns how the pipeline's own call takes them: lists of texts, each as long as it is."""
        return {"prompt_embeds": _rows(text), "negative_prompt_embeds": _rows(nothing)}

    def trained_side(self, pipe: Any) -> int:
        """Returns the side of the images it was trained for, pixels."""
        return sensible_side(pipe.vae.config.get("sample_size"), SIDE)

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the velocity, the network's answer turned round."""
        import torch

        images = list(latents.unsqueeze(2).unbind())
        reversed_time = (1000 - time.expand(len(latents))) / 1000
        answers = network(images, reversed_time, _rows(condition), return_dict=False)[0]
        return -torch.stack(answers).squeeze(2)

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the flow of a scheduler, its steps spaced as the pipeline does."""
        from konomi_chassis.models.families.flow.flow_path import FlowPath

        return FlowPath.of(scheduler, device, spaced=True, single=True)


def _rows(condition: "Condition") -> "list[torch.Tensor]":
    return [states[:length] for states, length in zip(condition.hidden, lengths(condition), strict=True)]


Z_IMAGE = ZImage()
"""The family."""
