"""Low-rank adapters of attention by peft, one line a kind: LoRA, DoRA, LoHa, LoKr.

LoRA: Hu et al. 2021, W + (alpha / r) B A. DoRA: Liu et al. 2024, the same with each row's length learnt apart. LoHa:
Hyeon-Woo et al. 2021, W + (alpha / r) (A1 B1) * (A2 B2). LoKr: Yeh et al. 2023, W + (alpha / r) C ⊗ (A B). Always
alpha = r. Only LoRA and DoRA are what every tool loads, so the file of the others holds the LoRA that equals them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer

from konomi.errors import InvalidArgument
from konomi_trainer.configuration import Configuration
from konomi_trainer.data import buckets, dataset
from konomi_trainer.data.cache import Tensors, key
from konomi_trainer.data.conditions import figures_of
from konomi_trainer.data.manifest import AVOIDED, ManifestItem
from konomi_trainer.data.tensors import loadable_name
from konomi_trainer.methods import adapter_file, contrast
from konomi_trainer.methods.adapter_file import UNET_TARGETS, Targets
from konomi_trainer.methods.base import Files, KohyaModule, LoadedBase, Method, PreparedMethod, TrainingSource
from konomi_trainer.methods.denoising_loss import DenoisingLoss

ADAPTER = "default"
TEXT_PARTS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True)
class Kind:
    """A kind of adapter: a training method of its own.

    Attributes:
        name: of the method.
        configure: rank and targets → peft's configuration.
        marks: what the names of its weights contain.
        still: the weight that starts at zero, so that the adapter changes nothing until it has learned.
        equals_lora: whether its own weights are those of a LoRA file.
    """

    name: str
    configure: Callable[[int, Sequence[str]], Any]
    marks: tuple[str, ...]
    still: str
    equals_lora: bool

    def prepare(self, base: LoadedBase, source: TrainingSource, configuration: Configuration) -> PreparedMethod:
        """Encodes the set, frees the encoders and puts the adapter on the networks."""
        live = configuration.text_encoder_learning_rate > 0
        learnt, held = split(source.items, configuration.validation_share, configuration.seed)
        contrast.check(configuration, True, learnt)
        shape = dataset.Shape(_sizes(base, configuration), configuration.flip)
        data = dataset.build(learnt, source.pixels, base, source.cache, source.tick, shape)
        aside = dataset.build(held, source.pixels, base, source.cache, source.tick, shape) if held else None
        networks: dict[str, torch.nn.Module] = {base.family.network: base.network}
        if live:
            base.release_image_encoder()
            base.learn_texts()
            networks |= dict(zip(TEXT_PARTS, (tower for _, tower in base.text_towers()), strict=False))
        else:
            base.release_encoders()
        weights = attach(networks, self, configuration.rank, configuration.seed, base.family.targets)
        base.settle()
        loss = DenoisingLoss(base, data, configuration, live, lambda: switched_off(base.network))
        share = configuration.text_encoder_learning_rate / configuration.learning_rate
        figures = {"images": float(len(learnt)), "held_out_images": float(len(held))}
        if configuration.contrast_beta:
            figures["avoided_images"] = float(sum(item.role == AVOIDED for item in learnt))
        figures |= figures_of(data.texts.cut + (aside.texts.cut if aside else 0))

        def save(trained: Tensors, record: Mapping[str, str]) -> Files:
            return self.files(networks, trained, configuration.rank, record, base.family.targets)

        return PreparedMethod(
            weights,
            loss,
            save,
            adapter_file.MEDIA_TYPE,
            figures,
            validate=None if aside is None else lambda: loss.held_out(aside),
            shares={name: share for name in weights if name.startswith(TEXT_PARTS)},
        )

    def files(
        self,
        networks: Mapping[str, torch.nn.Module],
        weights: Tensors,
        rank: int,
        record: Mapping[str, str],
        targets: Targets = UNET_TARGETS,
    ) -> Files:
        """Returns the adapter's files; see adapter_file.py.

        Args:
            networks: as `attach` got them.
            weights: trained, by the names `attach` gave.
            rank: r.
            record: where the adapter comes from.
            targets: see `attach`.
        """
        own: Tensors = {}
        for part, network in networks.items():
            state = get_peft_model_state_dict(network, state_dict=_of(weights, part), adapter_name=ADAPTER)
            own |= {loadable_name(f"{part}.{name}"): tensor.float() for name, tensor in state.items()}
        if self.equals_lora:
            return adapter_file.lora_file(own, networks, rank, record, self.name == "dora", targets)
        return adapter_file.other_file(own, rank, record, targets)


def _lora(rank: int, targets: Sequence[str], dora: bool = False) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=rank, init_lora_weights=dora, use_dora=dora, target_modules=list(targets))


def _lokr(rank: int, targets: Sequence[str]) -> LoKrConfig:
    return LoKrConfig(r=rank, alpha=rank, target_modules=list(targets))


LORA = Kind("lora", _lora, ("lora_A", "lora_B"), "lora_B", True)
DORA = Kind("dora", lambda rank, targets: _lora(rank, targets, True), ("lora_",), "lora_B", True)
LOHA = Kind(
    "loha",
    lambda rank, targets: LoHaConfig(r=rank, alpha=rank, target_modules=list(targets)),
    ("hada_",),
    "hada_w2_b",
    False,
)
LOKR = Kind("lokr", _lokr, ("lokr_",), "lokr_w1", False)
LORA_METHOD = Method(LORA.name, 1, LORA.prepare, signed=True)
DORA_METHOD = Method(DORA.name, 3, DORA.prepare, signed=True)
LOHA_METHOD = Method(LOHA.name, 4, LOHA.prepare, kohya=KohyaModule("lycoris.kohya", '{"algo": "loha"}'), signed=True)
LOKR_METHOD = Method(LOKR.name, 5, LOKR.prepare, kohya=KohyaModule("lycoris.kohya", '{"algo": "lokr"}'), signed=True)


def attach(
    networks: Mapping[str, torch.nn.Module], kind: Kind, rank: int, seed: int, targets: Targets = UNET_TARGETS
) -> dict[str, torch.nn.Parameter]:
    """Freezes the networks, adds adapters with alpha = rank to their attention and returns what is trained.

    All but the weight that stays at zero are drawn from `seed` in the order of names (Kaiming uniform, as peft does).

    Args:
        networks: what denoises under its part's name, and text encoders that learn too; changed in place.
        kind: of the adapters.
        rank: r.
        seed: of their weights.
        targets: part → names of the layers it sits on.

    Returns:
        The adapters' weights, float32, by their name in what denoises, or "text_encoder/" and that in a text encoder.
    """
    weights: dict[str, torch.nn.Parameter] = {}
    for part, network in networks.items():
        network.requires_grad_(False)
        inject_adapter_in_model(kind.configure(rank, targets[part]), network, adapter_name=ADAPTER)
        head = f"{part}/" if part in TEXT_PARTS else ""
        marked = (n for n in network.named_parameters() if any(mark in n[0] for mark in kind.marks))
        weights |= {head + name: weight for name, weight in marked}
    generator = torch.Generator().manual_seed(seed & (2**63 - 1))
    for name, weight in sorted(weights.items()):
        if "magnitude" not in name:
            bound = 1 / math.sqrt(weight[0].numel())
            start = torch.rand(weight.shape, generator=generator) * 2 * bound - bound
            weight.data = (torch.zeros_like(start) if kind.still in name else start).to(weight.device)
        else:
            weight.data = weight.data.float()
        weight.requires_grad_(True)
    return dict(sorted(weights.items()))


@contextmanager
def switched_off(network: torch.nn.Module) -> Iterator[None]:
    """Lets a network answer as the base model does, bit for bit, while the context lasts."""
    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def split(items: Sequence[ManifestItem], share: float, seed: int) -> tuple[list[ManifestItem], list[ManifestItem]]:
    """Returns the items to learn and those held out, which images of the prior and avoided ones never are.

    Args:
        items: of the manifest.
        share: to hold out, 0..0.5; one image at least where it is above 0.
        seed: of the run.

    Raises:
        InvalidArgument: nothing would be left to learn.
    """
    candidates = sorted(
        (item for item in items if not item.is_prior and item.role != AVOIDED),
        key=lambda item: key("held out", str(seed), item.digest),
    )
    count = max(1, round(share * len(candidates))) if share else 0
    if len(candidates) <= count:
        raise InvalidArgument(
            f"expected images to learn besides the {count} held out; came {len(candidates)}, those of the prior not "
            "counted: give more images or hold out none",
            reason="MANIFEST_EMPTY",
            field="hyper_parameters.validation_share",
        )
    held = {item.digest for item in candidates[:count]}
    return [item for item in items if item.digest not in held], [item for item in items if item.digest in held]


def _sizes(base: LoadedBase, configuration: Configuration) -> tuple[buckets.Size, ...]:
    side = base.resolution
    return buckets.sizes(side, base.step) if configuration.aspect_buckets else ((side, side),)


def _of(weights: Tensors, part: str) -> Tensors:
    if part not in TEXT_PARTS:
        return {name: tensor for name, tensor in weights.items() if "/" not in name}
    head = f"{part}/"
    return {name.removeprefix(head): tensor for name, tensor in weights.items() if name.startswith(head)}
