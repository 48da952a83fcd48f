"""The names of an adapter file's tensors: which module of the base model each belongs to, and as what.

Read are kohya's names (`lora_unet_…`, `lora_te_…`, `lora_te1_…`, `lora_te2_…`, XL's UNet by diffusers' or by its
original block numbers), LyCORIS' (`lycoris_…`), ComfyUI's (`diffusion_model.…`) and diffusers' of every age. A layer
that diffusers keeps in parts changes each of them by its own outputs. Every tensor of a file is accounted for: what has
no place is named in the refusal, never left out.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.family import OriginalLayer
from konomi_chassis.models.families.layer_names import HEAD
from konomi_chassis.models.families.quantized_blocks import QuantizedLinear
from konomi_chassis.models.families.table import of_pipeline
from konomi_chassis.models.safetensors_check import Header

Module = tuple[str, str]
"""(component, module name)."""
Cut = tuple[int, int, int]
"""Of a layer's outputs those of one module: the first, the one behind the last, how many the layer has; where the first
is not before the last, from the first on and then from the layer's beginning."""
ROLES: Mapping[str, tuple[str, ...]] = {
    "down": (".lora_A.weight", ".lora_down.weight", ".lora.down.weight", ".lora_linear_layer.down.weight"),
    "up": (".lora_B.weight", ".lora_up.weight", ".lora.up.weight", ".lora_linear_layer.up.weight"),
    "mid": (".lora_mid.weight",),
    "up_bias": (".lora_B.bias",),
    "alpha": (".alpha", ".lora.alpha"),
    "magnitude": (".lora_magnitude_vector.weight", ".lora_magnitude_vector"),
    "dora_scale": (".dora_scale",),
    "diff": (".diff", ".w_norm"),
    "diff_b": (".diff_b", ".b_norm"),
    **{name: (f".{name}",) for name in ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")},
    **{name: (f".{name}",) for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")},
    "lokr_t2": (".lokr_t2",),
}
"""What a tensor is by the end of its name."""
ENDS = sorted(((end, role) for role, ends in ROLES.items() for end in ends), key=lambda pair: -len(pair[0]))
OLD_UNET = re.compile(r"\.processor\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
OLD_TEXT = re.compile(r"\.to_(q|k|v|out)_lora\.(down|up)\.weight$")
LOOKS_LIKE = (
    ("oft_", "OFT or BOFT"),
    ("boft_", "BOFT"),
    (".a1.", "GLoRA"),
    (".b1.", "GLoRA"),
    ("on_input", "IA3"),
    ("bias_indices", "LyCORIS with sparse biases"),
    ("bundle_emb", "a LoRA bundled with embeddings, which have to be files of their own"),
    ("base_model.model.", "peft's own file, whose strength stands in an adapter_config.json: save it by diffusers"),
    ("lora_embedding", "a LoRA of a text encoder's words"),
    ("lllite", "ControlNet-LLLite"),
    ("control", "a ControlNet"),
    ("ip_adapter", "an IP-Adapter"),
    ("motion_modules", "a motion module"),
    ("double_blocks", "an adapter of FLUX"),
    ("single_blocks", "an adapter of FLUX"),
    ("lora_transformer", "an adapter of a diffusion transformer"),
    ("joint_blocks", "an adapter of Stable Diffusion 3"),
    ("lora_te3", "an adapter of Stable Diffusion 3"),
    ("emb_params", "a textual inversion"),
    ("clip_g", "a textual inversion"),
    ("string_to_param", "a textual inversion"),
    ("model.diffusion_model", "a whole checkpoint"),
    ("first_stage_model", "a whole checkpoint"),
)
"""What files hold of which konomi applies nothing, by a part of their tensors' names."""
MADE_FOR = (
    (r"to_qkv_mlp_proj|double_stream_modulation", "FLUX.2"),
    (r"double_blocks|single_blocks|single_transformer_blocks", "FLUX.1, FLUX.2 or Chroma"),
    (r"joint_blocks", "Stable Diffusion 3"),
    (r"(img|txt)_(mlp|mod)", "Qwen-Image"),
    (
        r"transformer_blocks[._]\d+[._]attn[._](add|to)_",
        "a model with joint attention, as Stable Diffusion 3, FLUX and Qwen-Image",
    ),
    (r"(layers|refiner)[._]\d+[._]attention[._]", "Z-Image"),
    (r"(layers|refiner)[._]\d+[._]attn[._]", "Lumina 2"),
    (r"(down|up|mid|input|output|middle)_blocks?", "Stable Diffusion 1.x, 2.x or XL"),
)
"""What a layer's name has → the family whose layers are called so; the first that fits counts."""
SHOWN = 3


@dataclass
class AdapterKeys:
    """The tensors of an adapter file by the module they change.

    Attributes:
        modules: module → what a tensor is → its name in the file.
        cuts: of modules that are a part of the layer their tensors are for.
    """

    modules: dict[Module, dict[str, str]] = field(default_factory=dict)
    cuts: dict[Module, Cut] = field(default_factory=dict)


class ModuleNames:
    """What adapter files call the modules of a pipeline."""

    def __init__(self, pipe: Any) -> None:
        self._modules: dict[str, Module] = {}
        self._joined: dict[str, list[tuple[Module, Cut]]] = {}
        family = of_pipeline(pipe)
        for layer in (*family.exported.layers, *family.exported.read):
            self._join(layer, getattr(pipe, family.network), family.network)
        for component in family.targets:
            network = getattr(pipe, component, None)
            if network is None:
                continue
            names = [name for name, module in network.named_modules() if _has_weight(module)]
            for name in names:
                self._modules |= dict.fromkeys(family.layer_calls(component, name, pipe, names), (component, name))

    def _join(self, layer: OriginalLayer, network: Any, component: str) -> None:
        """Learns what files call a layer of every block that has all its parts."""
        modules = dict(network.named_modules())
        blocks = range(1 + sum(name.startswith(layer.parts[0].partition("{}")[0]) for name in modules))
        for block in blocks if "{}" in layer.name else [0]:
            parts = [part.format(block) for part in layer.parts]
            if not all(part in modules for part in parts):
                continue
            name, stop = layer.name.format(block), 0
            places: list[tuple[Module, Cut]] = []
            total = sum(modules[part].weight.shape[0] for part in parts)
            for part in parts:
                start, stop = stop, stop + modules[part].weight.shape[0]
                half = total // 2
                places.append(((component, part), (half, half, total) if layer.turned else (start, stop, total)))
            flat = name.replace(".", "_")
            calls = (name, f"{HEAD}{name}", f"lora_unet_{flat}", f"lycoris_{flat}")
            self._joined |= dict.fromkeys(calls, places)

    def find(self, name: str) -> list[tuple[Module, Cut | None]]:
        """Returns the modules a file means, with what of the layer each is; none where the pipeline has none so."""
        if name in self._joined:
            return [(module, None if cut == (0, cut[2], cut[2]) else cut) for module, cut in self._joined[name]]
        module = self._modules.get(name)
        return [] if module is None else [(module, None)]

    def read(self, digest: str, header: Header) -> AdapterKeys:
        """Returns the tensors of a file by the module they change.

        Raises:
            FailedPrecondition: a tensor has no place: its kind is not known (ADAPTER_KIND), or the base model has no
                such module (ADAPTER_MISMATCH).
        """
        check_kinds(digest, header)
        keys, foreign, absent = AdapterKeys(), [], set()
        for name in sorted(header.tensors):
            called, role = _parsed(name)
            places = self.find(called)
            if not places:
                absent.add(called)
            for module, cut in places:
                known = keys.modules.get(module, {})
                if role in known or (known and keys.cuts.get(module) != cut):
                    foreign.append(name)
                keys.modules[module] = known | {role: name}
                if cut is not None:
                    keys.cuts[module] = cut
        if foreign:
            raise refused(digest, foreign, "the same layer twice, under two names")
        if absent:
            count = len(absent) + len(keys.modules)
            looks = next((f"; it looks like an adapter of {name}" for mark, name in MADE_FOR if _any(mark, absent)), "")
            raise mismatch(
                f"The adapter {digest[:12]} changes {count} layers, of which the base model has {len(keys.modules)}; "
                f"it has not, for example, {_shown(absent)}{looks}"
            )
        return keys


def check_kinds(digest: str, header: Header) -> None:
    """Raises FailedPrecondition (ADAPTER_KIND) where a tensor of an adapter is of a kind that konomi does not apply."""
    foreign = [name for name in sorted(header.tensors) if _parsed(name)[1] == "" or name.startswith("base_model.")]
    if foreign or not header.tensors:
        joined = " ".join(sorted(header.tensors))
        kind = next((kind for part, kind in LOOKS_LIKE if part in joined), "no adapter that konomi knows")
        raise refused(digest, foreign, kind)


def refused(digest: str, names: Iterable[str], kind: str) -> FailedPrecondition:
    """Returns the error for a file with tensors that cannot be applied; `kind` is what it looks like."""
    names = list(names)
    return FailedPrecondition(
        f"The adapter {digest[:12]} has {len(names)} tensors that konomi cannot apply ({_shown(names) or 'none'}): it "
        f"looks like {kind}. Give a LoRA, DoRA, LoHa or LoKr of this base model, or a Custom Diffusion model.",
        reason="ADAPTER_KIND",
    )


def mismatch(what: str) -> FailedPrecondition:
    """Returns the error for an adapter of another base model."""
    return FailedPrecondition(
        f"{what}. Give an adapter that was trained on this base model, or name the base model it was trained on.",
        reason="ADAPTER_MISMATCH",
    )


def _has_weight(module: Any) -> bool:
    return isinstance(module, QuantizedLinear) or getattr(module, "weight", None) is not None


def _parsed(name: str) -> tuple[str, str]:
    """Returns what a file calls the module of a tensor, and what the tensor is to it; "" where that is not known."""
    plain = name.replace(".default.weight", ".weight").removesuffix(".default")
    for pattern, output in ((OLD_UNET, "to_out.0"), (OLD_TEXT, "out_proj")):
        if match := pattern.search(plain):
            letter = f"to_{match[1]}" if pattern is OLD_UNET else f"{match[1]}_proj"
            return f"{plain[: match.start()]}.{output if match[1] == 'out' else letter}", match[2]
    end, role = next(((end, role) for end, role in ENDS if plain.endswith(end)), ("", ""))
    return plain.removesuffix(end), role


def _any(mark: str, names: Iterable[str]) -> bool:
    return any(re.search(mark, name) for name in names)


def _shown(names: Iterable[str]) -> str:
    return ", ".join(name[:90] for name in sorted(names)[:SHOWN])
