"""What a model says of the noise it was trained with: what its UNet predicts, and where its schedule ends.

Zero terminal SNR: Lin et al. 2023 (2305.08891), section 3.1: the last step is all noise, so sampling must begin there
(timesteps "trailing"), and guidance is rescaled (section 3.4). Single files say it by marks: empty tensors `v_pred`
and `ztsnr`, `modelspec.prediction_type` in the header, or the betas original checkpoints carry.
"""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konomi_chassis.models.safetensors_check import Header, unsupported

V_PREDICTION_KEY = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
V_PREDICTION_SPREAD = 0.09
V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
"""Tensors that say something by being there."""
DECLARED = {
    "v": "v_prediction",
    "v_prediction": "v_prediction",
    "velocity": "v_prediction",
    "epsilon": "epsilon",
    "eps": "epsilon",
}
"""What `modelspec.prediction_type` may say, small and with underscores."""
PREDICTIONS = ("epsilon", "v_prediction")
STEPS, FIRST_BETA, LAST_BETA = 1000, 0.00085, 0.012
"""The schedule Stable Diffusion 1.x, 2.x and XL were published with: linear in the square roots of the betas."""
ROUNDING = 2e-3
"""Two betas are one number where they differ by less than this share: float16 keeps eleven bits."""
NO_SIGNAL = 1e-6
GUIDANCE_RESCALE = 0.7
"""How far guidance is rescaled where the schedule ends without signal; Lin et al. 2023, section 3.4."""
FORMATS = {"F64": "d", "F32": "f", "F16": "e"}


@dataclass(frozen=True)
class NoiseSchedule:
    """A model's own words on its noise.

    Attributes:
        prediction_type: "epsilon", "v_prediction" or "flow"; what another program holds says nothing.
        zero_terminal_snr: whether the last step holds no signal at all.
        betas: the schedule's steps where the file brings some that are not the published ones; else empty.
        few_steps: whether it is that of a model distilled to a few steps without guidance.
        unguided: whether its network was distilled so that it has no unconditional half.
    """

    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False
    betas: tuple[float, ...] = ()
    few_steps: bool = False
    unguided: bool = False

    def configuration(self) -> dict[str, Any]:
        """Returns what a scheduler's configuration says where it is to keep this schedule."""
        changes: dict[str, Any] = {"prediction_type": self.prediction_type}
        if self.betas:
            changes["trained_betas"] = list(self.betas)
        if self.zero_terminal_snr:
            changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
        return changes


def schedule_of_folder(id: str, scheduler: Mapping[str, Any]) -> NoiseSchedule:
    """Returns the schedule that a diffusers folder's scheduler_config.json describes.

    Raises:
        FailedPrecondition: its network predicts something konomi does not run (reason MODEL_LAYOUT).
    """
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in (*PREDICTIONS, "sample"):
        unsupported(id, f"its scheduler's prediction_type is {str(prediction)[:40]!r}")
    betas = tuple(float(beta) for beta in scheduler.get("trained_betas") or ())
    zero = scheduler.get("rescale_betas_zero_snr") is True or _ends_without_signal(betas)
    return NoiseSchedule(str(prediction), zero, betas)


def schedule_of_file(id: str, path: Path, header: Header, *, told_by_bias: bool) -> NoiseSchedule:
    """Returns what a single-file checkpoint says of its noise; a mark is believed before the header's metadata.

    Raises:
        FailedPrecondition: it was trained with another kind of noise (reason MODEL_LAYOUT).
    """
    edm = next((name for name in header.tensors if name.startswith("edm_")), None)
    if edm is not None:
        unsupported(id, f"its tensor {edm[:40]} marks it as trained with EDM's noise (Karras et al. 2022)")
    betas = _betas(path, header)
    zero = ZERO_SNR_MARK in header.tensors or header.metadata.get("ss_zero_terminal_snr", "").lower() == "true"
    zero = zero or _ends_without_signal(betas) or _products_end_without_signal(path, header)
    return NoiseSchedule(_prediction(id, path, header, told_by_bias), zero, () if _is_published(betas) else betas)


def _prediction(id: str, path: Path, header: Header, told_by_bias: bool) -> str:
    """Says what the UNet predicts: by a mark, by the file's metadata, for SD 2.x by a bias's spread.

    The two kinds of SD 2.x have the same tensors; in v-prediction models this bias spreads by more than 0.09.
    """
    if V_MARK in header.tensors:
        return "v_prediction"
    declared = header.metadata.get("modelspec.prediction_type", "").strip().lower().replace("-", "_")
    if declared and declared not in DECLARED:
        unsupported(id, f"its modelspec.prediction_type is {declared[:40]!r}")
    if declared:
        return DECLARED[declared]
    values = _values(path, header, V_PREDICTION_KEY) if told_by_bias else ()
    if len(values) < 2:
        return "epsilon"
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / len(values)
    return "v_prediction" if spread > V_PREDICTION_SPREAD**2 else "epsilon"


def _betas(path: Path, header: Header) -> tuple[float, ...]:
    """Returns the betas a checkpoint carries, where they are a schedule of the usual length; else none."""
    betas = _values(path, header, "betas")
    return betas if len(betas) == STEPS and all(0 < beta <= 1 for beta in betas) else ()


def _is_published(betas: tuple[float, ...]) -> bool:
    first, last = math.sqrt(FIRST_BETA), math.sqrt(LAST_BETA)
    usual = [(first + (last - first) * step / (STEPS - 1)) ** 2 for step in range(STEPS)]
    return all(abs(beta - other) <= ROUNDING * other for beta, other in zip(betas, usual, strict=False))


def _ends_without_signal(betas: tuple[float, ...]) -> bool:
    return bool(betas) and math.prod(1 - beta for beta in betas) < NO_SIGNAL


def _products_end_without_signal(path: Path, header: Header) -> bool:
    products = _values(path, header, "alphas_cumprod")
    return len(products) == STEPS and products[-1] < NO_SIGNAL


def _values(path: Path, header: Header, name: str) -> tuple[float, ...]:
    """Returns the numbers of a small floating tensor; none where it is not there."""
    entry = header.tensors.get(name)
    if entry is None or entry.dtype not in (*FORMATS, "BF16"):
        return ()
    with path.open("rb") as file:
        file.seek(header.data_start + entry.start)
        raw = file.read(entry.end - entry.start)
    if entry.dtype == "BF16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
    code = FORMATS.get(entry.dtype, "f")
    return struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)
