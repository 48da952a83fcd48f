"""What the machine is and can at best, and what loading a model costs."""

import importlib.metadata
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch

import konomi_chassis
from konomi_chassis.models.loading import load_pipeline
from konomi_trainer.base_models.pipeline import TrainingPlacement, load
from tests.benchmarks.device import models
from tests.benchmarks.device.models import LAYOUTS, NAMES
from tests.benchmarks.device.sections import Check, Row
from tests.benchmarks.trainer import published_layouts as published

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "open_clip_torch", "timm", "numpy")
QUERY = ["--query-gpu=name,driver_version,memory.total,memory.used,power.limit", "--format=csv,noheader"]
PRODUCT_TIMES = 20


def versions(check: Check) -> Iterator[Row]:
    """What is installed, and what of the device is free."""
    for name in LIBRARIES:
        try:
            yield Row(f"version of {name}", note=importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Row(f"version of {name}", note="not installed")
    yield Row("cores this process may use", float(len(os.sched_getaffinity(0))), "cores")
    if check.on_gpu:
        free, whole = torch.cuda.mem_get_info(check.device)
        yield Row("free memory of the device", free / 1e9, "GB", whole / 1e9)
        yield Row("compute capability", note=".".join(map(str, torch.cuda.get_device_capability(check.device))))
    if shutil.which("nvidia-smi"):
        answer = subprocess.run(["nvidia-smi", *QUERY], capture_output=True, text=True, timeout=10)
        yield Row("nvidia-smi", note=answer.stdout.strip() or answer.stderr.strip()[:200])


def loading(check: Check) -> Iterator[Row]:
    """Seconds and memory of the host for building, saving and loading both layouts."""
    for layout in LAYOUTS:
        name, folder = NAMES[layout], check.home / "models" / layout
        began = check.now()
        pipe = models.build(check, layout)
        yield Row(f"{name}: built on the device", check.now() - began, "s")
        began = check.now()
        published.weights(pipe, folder)
        yield Row(f"{name}: saved as a folder in fp16", check.now() - began, "s")
        del pipe
        check.tidy()
        model = models.saved(check, layout)
        configs = Path(konomi_chassis.__file__).with_name("configs")
        models.forget_host_peak()
        began = check.now()
        loaded = load_pipeline(model, configs, torch.device(check.device), torch.float16)
        yield Row(f"{name}: loaded as the generator does, fp16", check.now() - began, "s")
        yield Row(f"{name}: peak memory of the host for the generator's", models.host_peak(), "GB")
        del loaded
        check.tidy()
        models.forget_host_peak()
        began = check.now()
        base = load(model, configs, "0" * 64, TrainingPlacement(check.device, "bf16", False))
        yield Row(f"{name}: loaded as the trainer does, bf16", check.now() - began, "s")
        yield Row(f"{name}: peak memory of the host for the trainer's", models.host_peak(), "GB")
        del base
        check.tidy()


def ceilings(check: Check) -> Iterator[Row]:
    """What the device does at best: a product of matrices and a copy; later rows are shares of it."""
    side, size = check.take(8192, 64), check.take(4_000_000_000, 1_000_000)
    with torch.inference_mode():
        left, right = (torch.randn(side, side, device=check.device, dtype=torch.bfloat16) for _ in range(2))
        check.seconds(lambda: left @ right, 3)
        took = check.seconds(lambda: left @ right, PRODUCT_TIMES)
        check.ceilings["flops"] = 2 * side**3 / took
        yield Row(f"product of {side}² matrices in bf16", check.ceilings["flops"] / 1e12, "TFLOP/s")
        source = torch.ones(size, dtype=torch.uint8, device=check.device)
        target = torch.empty_like(source)
        check.seconds(lambda: target.copy_(source), 2)
        took = check.seconds(lambda: target.copy_(source), PRODUCT_TIMES)
        check.ceilings["bytes"] = 2 * size / took
        yield Row("copy within the device, read and written", check.ceilings["bytes"] / 1e9, "GB/s")
        host = source.cpu().pin_memory() if check.on_gpu else source.cpu().clone()
        took = check.seconds(lambda: source.copy_(host, non_blocking=True), 3)
        yield Row("copy from pinned memory of the host", size / took / 1e9, "GB/s")
