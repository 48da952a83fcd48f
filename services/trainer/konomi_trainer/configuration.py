"""The numbers of one training run: defaults, bounds and the digest that tells two runs apart."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from konomi.errors import InvalidArgument
from konomi_chassis.models.families.quantization import NAMES, NONE
from konomi_chassis.models.memory_needs import BATCH, LARGE_BATCH

STARTER = "starter"
AUTO = "auto"
PLAIN = "plain"
PRECISIONS = ("fp32", "bf16", "fp16")
ASKED_PRECISIONS = (*PRECISIONS, AUTO)
OPTIMIZERS = ("adamw", "adamw_8bit")
DEFAULTS: Mapping[str, Any] = {
    "steps": 80,
    "batch_size": BATCH,
    "rank": 8,
    "caption_dropout": 0.1,
    "ema_decay": 0.0,
    "max_grad_norm": 1.0,
    "checkpoint_steps": 20,
    "gradient_accumulation": 1,
    "min_snr_gamma": 0.0,
    "precision": AUTO,
    "quantization": "",
    "prior_weight": 1.0,
    "scale_augmentation": True,
    "text_encoder_learning_rate": 0.0,
    "aspect_buckets": True,
    "flip": False,
    "optimizer": "adamw",
    "validation_share": 0.0,
    "resolution": 0,
    "contrast_beta": 0.0,
}
BOUNDS: Mapping[str, tuple[float, float]] = {
    "steps": (1, 100_000),
    "batch_size": (1, 256),
    "learning_rate": (1e-9, 1.0),
    "rank": (1, 256),
    "caption_dropout": (0, 1),
    "ema_decay": (0, 0.999999),
    "max_grad_norm": (1e-6, 1e6),
    "checkpoint_steps": (1, 100_000),
    "gradient_accumulation": (1, 1024),
    "min_snr_gamma": (0, 1000),
    "prior_weight": (0, 1000),
    "text_encoder_learning_rate": (0, 1.0),
    "validation_share": (0, 0.5),
    "resolution": (0, 4096),
    "contrast_beta": (0.35, 4),
}
"""Least and largest value of each number; the field rules of a request are made of these too."""
OFF_AT_ZERO = frozenset({"contrast_beta"})
"""Numbers that may also be 0, which leaves out what they are of."""


@dataclass(frozen=True)
class MethodDefaults:
    """What a training method wants where the caller says nothing.

    Attributes:
        learning_rate: for other base models than the starter.
        starter_learning_rate: for the starter.
        numbers: what differs from DEFAULTS.
        starter_numbers: what differs further for the starter.
        large_numbers: what differs further for bases of SDXL's class, of whose images one card holds few.
    """

    learning_rate: float = 0.0001
    starter_learning_rate: float = 0.0015
    numbers: Mapping[str, Any] = field(default_factory=dict)
    starter_numbers: Mapping[str, Any] = field(default_factory=dict)
    large_numbers: Mapping[str, Any] = field(default_factory=lambda: {"batch_size": LARGE_BATCH})

    def of_base(self, base_model: str, large: bool = False) -> dict[str, Any]:
        """Returns every number for a base model, `large` where it is of SDXL's class."""
        if base_model == STARTER:
            rate = {"learning_rate": self.starter_learning_rate}
            return {**DEFAULTS, **rate, **self.numbers, **self.starter_numbers}
        more = self.large_numbers if large else {}
        return {**DEFAULTS, "learning_rate": self.learning_rate, **self.numbers, **more}


@dataclass(frozen=True)
class BaseTraits:
    """What of a base model and of the device it is trained on decides numbers the caller leaves open.

    Attributes:
        precision: what "auto" becomes: "bf16" where the device computes in it, else "fp16"; "fp32" on a CPU.
        large: whether the base is of SDXL's class.
        numbers: what the base's file of settings says, by field name; they stand over the method's defaults.
        prompt_syntax: how captions are read; see Configuration.
        clip_skip: likewise.
        quantization: what "" becomes: as the trainer's settings say, "none" for a base that is not quantised.
    """

    precision: str = "fp32"
    large: bool = False
    numbers: Mapping[str, Any] = field(default_factory=dict)
    prompt_syntax: str = PLAIN
    clip_skip: int = 1
    quantization: str = NONE


