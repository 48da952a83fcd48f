"""The numbers of one training run: defaults, bounds and the digest that tells two runs apart."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from konomi.errors import InvalidArgument

STARTER_RATE, OTHER_RATE = 0.0015, 0.0001
PRECISIONS = ("fp32", "bf16", "fp16")
OPTIMIZERS = ("adamw", "adamw_8bit")
DEFAULTS: Mapping[str, Any] = {
    "steps": 80, "batch_size": 16, "rank": 8, "caption_dropout": 0.1, "ema_decay": 0.0, "max_grad_norm": 1.0,
    "checkpoint_steps": 20, "gradient_accumulation": 1, "min_snr_gamma": 0.0, "precision": "fp32",
    "prior_weight": 1.0, "scale_augmentation": True, "text_encoder_learning_rate": 0.0, "aspect_buckets": True,
    "flip": False, "optimizer": "adamw", "validation_share": 0.0, "resolution": 0,
}  # fmt: skip
METHOD_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "custom_diffusion": {"steps": 250, "batch_size": 8, "caption_dropout": 0.0, "checkpoint_steps": 50},
}
"""What differs from DEFAULTS for a method (Custom Diffusion: Kumari et al. 2023, section 4)."""
STARTER_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"custom_diffusion": {"scale_augmentation": False}}
"""What differs further for the starter: its pictures of 64 pixels have 8 x 8 latents, too few to be shown smaller."""
RATES: Mapping[str, tuple[float, float]] = {"custom_diffusion": (0.005, 8e-5)}
"""Learning rates of a method for the starter and for other bases, where they differ."""
BOUNDS: Mapping[str, tuple[float, float]] = {
    "steps": (1, 100_000), "batch_size": (1, 256), "learning_rate": (1e-9, 1.0), "rank": (1, 256),
    "caption_dropout": (0, 1), "ema_decay": (0, 0.999999), "max_grad_norm": (1e-6, 1e6),
    "checkpoint_steps": (1, 100_000), "gradient_accumulation": (1, 1024), "min_snr_gamma": (0, 1000),
    "prior_weight": (0, 1000), "text_encoder_learning_rate": (0, 1.0), "validation_share": (0, 0.5),
    "resolution": (0, 4096),
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """Everything besides the data that decides what a run learns."""

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

    def digest(self) -> str:
        """Returns the sha256 of the canonical JSON of the fields.

        A field with a default counts only where it differs, so a new field leaves older digests as they are.
        """
        later = {field.name: field.default for field in fields(self) if field.default is not MISSING}
        told = {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}
        text = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def complete(method: str, base_model: str, base_digest: str, seed: int, given: Mapping[str, Any]) -> Configuration:
    """Returns the configuration of a run with every unset number at its default.

    Args:
        method: a name of trainer.METHODS.
        base_model: id of the base model.
        base_digest: digest of its weights.
        seed: any int64.
        given: the hyper-parameters the caller set, by field name.

    Raises:
        InvalidArgument: a number is out of its bounds; the field is named.
    """
    rates = RATES.get(method, (STARTER_RATE, OTHER_RATE))
    rate = rates[0] if base_model == "starter" else rates[1]
    special = STARTER_DEFAULTS.get(method, {}) if base_model == "starter" else {}
    numbers = {**DEFAULTS, "learning_rate": rate, **METHOD_DEFAULTS.get(method, {}), **special, **given}
    for name, (low, high) in BOUNDS.items():
        value = numbers[name]
        if not math.isfinite(value) or not low <= value <= high:
            message = f"expected {name} from {low:g} to {high:g}; came {value:g}"
            raise InvalidArgument(message, reason="HYPER_PARAMETER", field=f"hyper_parameters.{name}")
    if numbers["precision"] not in PRECISIONS:
        message = f"expected precision {', '.join(PRECISIONS)}; came {numbers['precision']!r}"
        raise InvalidArgument(message, reason="HYPER_PARAMETER", field="hyper_parameters.precision")
    if numbers["optimizer"] not in OPTIMIZERS:
        message = f"expected optimizer {', '.join(OPTIMIZERS)}; came {numbers['optimizer']!r}"
        raise InvalidArgument(message, reason="HYPER_PARAMETER", field="hyper_parameters.optimizer")
    return Configuration(method=method, base_model=base_model, base_digest=base_digest, seed=seed, **numbers)
