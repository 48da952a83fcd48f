"""What a night takes of a card on a base model, by count, before it starts: at rest, at its peak, and at the least.

Weights are counted from the files. What comes and goes while the networks run is proportional to the pixels that are
in work, so one number a family says it; tests count them on the published shapes without a GPU. A GPU's allocator and
kernels add to it, which ALLOWANCE stands for.
"""

from dataclasses import dataclass
from typing import Literal

from konomi_chassis.models.catalogue import BaseModel
from konomi_chassis.models.families.family import ActivationBytes, Family
from konomi_chassis.models.families.quantization import NONE, PACKED_BYTES
from konomi_chassis.models.families.table import find

Fit = Literal["whole", "reduced", "none"]
"""Whether a night fits as it is set, with fewer images at once and parts that wait on the host, or not at all."""
CONTEXT_BYTES = 500_000_000
"""What the driver takes of a card for each process that computes on it."""
ALLOWANCE = 1.1
"""What comes and goes is multiplied by it."""
HALF, WHOLE = 2, 4
WIDTHS = {"fp32": WHOLE, "bf16": HALF, "fp16": HALF}
"""Bytes of a weight by the name of its number format."""
BATCH, LARGE_BATCH = 16, 4
"""Images of a training step where nobody says: for SDXL's class the second."""
ROOM_BYTES = 48 << 30
"""Memory of a card from which on SDXL trains at its batch without making activations twice."""
BLOCK_BYTES = 256 << 20
"""Largest block of a UNet that goes through the device block by block."""
ADAPTER_SHARE, ADAPTER_BYTES = 0.005, 16
"""Weights of a LoRA of rank 8 by those of its UNet, and bytes of each: weight, gradient, two moments, in float32."""
GUIDED = 2
"""Rows of the UNet for an image: with the prompt and without."""
SCORED_TOGETHER = 64
SCORED_BYTES = 13_000_000
"""What an image takes while it is embedded by a ViT-L/14 in float32, at the most."""


@dataclass(frozen=True)
class MemoryNeed:
    """What one service takes of the card, bytes.

    Attributes:
        service: "generator", "trainer" or "rater".
        at_rest: between two requests.
        at_peak: as it is set.
        at_least: at its peak with one image at once and parts that wait on the host.
    """

    service: str
    at_rest: int
    at_peak: int
    at_least: int


@dataclass(frozen=True)
class NightMemory:
    """What a night takes of a card.

    Attributes:
        needs: of each service.
        peak, least: most that is taken at once, as set and at the least, with the driver's share; bytes.
    """

    needs: tuple[MemoryNeed, ...]
    peak: int
    least: int

    def fit(self, card_bytes: int) -> Fit:
        """Says whether the night fits on a card of so many bytes."""
        return "whole" if self.peak <= card_bytes else "reduced" if self.least <= card_bytes else "none"


@dataclass(frozen=True)
class NightShape:
    """What decides how much a night takes besides the base.

    Attributes:
        precision_bytes: of a weight of the generator: 2 in half precision, 4 in float32.
        trained_bytes: of a frozen weight of the UNet that is trained, likewise.
        images_together: images denoised at once.
        rows_together: images of a training step that go through the network together.
        checkpointing: whether activations are made twice.
        rater_bytes: of the rater's weights; those of a ViT-B/32 in float32 where nobody says.
        few_step_bytes: of the few-step adapter that stands beside the base; 0 where there is none.
        drawn_as: in how many bits the generator keeps a flow transformer: "none", "int8", "nf4"; see quantization.
        trained_as: likewise the trainer.
        on_card: whether the networks run on a card, where those of the trainer wait for each other on the host.
    """

    precision_bytes: int = HALF
    trained_bytes: int = HALF
    images_together: int = 4
    rows_together: int = 4
    checkpointing: bool = True
    rater_bytes: int = 610_000_000
    few_step_bytes: int = 0
    drawn_as: str = NONE
    trained_as: str = NONE
    on_card: bool = True


@dataclass(frozen=True)
class _CountedModel:
    """A base model as its parts are counted, by what its family calls them."""

    model: BaseModel
    family: Family
    activations: ActivationBytes

    @property
    def pixels(self) -> int:
        return self.model.resolution**2

    def weights(self, part: str, width: int) -> int:
        return self.model.parameters.get(part, 0) * width

    def network(self, width: int, quantization: str = NONE) -> int:
        """Returns the bytes of the network, with the one layer that is unpacked at a time where it is quantised."""
        whole = self.weights(self.family.network, width)
        if quantization == NONE or not self.model.quantizable:
            return whole
        saved = self.model.quantizable * (width - PACKED_BYTES[quantization])
        return round(whole - saved + self.model.largest_layer * width)

    def texts(self, width: int) -> int:
        return sum(self.weights(part, width) for part in self.family.weighted if part.startswith("text_encoder"))

    def resident(self, width: int, quantization: str = NONE) -> int:
        """Returns the bytes of the network on a card where it is trained block by block; all of it where it is not."""
        whole = self.network(width, quantization)
        return min(whole, self.model.resident * width) if self.model.resident else whole

    def text_width(self) -> int:
        """Returns the bytes of a weight of the text encoders while they are read on a card."""
        return HALF if reads_in_bf16(self.family) else WHOLE

    def adapter(self) -> float:
        return self.model.parameters.get(self.family.network, 0) * ADAPTER_SHARE * ADAPTER_BYTES