@dataclass(frozen=True)
class Configuration:
    """Everything besides the data that decides what a run learns.

    Attributes:
        prompt_syntax: "plain", or "weighted" for captions of 225 tokens with emphasis; the base's when the run began.
        clip_skip: which layer of the text encoder counts, from the end, 1 is the last; likewise the base's.
        quantization: in how many bits the frozen weights of a flow transformer lie; see quantization of the chassis.
        contrast_beta: step length of signed targets, 0 without; see methods.contrast.
    """

    method: str
    base_model: str
    base_digest: str
    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    rank: int
    caption_dropout: float
    ema_decay: float
    max_grad_norm: float
    checkpoint_steps: int
    gradient_accumulation: int
    min_snr_gamma: float
    precision: str
    prior_weight: float = 1.0
    scale_augmentation: bool = True
    concepts: tuple[dict[str, str], ...] = ()
    text_encoder_learning_rate: float = 0.0
    aspect_buckets: bool = False
    flip: bool = False
    optimizer: str = "adamw"
    validation_share: float = 0.0
    resolution: int = 0
    prompt_syntax: str = PLAIN
    clip_skip: int = 1
    contrast_beta: float = 0.0
    quantization: str = NONE

    def digest(self) -> str:
        """Returns the sha256 of the canonical JSON of the fields.

        A field with a default counts only where it differs, so a new field leaves older digests as they are.
        """
        defaults = {row.name: row.default for row in fields(self) if row.default is not MISSING}
        rows = {name: value for name, value in asdict(self).items() if name not in defaults or value != defaults[name]}
        text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def complete(
    method: str,
    base_model: str,
    base_digest: str,
    seed: int,
    given: Mapping[str, Any],
    defaults: MethodDefaults,
    traits: BaseTraits | None = None,
) -> Configuration:
    """Returns the configuration of a run with every unset number at its default and nothing left open.

    What the caller gave counts first, then the base's file of settings, then what the method wants for such a base.

    Args:
        method: name of the training method.
        base_model: id of the base model.
        base_digest: digest of its weights.
        seed: any int64.
        given: the hyper-parameters the caller set, by field name.
        defaults: of the method.
        traits: of the base model and the device; those of a small base on a CPU without them.

    Raises:
        InvalidArgument: a number is out of its bounds; the field is named.
    """
    traits = traits or BaseTraits()
    numbers = {**defaults.of_base(base_model, traits.large), **traits.numbers, **given}
    if numbers["precision"] == AUTO:
        numbers["precision"] = traits.numbers.get("precision", traits.precision)
    numbers["quantization"] = numbers["quantization"] or traits.quantization
    _check(numbers)
    numbers |= {"prompt_syntax": traits.prompt_syntax, "clip_skip": traits.clip_skip}
    return Configuration(method=method, base_model=base_model, base_digest=base_digest, seed=seed, **numbers)


def _check(numbers: Mapping[str, Any]) -> None:
    """Raises InvalidArgument where a number is out of its bounds or a name is none of those there are."""
    for name, (low, high) in BOUNDS.items():
        value = numbers[name]
        if value == 0 and name in OFF_AT_ZERO:
            continue
        if not math.isfinite(value) or not low <= value <= high:
            raise _refused(name, f"from {low:g} to {high:g}; came {value:g}")
    named = {"precision": (PRECISIONS, ASKED_PRECISIONS), "optimizer": (OPTIMIZERS,) * 2, "quantization": (NAMES,) * 2}
    for name, (accepted, names) in named.items():
        if numbers[name] not in accepted:
            raise _refused(name, f"{', '.join(names)}; came {numbers[name]!r}")


def _refused(name: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"expected {name} {what}", reason="HYPER_PARAMETER", field=f"hyper_parameters.{name}")
