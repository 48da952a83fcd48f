"""What a family of base models answers, and what its noise is: the two protocols every other room goes by.

A family is one file that makes a `Family` and one line in `table`. Facts stand in it as they are; what computes
imports torch where it is called, since the catalogue reads this room in processes that have none.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from konomi_chassis.models.model_settings import DrawingSettings
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import Header, TensorEntry

if TYPE_CHECKING:
    import numpy as np
    import torch

    from konomi_chassis.models.families.condition import Condition

TRANSFORMER = "model.diffusion_model."
"""What stands before the names of what denoises in a whole checkpoint; a file of it alone has nothing there."""
AUTOENCODERS = ("vae.", "first_stage_model.")
"""Likewise of an autoencoder, one or the other."""
BESIDE = (*AUTOENCODERS, "text_encoders.", "cond_stage_model.", "conditioner.", "model_ema.")
"""Likewise of all that stands beside."""
Noise = Literal["diffusion", "flow"]
"""How a family's noise grows, which decides whose schedulers can draw with it."""
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers of attention an adapter sits on, as diffusers calls them."""
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")
"""Likewise of a text encoder, as transformers calls them."""


@dataclass(frozen=True)
class FoundFolder:
    """A checked diffusers folder.

    Attributes:
        id: of the base model.
        index: its model_index.json.
        config: component → its configuration; raises FailedPrecondition where it is missing or no JSON.
    """

    id: str
    index: Mapping[str, Any]
    config: Callable[[str], Mapping[str, Any]]

    @property
    def pipeline(self) -> str:
        """Class of its pipeline, as it says."""
        return str(self.index.get("_class_name"))


@dataclass(frozen=True)
class FoundFile:
    """A checked single file: id of the base model, where it lies, its header."""

    id: str
    path: Path
    header: Header

    @property
    def head(self) -> str:
        """What stands before the names of its transformer's tensors, where it has one."""
        return TRANSFORMER if any(name.startswith(TRANSFORMER) for name in self.header.tensors) else ""

    @cached_property
    def transformer(self) -> Mapping[str, TensorEntry]:
        """Its transformer's tensors by name without head; what stands beside them in a whole checkpoint left out."""
        named = self.header.tensors.items()
        if self.head:
            return {name.removeprefix(self.head): entry for name, entry in named if name.startswith(self.head)}
        return {name: entry for name, entry in named if not name.startswith(BESIDE)}


