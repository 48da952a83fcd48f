"""Adapters on a pipeline: fused into its weights or beside them, and the base weights come back to the last bit.

What several adapters add to a weight is summed in float32, each reckoned from the base weight, and rounded once. In
bfloat16, where rounding would take most of a small LoRA away, a LoRA's factors run beside the layer instead and the
weight stays as it is; so they do in float16 where the base runs too, which then shares every weight. What has no
factors is rounded by chance in bfloat16 (see stochastic_rounding). Weights that are not in use wait in the computer's
memory: the base's own, and those of recent sets for as long as they fit into KEPT_BYTES.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from cachetools import LRUCache
from safetensors.torch import load

from konomi.errors import FailedPrecondition
from konomi_chassis.memory_shortage import is_shortage
from konomi_chassis.models.families.quantized_blocks import QuantizedLinear
from konomi_chassis.models.families.table import of_pipeline
from konomi_chassis.models.safetensors_check import Header, check_bytes
from konomi_generator.backends.diffusers.adapter_changes import Change, LowRankChange, Place, Strength, changes
from konomi_generator.backends.diffusers.adapter_keys import ModuleNames, check_kinds, mismatch
from konomi_generator.backends.diffusers.custom_diffusion import (
    Concepts,
    WordBinder,
    is_concepts,
    read,
    read_words,
    without_words,
)
from konomi_generator.backends.diffusers.memory_fallback import in_host_memory
from konomi_generator.backends.diffusers.shared_network import (
    replace_parameter,
    sharing,
    takes_low_rank,
    with_low_rank,
)
from konomi_generator.backends.diffusers.stochastic_rounding import rounded, seed_of
from konomi_generator.sampling import AdapterFile

Weights = dict[Place, torch.Tensor]
Sums = dict[Place, list[tuple[float, Change]]]
"""What all adapters of a set add to a weight, each with its strength."""
_Key = tuple[bool, tuple[tuple[str, float], ...]]
"""Whether factors run beside their layers though the format does not ask for it; digests and strengths."""
_NONE: _Key = (False, ())
KEPT_BYTES = 4 << 30
"""Memory of the computer for the weights of recent sets and the base's own under them."""


