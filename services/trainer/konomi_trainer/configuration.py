"""The numbers of one training run: defaults, bounds and the digest that tells two runs apart."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from konomi.errors import InvalidArgument

STARTER_RATE, OTHER_RATE = 0.0015, 0.0001
PRECISIONS = ("fp32", "bf16", "fp16")
DEFAULTS: Mapping[str, Any] = {
    "steps": 80, "batch_size": 16, "rank": 8, "caption_dropout": 0.1, "ema_decay": 0.0, "max_grad_norm": 1.0,
    "checkpoint_steps": 20, "gradient_accumulation": 1, "min_snr_gamma": 0.0, "precision": "fp32",
}  # fmt: skip
BOUNDS: Mapping[str, tuple[float, float]] = {
    "steps": (1, 100_000), "batch_size": (1, 256), "learning_rate": (1e-9, 1.0), "rank": (1, 256),
    "caption_dropout": (0, 1), "ema_decay": (0, 0.999999), "max_grad_norm": (1e-6, 1e6),
    "checkpoint_steps": (1, 100_000), "gradient_accumulation": (1, 1024), "min_snr_gamma": (0, 1000),
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

    def digest(self) -> str:
        """Returns the sha256 of the canonical JSON of all fields."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def complete(method: str, base_model: str, base_digest: str, seed: int, given: Mapping[str, Any]) -> Configuration:
    """Returns the configuration of a run with every unset number at its default.

    Args:
        method: "lora".
        base_model: id of the base model.
        base_digest: digest of its weights.
        seed: any int64.
        given: the hyper-parameters the caller set, by field name.

    Raises:
        InvalidArgument: a number is out of its bounds; the field is named.
    """
    rate = STARTER_RATE if base_model == "starter" else OTHER_RATE
    numbers = {**DEFAULTS, "learning_rate": rate, **given}
    for name, (low, high) in BOUNDS.items():
        value = numbers[name]
        if not math.isfinite(value) or not low <= value <= high:
            message = f"expected {name} from {low:g} to {high:g}; came {value:g}"
            raise InvalidArgument(message, reason="HYPER_PARAMETER", field=f"hyper_parameters.{name}")
    if numbers["precision"] not in PRECISIONS:
        message = f"expected precision {', '.join(PRECISIONS)}; came {numbers['precision']!r}"
        raise InvalidArgument(message, reason="HYPER_PARAMETER", field="hyper_parameters.precision")
    return Configuration(method=method, base_model=base_model, base_digest=base_digest, seed=seed, **numbers)
