"""Adapters fused into a pipeline's weights: no cost per step, and the base weights come back to the last bit.

What several adapters add to a weight is summed in float32, each reckoned from the base weight, and rounded once.
"""

import copy
import threading
from collections.abc import Sequence
from typing import Any

import torch
from cachetools import LRUCache
from safetensors.torch import load

from konomi_chassis.models.safetensors_check import Header, check_bytes
from konomi_generator.backends.diffusers.adapter_changes import Change, Place, Strength, changes
from konomi_generator.backends.diffusers.adapter_keys import ModuleNames, check_kinds, mismatch
from konomi_generator.backends.diffusers.custom_diffusion import Concepts, WordBinder, is_concepts, read
from konomi_generator.backends.diffusers.memory_fallback import is_shortage
from konomi_generator.sampling import AdapterFile

Weights = dict[Place, torch.Tensor]
_Fused = tuple[Weights, list[Concepts]]
"""Weights a set of adapters touches, as they are with it, and the words it binds."""
KEPT_BYTES = 512 << 20


def check_adapter(digest: str, data: bytes) -> Header:
    """Returns the header of an adapter's bytes.

    Raises:
        FailedPrecondition: they are not safetensors (UNSAFE_FORMAT), or hold tensors konomi does not apply
            (ADAPTER_KIND).
    """
    header = check_bytes(data, f"The adapter {digest[:12]}")
    if not is_concepts(header):
        check_kinds(digest, header)
    return header


class Adapters:
    """Puts sets of adapters on one pipeline and takes them off; remembers the weights of recent sets."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._base: Weights = {}
        self._fused: LRUCache[tuple[tuple[str, float], ...], _Fused] = LRUCache(KEPT_BYTES, getsizeof=_size)
        self._words = WordBinder(pipe)
        self._names = ModuleNames(pipe)
        self._current: tuple[tuple[str, float], ...] = ()
        self._unet: Any = None
        self._copying = threading.Lock()

    def base_unet(self) -> Any:
        """Returns the UNet without adapters: the pipeline's own when none is on it, else a copy made once."""
        if not self._current:
            return self._pipe.unet
        with self._copying:
            if self._unet is None:
                unet = copy.deepcopy(self._pipe.unet)
                with torch.no_grad():
                    for (component, name), weight in self._base.items():
                        if component == "unet":
                            unet.get_parameter(name).copy_(weight)
                self._unet = unet
        return self._unet

    def apply(self, adapters: Sequence[AdapterFile]) -> bool:
        """Makes the pipeline's weights those of the base plus these adapters.

        Returns:
            True when the weights changed.

        Raises:
            FailedPrecondition: an adapter does not fit this base model (ADAPTER_MISMATCH), or holds what konomi does
                not apply (ADAPTER_KIND); the base stays as it was.
        """
        adapters = [adapter for adapter in adapters if adapter.scale]
        key = tuple((adapter.digest, adapter.scale) for adapter in adapters)
        if key == self._current:
            return False
        self._write(self._base)
        self._words.release()
        self._current = ()
        if key in self._fused:
            weights, concepts = self._fused[key]
            self._write(weights)
            self._words.bind(concepts)
        elif adapters:
            self._fused[key] = self._fuse(adapters)
        self._current = key
        return True

    def _fuse(self, adapters: Sequence[AdapterFile]) -> _Fused:
        """Adds what a set of adapters changes, and binds its words; returns the weights touched, and the words."""
        sums: dict[Place, list[tuple[float, Change]]] = {}
        words: list[Concepts] = []
        for adapter in adapters:
            header = check_adapter(adapter.digest, adapter.data)
            if is_concepts(header):
                concepts = read(adapter)
                words.append(Concepts({}, concepts.rows))
                additions = {("unet", name): _whole(delta) for name, delta in concepts.deltas.items()}
            else:
                keys = self._names.read(adapter.digest, header)
                additions = changes(adapter.digest, keys, load(adapter.data), Strength.of(adapter.digest, header))
            for place, change in additions.items():
                sums.setdefault(place, []).append((adapter.scale, change))
        try:
            for place, parts in sums.items():
                self._add(place, parts)
            self._words.bind(words)
        except BaseException:
            self._write(self._base)
            raise
        return {place: self._parameter(place).detach().clone() for place in sums}, words

    @torch.no_grad()
    def _add(self, place: Place, parts: Sequence[tuple[float, Change]]) -> None:
        """Adds the changes of all adapters to one weight."""
        try:
            weight = self._parameter(place)
        except AttributeError as error:
            raise mismatch(f"The adapter changes {place[1]}, which the base model has not") from error
        self._base.setdefault(place, weight.detach().clone())
        plain = weight.float()
        total = plain.clone()
        try:
            for scale, change in parts:
                total += scale * change(plain)
        except (RuntimeError, ValueError, IndexError) as error:
            if is_shortage(error):
                raise
            raise mismatch(f"The adapter does not fit {place[1]}: {str(error)[:160]}") from error
        if not torch.isfinite(total).all():
            raise mismatch(f"The adapter makes {place[1]} something that is no number")
        weight.copy_(total)

    def _parameter(self, place: tuple[str, str]) -> torch.nn.Parameter:
        return getattr(self._pipe, place[0]).get_parameter(place[1])

    @torch.no_grad()
    def _write(self, weights: Weights) -> None:
        for place, weight in weights.items():
            self._parameter(place).copy_(weight)


def _size(fused: _Fused) -> int:
    """Returns what a set counts for: its weights' bytes, or the whole memory where one set exceeds it."""
    return min(KEPT_BYTES, sum(weight.numel() * weight.element_size() for weight in fused[0].values()))


def _whole(delta: torch.Tensor) -> Change:
    """Returns the change that adds a given delta."""

    def change(weight: torch.Tensor) -> torch.Tensor:
        if delta.shape != weight.shape:
            raise ValueError(f"a change of {tuple(delta.shape)} for a weight of {tuple(weight.shape)}")
        return delta.to(weight.device, torch.float32)

    return change