def reads_in_bf16(family: Family) -> bool:
    """Says whether a family's text encoders are read in bfloat16 on a card, as its pipelines do, and not in float32."""
    return family.noise == "flow"


def trains_in_blocks(model: BaseModel, width: int, card_bytes: int, quantization: str = NONE) -> bool:
    """Says whether a transformer's blocks come to a card one by one while it is trained, for all of it does not fit.

    Args:
        model: the base.
        width: bytes of a weight of the network.
        card_bytes: memory of the card.
        quantization: in how many bits the network lies.
    """
    family = find(model.layout)
    if family is None or family.defaults.activations is None or not model.resident:
        return False
    counted = _CountedModel(model, family, family.defaults.activations)
    taken = NightShape().rater_bytes + 3 * CONTEXT_BYTES
    return taken + counted.network(width, quantization) + _step(counted, width) > card_bytes


def _step(model: _CountedModel, width: int) -> float:
    """Returns the bytes of an adapter and of one row of a step that makes its activations twice."""
    return model.adapter() + model.activations.checkpointed * model.pixels * width / HALF * ALLOWANCE


def night_memory(model: BaseModel, shape: NightShape) -> NightMemory | None:
    """Returns what a night on a base model takes of a card; None where another program holds the model.

    The generator gives its memory back before a run trains, and the trainer's process ends with its run (the driver's
    share with it), so the two never meet; the rater stays.
    """
    family = find(model.layout)
    if family is None or family.defaults.activations is None:
        return None
    counted = _CountedModel(model, family, family.defaults.activations)
    generator, trainer = _generator(counted, shape), _trainer(counted, shape)
    scoring = round(SCORED_TOGETHER * SCORED_BYTES * ALLOWANCE)
    rater = MemoryNeed("rater", shape.rater_bytes, shape.rater_bytes + scoring, shape.rater_bytes + scoring)
    context = CONTEXT_BYTES if shape.on_card else 0
    drawing = rater.at_rest + 2 * context
    training = rater.at_rest + 3 * context
    embedding = rater.at_peak + 2 * context
    return NightMemory(
        (generator, trainer, rater),
        max(drawing + generator.at_peak, training + trainer.at_peak, embedding + generator.at_rest),
        max(drawing + generator.at_least, training + trainer.at_least, embedding),
    )


def _generator(model: _CountedModel, shape: NightShape) -> MemoryNeed:
    """Counts texts, UNet and autoencoder; both UNets of a guided night share what no adapter touches.

    A few-step adapter touches almost every weight: its factors run beside them, or the base's own wait on the host.
    """
    width, activations = shape.precision_bytes, model.activations
    unet, texts, vae = model.network(width, shape.drawn_as), model.texts(width), model.weights("vae", WHOLE)
    pixels, wide = model.pixels, width / HALF
    row = activations.drawing * pixels * wide * ALLOWANCE
    decoding = activations.decoding * pixels * ALLOWANCE
    streamed = min(unet, BLOCK_BYTES) + row * GUIDED
    few_step = 0 if not shape.few_step_bytes else shape.few_step_bytes if shape.on_card else unet
    rest = unet + texts + vae + round(model.adapter()) + few_step
    least = max(streamed, texts + vae, vae + decoding) + (0 if shape.on_card else few_step)
    return MemoryNeed(
        "generator", rest, rest + round(max(row * GUIDED * shape.images_together, decoding)), round(least)
    )


def _trainer(model: _CountedModel, shape: NightShape) -> MemoryNeed:
    """Counts a step, and the encoders: texts, then pictures, then the network have the card to themselves.

    At the least a transformer's blocks come to a card one by one.
    """
    pixels, wide, activations = model.pixels, shape.trained_bytes / HALF, model.activations
    kept = activations.checkpointed if shape.checkpointing else activations.training
    pictures = model.weights("vae", WHOLE) + activations.encoding * pixels * ALLOWANCE
    network = model.network(shape.trained_bytes, shape.trained_as)
    apart = max(model.texts(model.text_width()), pictures)
    encoding = apart if shape.on_card else network + model.texts(WHOLE) + pictures
    step = network + model.adapter() + kept * pixels * wide * ALLOWANCE * shape.rows_together
    frozen = model.resident(shape.trained_bytes, shape.trained_as) if shape.on_card else network
    least = frozen + _step(model, shape.trained_bytes)
    return MemoryNeed("trainer", 0, round(max(encoding, step)), round(max(encoding, least)))