Found = FoundFolder | FoundFile


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes that come and go for every pixel of an image: the network's in half precision, the rest in float32.

    Of a family with models of several sizes they are the largest's.

    Attributes:
        drawing: of a row that is denoised.
        decoding: of the image that is decoded.
        encoding: of the image that is encoded.
        training: of a row of a training step that keeps its activations.
        checkpointed: of a row of a step that makes them twice.
    """

    drawing: int
    decoding: int
    encoding: int
    training: int
    checkpointed: int


@dataclass(frozen=True)
class SingleFileNames:
    """What single files of a family call things.

    Attributes:
        heads: component → what stands before its weights' names.
        open_clip: components that hold OpenCLIP's text encoder.
        counted: component → what the names of all begin with that is counted as its weights.
        pads: tokenizer → its padding token.
    """

    heads: Mapping[str, str]
    counted: Mapping[str, str]
    open_clip: frozenset[str] = frozenset()
    pads: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TransformerFile:
    """How single files of a family are told that hold its transformer and perhaps its autoencoder, but no whole model.

    Attributes:
        has: names of tensors that all of them have, without what may stand before the transformer's.
        lacks: those that none of them has.
        autoencoder: whether the autoencoder of one that holds it is read.
    """

    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    autoencoder: bool = True

    def is_told_by(self, names: Collection[str]) -> bool:
        """Says whether a file whose transformer has tensors of these names is one."""
        return all(name in names for name in self.has) and not any(name in names for name in self.lacks)


@dataclass(frozen=True)
class OriginalLayer:
    """A layer as a family's authors have it, which diffusers may keep in parts.

    Attributes:
        name: theirs, with {} for the number of a block.
        parts: diffusers' names likewise, in the order in which their outputs lie in one.
        widths: outputs of each part by those of the first; empty where all have as many.
        turned: whether the one part has the second half of its outputs first.
    """

    name: str
    parts: tuple[str, ...]
    widths: tuple[int, ...] = ()
    turned: bool = False


@dataclass(frozen=True)
class ExportNames:
    """What other programs call a family and its parts in the headers of LoRA files.

    Attributes:
        base: kohya's `ss_base_model_version`.
        second: whether it is Stable Diffusion 2's (`ss_v2`), whose v-prediction models kohya tells apart by a "_v".
        architecture: modelspec's, of a whole checkpoint.
        pipeline: tag of a model card.
        texts: text encoder → what stands before its layers' names.
        original_blocks: whether the network's layers go by their original block numbers.
        head: what stands before the names of the network's layers in a LoRA for ComfyUI, where it is not kohya's; empty
            where it is, or nothing is known.
        layers: the network's layers where they are not diffusers' own.
        read: those that files of other programs have in place of diffusers' own, and no export has.
        peft_ends: whether such a LoRA calls its factors as peft does, and names no alpha.
        implementation: modelspec's, of the family's code.
        bound: what the licence of some of the family's models forbids, in a sentence for model cards; "" where nothing.
    """

    base: str
    architecture: str
    pipeline: str
    texts: Mapping[str, str]
    second: bool = False
    original_blocks: bool = False
    head: str = ""
    layers: tuple[OriginalLayer, ...] = ()
    read: tuple[OriginalLayer, ...] = ()
    peft_ends: bool = False
    implementation: str = "https://github.com/Stability-AI/generative-models"
    bound: str = ""


@dataclass(frozen=True)
class CompanionNames:
    """What stands beside models of a family, as its authors call the files; the first that is there counts.

    Attributes:
        few_step: few-step adapters.
        ip_adapter: IP-Adapters.
        fetched: how `konomi models fetch` names the family in both; empty where it brings neither.
        tiny_vae: the tiny autoencoder that makes previews; empty where there is none.
    """

    few_step: Sequence[str] = ()
    ip_adapter: Sequence[str] = ()
    fetched: str = ""
    tiny_vae: str = ""


@dataclass(frozen=True)
class Guiding:
    """How a family's pipelines guide; konomi's own number w is that of Ho and Salimans 2022, where 1 is none.

    Attributes:
        rule: how the answers with and without a text become one; see `guidance`.
        apart: whether the pipelines ask for the two one after the other.
        nothing: what the pipelines' own number is where w is 1.
        argument: what their calls call it.
    """

    rule: Literal["plain", "from_text", "same_length", "same_token_length"] = "plain"
    apart: bool = False
    nothing: float = 1.0
    argument: str = "guidance_scale"

    def theirs(self, scale: float) -> float:
        """Returns what the pipelines call w."""
        return scale - 1 + self.nothing


@dataclass(frozen=True)
class Defaults:
    """Numbers of a family where nobody says otherwise.

    Attributes:
        side: of a single file's images, pixels.
        large: whether one card holds few of its images, so that a training step takes fewer and checkpoints.
        aligned_steps: name of the published noise levels of Align Your Steps in diffusers; empty where there are none.
        activations: what comes and goes in memory; None where nobody has counted it.
        drawing: how a model draws whose name says nothing of it.
        few_step: how one draws that was distilled; None goes by what it was distilled with.
        half: the half precision its network computes in on a card.
        text_unit: states whose number tells apart which texts fit together to the last bit; 0 where any do.
        whole_latents: whether latents are float32 between the steps whatever the network computes in.
        guiding: how its pipelines guide.
    """

    side: int
    large: bool = False
    aligned_steps: str = ""
    activations: ActivationBytes | None = None
    drawing: DrawingSettings = field(default_factory=DrawingSettings)
    few_step: DrawingSettings | None = None
    half: Literal["fp16", "bf16"] = "fp16"
    text_unit: int = 0
    whole_latents: bool = False
    guiding: Guiding = field(default_factory=Guiding)


@dataclass(frozen=True)
class TextReading:
    """How texts are read.

    Attributes:
        syntax: "plain" as the pipeline's own call reads, "weighted" with emphasis and of any length.
        clip_skip: which layer counts, from the end, where the family leaves that open.
        length: chunks at least; what is missing is filled up by empty ones.
        most: chunks that are read at most; 0 reads all.
        together: chunks that go through an encoder at once; 1 keeps their bits free of one another.
        negative: whether the texts are what to keep away from.
    """

    syntax: str = "plain"
    clip_skip: int = 1
    length: int = 1
    most: int = 0
    together: int = 1
    negative: bool = False


class PartLoader(Protocol):
    """Brings the parts of one checked model, from its folder or its file; a kind is a class of the libraries'."""

    def index(self) -> Mapping[str, Any]:
        """Returns the model_index.json, of a single file the bundled one."""

    def network(self, part: str, kind: str) -> Any:
        """Returns what denoises, in the number format that was asked for it."""

    def autoencoder(self, part: str, kinds: Sequence[str]) -> Any:
        """Returns the autoencoder, of the class among these that its configuration names, else the first."""

    def text_encoder(self, part: str, kind: str) -> Any:
        """Returns a text encoder."""

    def tokenizer(self, part: str, kind: str) -> Any:
        """Returns a tokenizer."""

    def scheduler(self) -> Any:
        """Returns the scheduler."""

    def pipeline(self, kind: str, **parts: Any) -> Any:
        """Returns the pipeline of these parts."""


