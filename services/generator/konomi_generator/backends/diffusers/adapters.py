"""Adapters fused into a pipeline's weights: no cost per step, and the base weights come back to the last bit."""

import copy
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache

from konomi.errors import FailedPrecondition
from konomi_chassis.models.safetensors_check import Header, check_bytes
from konomi_generator.backends.diffusers.custom_diffusion import Concepts, WordBinder, is_concepts, read
from konomi_generator.sampling import AdapterFile

Place = tuple[str, str]
"""(component, parameter name)."""
Weights = dict[Place, torch.Tensor]
_Fused = tuple[Weights, list[Concepts]]
"""Weights a set of adapters touches, as they are with it, and the words it binds."""
KEPT_BYTES = 512 << 20
DOWN = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight", ".lora_A.default.weight")
COMPONENTS = ("unet", "text_encoder", "text_encoder_2")


def check_adapter(digest: str, data: bytes) -> Header:
    """Returns the header of an adapter's bytes.

    Raises:
        FailedPrecondition: they are not safetensors (UNSAFE_FORMAT) or hold no adapter konomi knows (ADAPTER_KIND).
    """
    header = check_bytes(data, f"The adapter {digest[:12]}")
    if not _lora_count(header) and not is_concepts(header):
        raise FailedPrecondition(
            f"The adapter {digest[:12]} holds neither LoRA tensors (lora_A/lora_B or lora_down/lora_up) nor Custom "
            "Diffusion deltas; give the digest of an adapter for this base model.",
            reason="ADAPTER_KIND",
        )
    return header


class Adapters:
    """Puts sets of adapters on one pipeline and takes them off; remembers the weights of recent sets."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._base: Weights = {}
        self._fused: LRUCache[tuple[tuple[str, float], ...], _Fused] = LRUCache(KEPT_BYTES, getsizeof=_size)
        self._words = WordBinder(pipe)
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
            FailedPrecondition: an adapter does not fit this base model (ADAPTER_MISMATCH); the base stays as it was.
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
        """Puts LoRAs, then the deltas and words of Custom Diffusion on; returns the weights touched, and the words."""
        headers = [check_adapter(adapter.digest, adapter.data) for adapter in adapters]
        pairs = list(zip(adapters, headers, strict=True))
        changes = [(read(adapter), adapter.scale) for adapter, header in pairs if is_concepts(header)]
        loras = [(adapter, header) for adapter, header in pairs if not is_concepts(header)]
        touched = self._fuse_loras(loras) if loras else set()
        words = [Concepts({}, change.rows) for change, _ in changes]
        try:
            for change, scale in changes:
                touched |= self._add(change, scale)
            self._words.bind(words)
        except FailedPrecondition:
            self._write(self._base)
            raise
        return {place: self._parameter(place).detach().clone() for place in touched}, words

    @torch.no_grad()
    def _add(self, concepts: Concepts, scale: float) -> set[Place]:
        """Adds a file's deltas to the weights, in float32."""
        touched = set()
        for name, delta in concepts.deltas.items():
            place = ("unet", name)
            try:
                weight = self._parameter(place)
            except AttributeError as error:
                raise _mismatch(f"The adapter changes {name}, which the base model has not") from error
            if weight.shape != delta.shape:
                raise _mismatch(f"The adapter changes {name} of {tuple(delta.shape)}; it is {tuple(weight.shape)}")
            self._base.setdefault(place, weight.detach().clone())
            weight.copy_(weight.float() + scale * delta.to(weight.device))
            touched.add(place)
        return touched

    def _fuse_loras(self, adapters: Sequence[tuple[AdapterFile, Header]]) -> set[Place]:
        names = [f"adapter{number}" for number in range(len(adapters))]
        try:
            for name, (adapter, header) in zip(names, adapters, strict=True):
                self._load(name, adapter, header)
            touched = self._touched()
            self._base |= {place: weight.clone() for place, weight in touched.items() if place not in self._base}
            self._pipe.set_adapters(names, [adapter.scale for adapter, _ in adapters])
            parts = [name for name in self._pipe._lora_loadable_modules if getattr(self._pipe, name, None) is not None]
            self._pipe.fuse_lora(components=parts, adapter_names=names, safe_fusing=True)
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            self._pipe.unload_lora_weights()
            self._write(self._base)
            digests = ", ".join(adapter.digest[:12] for adapter, _ in adapters)
            raise _mismatch(f"The adapters {digests} do not fit: {str(error)[:160]}") from error
        except FailedPrecondition:
            self._pipe.unload_lora_weights()
            raise
        self._pipe.unload_lora_weights()
        return set(touched)

    def _load(self, name: str, adapter: AdapterFile, header: Header) -> None:
        with tempfile.TemporaryDirectory(prefix="konomi-adapter-") as folder:
            file = Path(folder) / "pytorch_lora_weights.safetensors"
            file.write_bytes(adapter.data)
            self._pipe.load_lora_weights(folder, weight_name=file.name, adapter_name=name, local_files_only=True)
        expected, present = _lora_count(header), self._layers(name)
        if present != expected:
            raise _mismatch(
                f"The adapter {adapter.digest[:12]} changes {expected} layers, of which the base model has {present}"
            )

    def _layers(self, name: str) -> int:
        return sum(name in layer.lora_A for _, _, layer in self._tuned())

    def _tuned(self) -> list[tuple[str, str, Any]]:
        """Returns (component, module name, layer) of every layer an adapter sits on."""
        return [
            (component, name, layer)
            for component in COMPONENTS
            if getattr(self._pipe, component, None) is not None
            for name, layer in getattr(self._pipe, component).named_modules()
            if hasattr(layer, "base_layer") and hasattr(layer, "lora_A")
        ]

    def _touched(self) -> Weights:
        return {(part, f"{name}.weight"): layer.base_layer.weight for part, name, layer in self._tuned()}

    def _parameter(self, place: tuple[str, str]) -> torch.nn.Parameter:
        return getattr(self._pipe, place[0]).get_parameter(place[1])

    @torch.no_grad()
    def _write(self, weights: Weights) -> None:
        for place, weight in weights.items():
            self._parameter(place).copy_(weight)


def _size(fused: _Fused) -> int:
    """Returns what a set counts for: its weights' bytes, or the whole memory where one set exceeds it."""
    return min(KEPT_BYTES, sum(weight.numel() * weight.element_size() for weight in fused[0].values()))


def _lora_count(header: Header) -> int:
    return sum(name.endswith(DOWN) for name in header.tensors)


def _mismatch(what: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"{what}. Give an adapter that was trained on this base model, or name the base model it was trained on.",
        reason="ADAPTER_MISMATCH",
    )
