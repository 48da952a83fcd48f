"""The models a check of a device runs on: published layouts of seeded random weights, saved once in half precision."""

import resource
from pathlib import Path
from typing import Any

import torch

from konomi_chassis.models.catalogue import BaseModel, BaseModels
from konomi_generator.sampling import AdapterFile
from konomi_trainer.methods import lora
from tests.benchmarks.device.sections import Check
from tests.benchmarks.trainer import published_layouts as published

LAYOUTS = ("sd1", "sdxl")
NAMES = {"sd1": "SD 1.5", "sdxl": "SDXL"}
RANK = 8
STRENGTH = 0.02
"""Spread of an adapter's numbers: large enough that a wrong one shows."""
CLEAR_PEAK = "5"
"""What the kernel takes for the wish to count a process's peak memory anew."""


def build(check: Check, layout: str) -> Any:
    """Returns a pipeline of random weights in half precision, drawn on the device."""
    return published.pipeline(layout, check.divisor, device=check.device).to(torch.float16)


def saved(check: Check, layout: str) -> BaseModel:
    """Returns a layout's model from the check's home, saved now if it is not there."""
    folder = check.home / "models" / layout
    if not folder.exists():
        published.weights(build(check, layout), folder)
    return BaseModels(check.home).get(layout)


def adapter(check: Check, layout: str, seed: int) -> AdapterFile:
    """Returns a LoRA of a layout with random numbers."""
    with torch.device("meta"):
        unet = published.unet(layout, check.divisor)
        shapes = lora.attach({"unet": unet}, lora.LORA, RANK, seed)
    generator = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(value.shape, generator=generator) * STRENGTH for name, value in shapes.items()}
    return AdapterFile(f"{seed:064x}", lora.LORA.files({"unet": unet}, weights, RANK, {}).adapter, 1.0)


def forget_host_peak() -> None:
    """Begins counting this process's peak memory anew, where the kernel lets it."""
    try:
        Path("/proc/self/clear_refs").write_text(CLEAR_PEAK)
    except OSError:
        return  # what is counted is then the peak since the start


def host_peak() -> float:
    """Returns the peak of this process's memory in GB."""
    for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def off(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Returns the relative error: norm of the difference over the norm of the reference."""
    value, reference = value.detach().float().cpu(), reference.detach().float().cpu()
    return float((value - reference).norm() / reference.norm().clamp_min(1e-12))