@dataclass(frozen=True, eq=False)
class _AdapterSet:
    """A set of adapters ready to be put on.

    Attributes:
        weights: those it touches, as they are with it.
        beside: layer → the factors (down, up) that run beside it.
        concepts: the words it binds.
    """

    weights: Weights = field(default_factory=dict)
    beside: dict[Place, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    concepts: list[Concepts] = field(default_factory=list)

    def size(self) -> int:
        """Returns the bytes of its tensors."""
        return _bytes([*self.weights.values(), *(tensor for pair in self.beside.values() for tensor in pair)])


def check_adapter(digest: str, data: bytes) -> Header:
    """Returns the header of an adapter's bytes.

    Raises:
        FailedPrecondition: they are not safetensors (UNSAFE_FORMAT), or hold tensors konomi does not apply
            (ADAPTER_KIND).
    """
    header = check_bytes(data, f"The adapter {digest[:12]}")
    if not is_concepts(header):
        check_kinds(digest, without_words(header))
    return header


class Adapters:
    """Puts sets of adapters on one pipeline and takes them off; remembers recent sets."""

    def __init__(self, pipe: Any, prepare: Callable[[Any], None] = lambda unet: None) -> None:
        """Takes a pipeline, and what makes ready a second UNet when there is one."""
        self._pipe, self._prepare, self._family = pipe, prepare, of_pipeline(pipe)
        self._base: Weights = {}
        self._plain: dict[Place, torch.nn.Module] = {}
        self._kept: LRUCache[_Key, _AdapterSet] = LRUCache(KEPT_BYTES, _AdapterSet.size)
        self._words = WordBinder(pipe)
        self._names = ModuleNames(pipe)
        self._current = _NONE
        self._unet: Any = None
        self._touched: list[Place] = []
        self._sharing = threading.Lock()

    @property
    def _network(self) -> Any:
        return getattr(self._pipe, self._family.network)

    def base_unet(self) -> Any:
        """Returns the UNet without adapters: the pipeline's own when none is on it.

        Else one that shares with it every weight that no adapter touches, and is made at its first use.
        """
        if self._current == _NONE:
            return self._network
        with self._sharing:
            if self._unet is None:
                self._unet = self._shared_base()
        return self._unet

    def made_base_unet(self) -> Any:
        """Returns the UNet without adapters where there is one besides the pipeline's; None while there is none."""
        return self._unet

    def forget_base_unet(self) -> None:
        """Drops the UNet without adapters, which lacks what was put on the pipeline's since, or has what was taken."""
        self._unet = None

    def _shared_base(self) -> Any:
        unet, part = self._network, self._family.network
        beside = {self._layer(place): layer for place, layer in self._plain.items() if place[0] == part}
        base = sharing(unet, beside)
        with torch.inference_mode(False):
            for component, name in self._touched:
                if component == part:
                    own = unet.get_parameter(name)
                    replace_parameter(base, name, self._base[component, name].to(own.device, copy=True))
        self._prepare(base)
        return base

    def apply(self, adapters: Sequence[AdapterFile], *, both: bool = False) -> bool:
        """Makes the pipeline's weights those of the base plus these adapters.

        Args:
            adapters: the set.
            both: whether the UNet without adapters runs as well.

        Returns:
            True when the weights changed.

        Raises:
            FailedPrecondition: an adapter does not fit this base model (ADAPTER_MISMATCH), or holds what konomi does
                not apply (ADAPTER_KIND); the base stays as it was.
            RuntimeError, MemoryError: memory ran out; the base stays as it was.
        """
        adapters = [adapter for adapter in adapters if adapter.scale]
        beside = both and bool(adapters) and self._network.dtype == torch.float16
        key: _Key = (beside, tuple((adapter.digest, adapter.scale) for adapter in adapters))
        if key == self._current:
            return False
        self._restore()
        if key == _NONE:
            return True
        try:
            if key in self._kept:
                self._put_on(self._kept[key])
            else:
                self._keep(key, self._fuse(adapters, beside=beside))
        except BaseException:
            self._restore()
            raise
        self._current = key
        return True

    def _restore(self) -> None:
        """Makes the pipeline the base again."""
        self._unet, self._current = None, _NONE
        self._write({place: self._base[place] for place in self._touched})
        self._touched = []
        for place, layer in self._plain.items():
            self._set_layer(place, layer)
        self._plain = {}
        self._words.release()

    def _put_on(self, adapters: _AdapterSet) -> None:
        self._touched = list(adapters.weights)
        self._write(adapters.weights)
        for place, factors in adapters.beside.items():
            self._set_beside(place, factors)
        self._words.bind(adapters.concepts)

    def _keep(self, key: _Key, adapters: _AdapterSet) -> None:
        """Remembers a set, in the computer's memory, where it fits beside the base's own weights and newer sets."""
        room = KEPT_BYTES - _bytes(self._base.values())
        size = sum(_bytes([self._parameter(place)]) for place in self._touched) + adapters.size()
        while self._kept and self._kept.currsize + size > room:
            self._kept.popitem()
        if size <= room:
            weights = {place: in_host_memory(self._parameter(place)) for place in self._touched}
            self._kept[key] = _AdapterSet(weights, adapters.beside, adapters.concepts)

    def _fuse(self, adapters: Sequence[AdapterFile], *, beside: bool) -> _AdapterSet:
        """Adds what a set of adapters changes, and binds its words; returns what is not in the weights."""
        sums: Sums = {}
        words: list[Concepts] = []
        for adapter in adapters:
            header = check_adapter(adapter.digest, adapter.data)
            if is_concepts(header):
                concepts = read(adapter)
                words.append(Concepts({}, concepts.rows))
                additions = {(self._family.network, name): _whole(delta) for name, delta in concepts.deltas.items()}
            else:
                words += [own] if (own := read_words(adapter, header)) is not None else []
                header = without_words(header)
                keys = self._names.read(adapter.digest, header)
                additions = changes(adapter.digest, keys, load(adapter.data), Strength.of(adapter.digest, header))
            for place, change in additions.items():
                sums.setdefault(place, []).append((adapter.scale, change))
        layers = {}
        names = [f"{adapter.digest}@{adapter.scale}" for adapter in adapters]
        for place, parts in sums.items():
            factors = self._factors(place, parts, beside=beside)
            if factors is None:
                self._add(place, parts, seed_of(*names, *place))
            else:
                layers[place] = factors
                self._set_beside(place, factors)
        self._words.bind(words)
        return _AdapterSet({}, layers, words)

    def _factors(
        self, place: Place, parts: Sequence[tuple[float, Change]], *, beside: bool
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Returns what runs beside a layer in place of a change of its weight; None where the weight is changed."""
        low = [(scale, change) for scale, change in parts if isinstance(change, LowRankChange)]
        packed = self._packed(place)
        weight = self._pipe_parameter(place) if packed is None else packed.weight
        beside = beside or packed is not None or (weight is not None and weight.dtype == torch.bfloat16)
        if weight is None or len(low) < len(parts) or not beside:
            return None
        if not takes_low_rank(self._layer(place)) or not all(change.fits(weight) for _, change in low):
            return None
        down = torch.cat([change.down.float() for _, change in low])
        up = torch.cat([scale * change.factor * change.up.float() for scale, change in low], dim=1)
        return down.to(weight.dtype), up.to(weight.dtype)

    @torch.no_grad()
    def _add(self, place: Place, parts: Sequence[tuple[float, Change]], seed: int) -> None:
        """Adds the changes of all adapters to one weight."""
        packed = self._packed(place)
        if packed is not None:
            raise FailedPrecondition(
                f"The adapter changes {place[1]} by something other than a LoRA's two factors, and the base model's "
                f"weights are packed as {packed.quantization}, beside which nothing else fits. Set [generator] "
                'quantization to "none" and start again, or give a plain LoRA.',
                reason="ADAPTER_QUANTIZED",
            )
        weight = self._pipe_parameter(place)
        if weight is None:
            raise mismatch(f"The adapter changes {place[1]}, which the base model has not")
        plain = weight.float()
        total = plain.clone()
        try:
            for scale, change in parts:
                total += scale * change(plain)
        except (RuntimeError, ValueError, IndexError) as error:
            if is_shortage(error):
                raise
            raise mismatch(f"The adapter does not fit {place[1]}: {str(error)[:160]}") from error
        if place not in self._base:
            self._base[place] = in_host_memory(weight)
        self._touched.append(place)
        if torch.isfinite(total).all():
            weight.copy_(rounded(total, weight.dtype, seed))
        if not torch.isfinite(total).all() or not torch.isfinite(weight).all():
            raise mismatch(f"The adapter makes {place[1]} something that is no number")

    def _packed(self, place: Place) -> QuantizedLinear | None:
        """Returns the layer of a place whose weight is packed, and which takes nothing but factors beside it."""
        if not place[1].endswith(".weight"):
            return None
        try:
            layer = self._layer(place)
        except AttributeError:
            return None
        return layer if isinstance(layer, QuantizedLinear) else None

    def _pipe_parameter(self, place: Place) -> torch.nn.Parameter | None:
        try:
            return self._parameter(place)
        except AttributeError:
            return None

    def _parameter(self, place: Place) -> torch.nn.Parameter:
        return getattr(self._pipe, place[0]).get_parameter(place[1])

    def _layer(self, place: Place) -> torch.nn.Module:
        """Returns the layer whose weight a place names, as it is on the pipeline now."""
        layer: torch.nn.Module = getattr(self._pipe, place[0]).get_submodule(place[1].rpartition(".")[0])
        return layer

    def _set_layer(self, place: Place, layer: torch.nn.Module) -> None:
        parent, _, name = place[1].rpartition(".")[0].rpartition(".")
        getattr(self._pipe, place[0]).get_submodule(parent)._modules[name] = layer

    def _set_beside(self, place: Place, factors: tuple[torch.Tensor, torch.Tensor]) -> None:
        plain = self._layer(place)
        self._plain[place] = plain
        self._set_layer(place, with_low_rank(plain, *factors))

    @torch.no_grad()
    def _write(self, weights: Weights) -> None:
        for place, weight in weights.items():
            self._parameter(place).copy_(weight)


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _whole(delta: torch.Tensor) -> Change:
    """Returns the change that adds a given delta."""

    def change(weight: torch.Tensor) -> torch.Tensor:
        if delta.shape != weight.shape:
            raise ValueError(f"a change of {tuple(delta.shape)} for a weight of {tuple(weight.shape)}")
        return delta.to(weight.device, torch.float32)

    return change