class NoisePath(Protocol):
    """How an image becomes noise and comes back: times, what the network sees at them and what it should answer.

    A time is what the network is given. Latents, noise and answers are (B, C, h, w), times (B,).
    """

    @property
    def length(self) -> int:
        """How many times there are; of a path that is continuous, how finely it is cut."""

    def draw(self, rng: "np.random.Generator", count: int, cells: int) -> "torch.Tensor":
        """Returns (count,) times of a training step, for latents of so many cells."""

    def at(self, share: float) -> "torch.Tensor":
        """Returns the time, a number, that a share in 0..1 of all times come before."""

    def noisy(self, latents: "torch.Tensor", noise: "torch.Tensor", times: "torch.Tensor") -> "torch.Tensor":
        """Returns what the network sees."""

    def target(self, latents: "torch.Tensor", noise: "torch.Tensor", times: "torch.Tensor") -> "torch.Tensor":
        """Returns what the network should answer. Raises FailedPrecondition where nobody trains such a network."""

    def clean(self, seen: "torch.Tensor", answer: "torch.Tensor", time: Any) -> "torch.Tensor":
        """Returns what the network thinks the latents are, from what it saw at one time and its answer."""

    def weight(self, times: "torch.Tensor", gamma: float) -> "torch.Tensor":
        """Returns (B,) what each row counts in the loss; 1 where gamma is 0."""

    def timesteps(self, scheduler: Any, steps: int, device: "torch.device", cells: int) -> "torch.Tensor":
        """Gives a scheduler so many steps for latents of so many cells, and returns its timesteps."""

    def steps_run(self, steps: int, strength: float) -> int:
        """Returns how many of so many steps a picture runs through that is changed with a strength in 0..1."""

    def begin(self, scheduler: Any, noise: "torch.Tensor", latents: "torch.Tensor | None", time: Any) -> "torch.Tensor":
        """Returns what sampling starts from: noise alone, or (B,) times' worth of it on given latents."""

    def scaled(self, scheduler: Any, latents: "torch.Tensor", time: Any) -> "torch.Tensor":
        """Returns a scheduler's latents as the network takes them."""


