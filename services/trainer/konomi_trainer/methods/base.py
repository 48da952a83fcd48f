"""What a training method is: from a manifest's items and a base model to weights, their loss and the adapter file.

A method is one file that makes a `Method`, one line in registry.py, and its value of TrainingMethod in trainer.proto.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from konomi_chassis.models.families.family import Family, NoisePath
from konomi_trainer.configuration import Configuration, MethodDefaults
from konomi_trainer.data import dataset
from konomi_trainer.data.cache import TensorCache, Tensors
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.methods.concept_file import ConceptModel
from konomi_trainer.methods.word_lora import WordLora
from konomi_trainer.training.compilation import BlockCompiler
from konomi_trainer.training.loop import Loss


class LoadedBase(dataset.Encoder, Protocol):
    """A loaded base model; see base_models/pipeline.py."""

    family: Family
    path: NoisePath
    device: torch.device
    network: torch.nn.Module
    checkpointing: bool
    chunk_states: int

    def embed(self, captions: list[str]) -> Tensors:
        """Returns embeddings of captions, differentiable: "hidden" (N, T, D), and "pooled" (N, P) for SDXL.

        Also "mask" (N, T) where they differ in length; see Condition.
        """

    def text_towers(self) -> list[tuple[Any, torch.nn.Module]]:
        """Returns tokenizer and text encoder, two pairs for SDXL."""

    def word_towers(self) -> list[tuple[Any, torch.nn.Module]]:
        """Returns tokenizer and text encoder of those that can learn new words, in the order of their names."""

    def checkpoint_activations(self) -> bool:
        """Makes activations twice instead of keeping them; False where it does so already."""

    def settle(self) -> None:
        """Has on the device what trains, an adapter that was just put on the network too."""

    def release_image_encoder(self) -> None:
        """Frees the autoencoder alone."""

    def release_encoders(self) -> None:
        """Frees what is not needed once images and captions are encoded."""

    def compiler(self, steps: int, cache: Path) -> BlockCompiler:
        """Returns what decides whether a run of so many steps compiles the network's blocks, by figures in `cache`."""

    def learn_texts(self) -> None:
        """Brings text encoders that learn to the type the network has."""

    def sampler(self, prompts: list[str], steps: int) -> Callable[[], np.ndarray | None]:
        """Returns a function that draws the prompts, always with the same seeds, as (N, H, W, 3) uint8, or None."""

    def predict(self, noisy: torch.Tensor, timesteps: torch.Tensor, batch: dataset.Batch) -> torch.Tensor:
        """Returns the network's (B, C, h, w) answer."""


@dataclass(frozen=True)
class TrainingSource:
    """What a run learns from.

    Attributes:
        items: of the manifest, in its order.
        pixels: digest → (H, W, 3) uint8.
        cache: latents and embeddings of earlier runs.
        tick: called before every image and caption; may raise to stop.
    """

    items: Sequence[ManifestItem]
    pixels: Callable[[str], np.ndarray]
    cache: TensorCache
    tick: Callable[[], None]


@dataclass(frozen=True)
class Files:
    """The adapter file, and files that belong to it and are named in its header by digest."""

    adapter: bytes
    companions: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class PreparedMethod:
    """A method made ready for one run.

    Attributes:
        weights: what is trained, by name; changed in place by the loop.
        loss: loss of some rows of a step's batch.
        save: trained weights and the record of their origin → the adapter file and what belongs to it.
        media_type: of that file.
        figures: what the method wants kept with the model besides the loop's figures.
        validate: loss of the held-out images with the weights as they are; None where none are held out.
        shares: share of the learning rate by name of weight; 1 for the others.
    """

    weights: Mapping[str, torch.nn.Parameter]
    loss: Loss
    save: Callable[[Tensors, Mapping[str, str]], Files]
    media_type: str
    figures: Mapping[str, float] = field(default_factory=dict)
    validate: Callable[[], float] | None = None
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class KohyaModule:
    """How kohya's file header calls the kind of weights: `ss_network_module` and `ss_network_args`."""

    name: str = "networks.lora"
    arguments: str = "{}"


@dataclass(frozen=True)
class Method:
    """A training method.

    Attributes:
        name: in configurations, records and tables.
        number: of TrainingMethod in trainer.proto.
        prepare: encodes the set, changes the base model where it must and returns what the loop trains.
        defaults: numbers of a run where the caller says nothing.
        kohya: what the header of an export for other tools says.
        read_concepts: of Custom Diffusion, reads its adapter file; such models are exported with their words and merged
            in closed form. None of any other.
        read_words: of words beside a LoRA, likewise; such models are merged by adding up. None of any other.
        signed: whether its change can be switched off for a forward, as signed targets need; see `contrast`.
    """

    name: str
    number: int
    prepare: Callable[[LoadedBase, TrainingSource, Configuration], PreparedMethod]
    defaults: MethodDefaults = field(default_factory=MethodDefaults)
    kohya: KohyaModule = field(default_factory=KohyaModule)
    read_concepts: Callable[[bytes], ConceptModel] | None = None
    read_words: Callable[[bytes], WordLora] | None = None
    signed: bool = False

    @property
    def binds(self) -> bool:
        """Whether it binds concepts to new words."""
        return self.read_concepts is not None or self.read_words is not None
