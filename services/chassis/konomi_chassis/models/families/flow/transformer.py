"""What the families share whose transformer follows a flow, most of them by one language model's states.

Rows of texts that differ in length are padded and masked where they meet. Sides of images are multiples of a token's.
Text encoders are read, and may get rows for new words, but are never trained where a family does not say otherwise.
`packed_family` adds what those share that take patches as tokens.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families import latent_scale
from konomi_chassis.models.families.family import (
    LORA_TARGETS,
    CompanionNames,
    Found,
    FoundFile,
    FoundFolder,
    Noise,
    PartLoader,
    SingleFileNames,
    TransformerFile,
)
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import unsupported

if TYPE_CHECKING:
    import torch

    from konomi_chassis.models.families.condition import Condition

FLOW = "flow"
"""What their networks answer, as records say it."""
WEIGHTED = ("transformer", "vae", "text_encoder")
LARGEST_SIDE = 4096
FLUX1_LATENTS = CompanionNames(tiny_vae="flux1")
"""Of families whose published models have the autoencoder of FLUX.1."""


class FlowTransformer:
    """One of them; see Family. A subclass says its facts, how it encodes a text, answers, and what its noise is."""

    name: ClassVar[str]
    pipelines: ClassVar[tuple[str, ...]]
    loaded_as: ClassVar[str]
    kinds: ClassVar[tuple[str, str, str]]
    """Classes of transformer, text encoder and tokenizer it is loaded as, where it has one of each."""
    autoencoder: ClassVar[str] = "AutoencoderKL"
    """Class of the autoencoder it is loaded as."""
    states: ClassVar[str] = "cap_feat_dim"
    """What its transformer's configuration calls the width of a text's states."""
    components: ClassVar[Mapping[str, frozenset[tuple[str, str]]]]

    network: ClassVar[str] = "transformer"
    noise: ClassVar[Noise] = "flow"
    trains_by: ClassVar[str] = "FlowMatchEulerDiscreteScheduler"
    weighted: ClassVar[tuple[str, ...]] = WEIGHTED
    single_file: ClassVar[SingleFileNames | None] = None
    transformer_file: ClassVar[TransformerFile | None] = None
    fragile_autoencoder: ClassVar[bool] = True
    beside: ClassVar[CompanionNames] = CompanionNames()
    targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"transformer": LORA_TARGETS}
    words: ClassVar[Mapping[str, str]] = {"text_encoder": "emb_params"}

    def recognise(self, found: Found) -> bool:
        """Says whether a folder's pipeline is this one, or a file holds its transformer."""
        if isinstance(found, FoundFile):
            return self.transformer_file is not None and self.transformer_file.is_told_by(found.transformer)
        return found.pipeline in self.pipelines

    def check(self, found: Found) -> None:
        """Refuses a transformer that does not take the autoencoder's latents or the text encoder's states."""
        assert isinstance(found, FoundFolder)
        transformer = found.config("transformer")
        if transformer.get("in_channels", 16) != found.config("vae").get("latent_channels", 4):
            unsupported(found.id, "its transformer does not take the vae's latents")
        if transformer.get(self.states) != found.config("text_encoder").get("hidden_size"):
            unsupported(found.id, "its transformer does not take the text encoder's states")

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns that it answers the velocity of a flow."""
        return NoiseSchedule(FLOW)

    def load(self, parts: PartLoader) -> Any:
        """Returns its pipeline."""
        transformer, text_encoder, tokenizer = self.kinds
        return parts.pipeline(
            self.loaded_as,
            transformer=parts.network("transformer", transformer),
            vae=parts.autoencoder("vae", (self.autoencoder,)),
            text_encoder=parts.text_encoder("text_encoder", text_encoder),
            tokenizer=parts.tokenizer("tokenizer", tokenizer),
            scheduler=parts.scheduler(),
        )

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns the one tokenizer and text encoder."""
        return [(pipe.tokenizer, pipe.text_encoder)]

    def clip_skip(self, asked: int) -> int:
        """Returns 1: it reads its encoder's last layer but one."""
        return 1

    def drops_by_zeros(self, pipe: Any) -> bool:
        """Says that no text is an empty text."""
        return False

    def join(self, rows: Sequence["Condition"]) -> "Condition":
        """Returns the rows of all parts, padded and masked where their lengths differ."""
        from konomi_chassis.models.families import condition

        return condition.join(rows)

    def channels(self, pipe: Any) -> int:
        """Returns the channels of a latent."""
        return int(pipe.transformer.config.in_channels)

    def unit(self, pipe: Any) -> int:
        """Returns the pixels of a token's side: 2 x 2 cells of the latents are one."""
        return 2 * int(pipe.vae_scale_factor)

    def to_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns latents shifted and scaled as the transformer takes them."""
        return latent_scale.to_model(latents, vae)

    def from_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns latents as the autoencoder takes them."""
        return latent_scale.from_model(latents, vae)

    def is_guided(self, pipe: Any) -> bool:
        """Says that it has an unconditional half; a distilled one draws without, by its settings."""
        return True

    def with_guidance(self, pipe: Any, condition: "Condition", scale: float) -> "Condition":
        """Returns the condition as it is."""
        return condition

    def drawn(self, pipe: Any, latents: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
        """Returns the latents as they are."""
        return latents

    def layer_calls(self, component: str, name: str, pipe: Any, names: Sequence[str]) -> list[str]:
        """Returns diffusers', ComfyUI's and kohya's names of a layer."""
        if component != self.network:
            return [f"{component}.{name}"]
        kohya = [f"{head}_{name.replace('.', '_')}" for head in ("lora_unet", "lycoris")]
        return [f"{component}.{name}", name, f"diffusion_model.{name}", *kohya]


def own_states(states: "Sequence[torch.Tensor]") -> "Condition":
    """Returns texts as rows: T by D each, padded and masked to the longest where their lengths differ."""
    from konomi_chassis.models.families.condition import Condition, join

    return join([Condition(row[None]) for row in states])


def lengths(condition: "Condition") -> list[int]:
    """Returns how many states each row has of its own."""
    if condition.mask is None:
        return [condition.hidden.shape[1]] * len(condition.hidden)
    counted: list[int] = condition.mask.sum(1).tolist()
    return counted


def sensible_side(size: Any, usual: int) -> int:
    """Returns the side a configuration names where it is one, else the usual; pixels."""
    return size if isinstance(size, int) and 0 < size <= LARGEST_SIDE else usual