class Family(Protocol):
    """A family of base models; facts first."""

    @property
    def name(self) -> str:
        """The layout, in the catalogue, records and messages."""

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Classes a model_index.json may name."""

    @property
    def loaded_as(self) -> str:
        """Class of the pipeline that `load` makes."""

    @property
    def network(self) -> str:
        """Component that denoises, which adapters sit on: "unet" or "transformer"."""

    @property
    def noise(self) -> Noise:
        """How its noise grows."""

    @property
    def trains_by(self) -> str:
        """Diffusers' scheduler whose numbers training goes by."""

    @property
    def components(self) -> Mapping[str, frozenset[tuple[str, str]]]:
        """Component → the libraries' classes it may be of, scheduler apart."""

    @property
    def weighted(self) -> tuple[str, ...]:
        """Components that have weights, in the order they are counted."""

    @property
    def targets(self) -> Mapping[str, tuple[str, ...]]:
        """Component → names of the layers an adapter sits on."""

    @property
    def words(self) -> Mapping[str, str]:
        """Text encoders that can learn new words, each → what other programs call its rows; empty where none can."""

    @property
    def single_file(self) -> SingleFileNames | None:
        """Names of its single files; None where it has none."""

    @property
    def transformer_file(self) -> TransformerFile | None:
        """How single files are told that hold its transformer alone; None where it has none."""

    @property
    def exported(self) -> ExportNames:
        """What other programs call it."""

    @property
    def beside(self) -> CompanionNames:
        """What stands beside its models."""

    @property
    def defaults(self) -> Defaults:
        """Numbers where nobody says otherwise."""

    @property
    def fragile_autoencoder(self) -> bool:
        """Whether the autoencoder overflows in half precision where its configuration says so."""

    def recognise(self, found: Found) -> bool:
        """Says whether a folder or file is of this family, broken or not; the table asks in its order."""

    def check(self, found: Found) -> None:
        """Raises FailedPrecondition (MODEL_LAYOUT) where one of this family is of a kind that cannot be run."""

    def schedule(self, found: Found) -> NoiseSchedule:
        """Returns what it says of its noise. Raises FailedPrecondition (MODEL_LAYOUT) where that cannot be run."""

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of the images it was trained for, pixels."""

    def load(self, parts: PartLoader) -> Any:
        """Returns its pipeline."""

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns tokenizer and text encoder of a pipeline, pair by pair."""

    def clip_skip(self, asked: int) -> int:
        """Returns the layer that counts where one was asked for: the family may have its own."""

    def chunk_states(self, pipe: Any) -> int:
        """Returns the hidden states of one chunk of a text."""

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns how many chunks a text has."""

    def encode(self, pipe: Any, texts: Sequence[str], reading: TextReading, device: "torch.device") -> "Condition":
        """Returns texts encoded, a row each; gradients flow where the caller lets them."""

    def drops_by_zeros(self, pipe: Any) -> bool:
        """Says whether no text at all is zeros, and not an empty text encoded."""

    def join(self, rows: Sequence["Condition"]) -> "Condition":
        """Returns the rows of all parts as one batch: padded and masked where their lengths differ."""

    def arguments(self, text: "Condition", nothing: "Condition") -> dict[str, "torch.Tensor"]:
        """Returns how diffusers' own call of the pipeline takes an encoded text and no text."""

    def channels(self, pipe: Any) -> int:
        """Returns the channels of a latent."""

    def trained_side(self, pipe: Any) -> int:
        """Returns the side of the images a pipeline's network was made for, pixels."""

    def unit(self, pipe: Any) -> int:
        """Returns what the sides of images must be multiples of, pixels."""

    def to_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns an autoencoder's (…, C, h, w) latents as the network takes them."""

    def from_model(self, latents: "torch.Tensor", vae: Any) -> "torch.Tensor":
        """Returns the network's (…, C, h, w) latents as an autoencoder takes them."""

    def is_guided(self, pipe: Any) -> bool:
        """Says whether the network has an unconditional half; a distilled one takes the guidance as a number."""

    def with_guidance(self, pipe: Any, condition: "Condition", scale: float) -> "Condition":
        """Returns the condition of a distilled network with the guidance; that of any other as it is."""

    def drawn(self, pipe: Any, latents: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
        """Returns what diffusers' call of the pipeline gives as latents, as the network takes them.

        Args:
            pipe: the pipeline.
            latents: what the call returned for output_type "latent".
            height: of the images, pixels.
            width: likewise.

        Returns:
            (N, C, h, w) latents.
        """

    def answer(
        self, network: Any, latents: "torch.Tensor", time: "torch.Tensor", condition: "Condition"
    ) -> "torch.Tensor":
        """Returns the network's (B, C, h, w) answer to latents at a time, one for all rows or (B,)."""

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the noise of a model, by a scheduler with its configuration."""

    def layer_calls(self, component: str, name: str, pipe: Any, names: Sequence[str]) -> list[str]:
        """Returns what adapter files call a layer of a component.

        Args:
            component: of the pipeline.
            name: of the layer.
            pipe: the pipeline.
            names: of all the component's layers.
        """
