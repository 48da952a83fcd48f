"""P8: a LoRA step with cached latents and texts beside the same step that encodes both each time.

Method: the step of diffusers' train_text_to_image_lora(_sdxl).py, written here from the installed library (VAE and text
encoders run at every step, frozen; LoRA by peft on the same layers; AdamW; clipping), and konomi's own loop take turns,
step by step, over the same images, noise, times and first weights; medians. Widths are the published ones divided by
--divisor (1 on a GPU), heads as wide as published, pixels halved on a CPU: so UNet, VAE and texts keep the shares of
operations they have at full size, both being counted on shapes without weights and reported. The base is made once, on
the device; both arms share its frozen weights, but that a script in half precision has its text encoders in half too.
Memory is the peak of a process of its own for each, from the loaded base to the last step, encoding included: GPU
memory, or the resident set. Rows of M6 come from bench_concepts.py.

    make bench-trainer ARGS="[--layouts sd1,sdxl] [--divisor 4] [--steps 9] [--batch 1] [--side 0]"
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import inject_adapter_in_model
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from konomi_trainer.base_models.pipeline import PRECISIONS, BasePipeline, TrainingPlacement
from konomi_trainer.configuration import Configuration, complete
from konomi_trainer.data import buckets, dataset
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.jobs.trainer import loop_settings
from konomi_trainer.methods import adapter_file, lora
from konomi_trainer.methods.base import PreparedMethod, TrainingSource
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import Progress, Surroundings, rate, train
from tests.benchmarks.results import Figure, report
from tests.benchmarks.trainer import published_layouts as published

IMAGES, SEED, WORDS = 8, 7, 77
GOALS = {"sd1": 0.70, "sdxl": 0.80}
NAMES = {"sd1": "SD 1.5", "sdxl": "SDXL"}
CAPTIONS = ("a portrait, oil on canvas, warm light", "a comic drawing of a dog in the rain", "a quiet street at dusk")


@dataclass(frozen=True)
class Task:
    """One comparison: layout, divisor of widths, side in pixels, images per step, steps, device, precision."""

    layout: str
    divisor: int
    side: int
    batch: int
    steps: int
    device: str
    precision: str

    def configuration(self) -> Configuration:
        """Returns konomi's configuration of the run."""
        numbers = {
            "steps": self.steps, "batch_size": self.batch, "rank": 8, "caption_dropout": 0.0, "resolution": self.side,
            "checkpoint_steps": 100_000, "aspect_buckets": False, "learning_rate": 1e-3, "precision": self.precision,
        }  # fmt: skip
        return complete("lora", self.layout, "0" * 64, SEED, numbers, lora.LORA_METHOD.defaults)


def pixels(digest: str, side: int) -> np.ndarray:
    """Returns a smooth random picture, (side, side, 3) uint8."""
    noise = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(int(digest, 16)))
    large = functional.interpolate(noise, (side, side), mode="bicubic").clamp(0, 1)
    return (large[0].permute(1, 2, 0) * 255).byte().numpy()


def items() -> list[ManifestItem]:
    """Returns the manifest's items."""
    return [ManifestItem(f"{i + 1:064x}", CAPTIONS[i % len(CAPTIONS)], 1.0, "selected") for i in range(IMAGES)]


def base_of(task: Task) -> BasePipeline:
    """Returns the base model with random weights, made where it runs."""
    pipe = published.pipeline(task.layout, task.divisor, device=task.device)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    return _placed(pipe, task)


def _placed(pipe: Any, task: Task) -> BasePipeline:
    base = BasePipeline(pipe, "0" * 64, TrainingPlacement(task.device, task.precision, False), task.side)
    base.settle()
    return base


def script_base(base: BasePipeline, task: Task) -> BasePipeline:
    """Returns the base once more for the script: other modules around the same weights, texts in its precision."""
    parts = {**base._pipe.components, "unet": sharing(base.network)}
    for name in ("text_encoder", "text_encoder_2"):
        if task.precision != "fp32" and parts.get(name) is not None:
            parts[name] = copy.deepcopy(parts[name]).to(PRECISIONS[task.precision])
    extra = {"requires_safety_checker": False} if "safety_checker" in parts else {"add_watermarker": False}
    return _placed(type(base._pipe)(**parts, **extra), task)


def sharing(module: torch.nn.Module) -> torch.nn.Module:
    """Returns a copy of a network's modules around the very same weights."""
    return copy.deepcopy(module, {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())})


def cached(base: BasePipeline, task: Task, folder: Path) -> PreparedMethod:
    """Returns konomi's LoRA made ready."""
    source = TrainingSource(items(), lambda digest: pixels(digest, task.side), TensorCache(folder), lambda: None)
    return lora.LORA.prepare(base, source, task.configuration())


class ScriptStep:
    """The training step of diffusers' own scripts, fed with konomi's draws so that losses can be compared."""

    def __init__(self, base: BasePipeline, task: Task) -> None:
        """Takes a base model of its own; adds the same LoRA with the same first weights."""
        self._base, self._task, self._pipe = base, task, base._pipe
        self._weights = lora.attach({"unet": base.network}, lora.LORA, 8, SEED)
        self._parameters = list(self._weights.values())
        self._optimizer = torch.optim.AdamW(self._parameters, lr=1e-3)
        self._pixels = torch.stack([dataset.fit(pixels(item.digest, task.side), task.side)[0] for item in items()])
        self._captions = [item.caption for item in items()]
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def __call__(self, step: int, share: float) -> None:
        """Takes one step."""
        task, base, vae = self._task, self._base, self._pipe.vae
        rows = buckets.order(IMAGES, SEED, (), step * task.batch, task.batch)
        rng = np.random.default_rng([SEED, dataset.DRAWS, step])
        shape = (task.batch, 4, task.side // 8, task.side // 8)
        noise = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(task.device)
        times = torch.from_numpy(rng.integers(0, len(base.path.alphas), task.batch)).to(task.device)
        rng.random(task.batch)
        spread = torch.from_numpy(rng.standard_normal(shape, np.float32)).to(task.device)
        batch = self._pixels[torch.from_numpy(rows)].to(task.device)
        began = _now(task.device)
        with torch.no_grad():
            found = vae.encode(batch).latent_dist
            latents = (found.mean + found.std * spread) * vae.config.scaling_factor
            texts = base.embed([self._captions[row] for row in rows])
        alphas = base.path.alphas[times].view(-1, 1, 1, 1)
        noisy = alphas.sqrt() * latents + (1 - alphas).sqrt() * noise
        sizes = torch.tensor([[task.side, task.side, 0, 0, task.side, task.side]] * task.batch, dtype=torch.float32)
        given = dataset.Batch(latents, noise, times, texts["hidden"], texts.get("pooled"), sizes, torch.ones(1))
        loss = functional.mse_loss(base.predict(noisy, times, given).float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.param_groups[0]["lr"] = 1e-3 * share
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.losses.append(loss.item())
        self.seconds.append(_now(task.device) - began)


def compare(task: Task) -> tuple[list[float], list[float], list[float], list[float]]:
    """Returns seconds and losses of konomi's steps and of the script's, which take turns."""
    base = base_of(task)
    script = ScriptStep(script_base(base, task), task)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        learning = cached(base, task, Path(folder) / "cache")
        settings = loop_settings(task.configuration(), learning)
        mark = [0.0]

        def turn(progress: Progress) -> None:
            if progress.step > 1:
                seconds.append(_now(task.device) - mark[0])
            script(progress.step - 1, rate(progress.step - 1, settings))
            mark[0] = _now(task.device)

        _, progress = train(
            learning.weights,
            learning.loss,
            settings,
            Checkpoints(Path(folder) / "run"),
            Surroundings(turn, lambda: False),
        )
    # the first step warms up, the last one of konomi's also saves the run
    return seconds[:-1], script.seconds[1:-1], [loss or 0.0 for loss in progress.losses], script.losses


def operations(task: Task, divisor: int, side: int) -> dict[str, float]:
    """Returns the operations of one image's step by part, counted on shapes without weights."""
    layout, latent = task.layout, side // 8
    with torch.device("meta"):
        unet, vae = published.unet(layout, divisor), published.vae(layout, divisor)
        towers = [published.text_encoder(layout, number, divisor) for number in ((1, 2) if layout == "sdxl" else (1,))]
        unet.requires_grad_(False)
        adapted = inject_adapter_in_model(lora.LORA.configure(8, adapter_file.UNET_TARGETS["unet"]), unet)
        noisy, words = torch.empty(1, 4, latent, latent), torch.zeros(1, WORDS, dtype=torch.long)
        hidden = torch.empty(1, WORDS, int(unet.config.cross_attention_dim))
        added = None
        if layout == "sdxl":
            pooled = published.read(layout, "text_encoder_2")["projection_dim"] // divisor
            added = {"text_embeds": torch.empty(1, pooled), "time_ids": torch.empty(1, 6)}

        def run_unet() -> None:
            adapted(noisy, torch.empty(1), hidden, added_cond_kwargs=added).sample.sum().backward()

        def run_texts() -> None:
            for tower in towers:
                tower(words)

        parts: dict[str, Callable[[], object]] = {
            "unet": run_unet, "vae": lambda: vae.encode(torch.empty(1, 3, side, side)), "text": run_texts,
        }  # fmt: skip
        counted = {}
        for name, part in parts.items():
            with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(name == "unet"):
                part()
            counted[name] = float(counter.get_total_flops())
    return counted


def peak(task: Task, arm: str) -> float:
    """Returns the peak memory of one arm in MiB, measured in a process of its own; its cache is empty at first."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.trainer.bench_trainer",
            "--cache",
            folder,
            "--task",
            json.dumps(vars(task) | {"steps": 2}),
            "--arm",
            arm,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=3600)
    return float(done.stdout.splitlines()[-1])


def run_arm(task: Task, arm: str, cache: Path) -> None:
    """Prints the peak memory of one arm in MiB: GPU memory where there is one, the resident set elsewhere."""
    base = base_of(task)
    if arm == "script" and task.precision != "fp32":
        base = script_base(base, task)
    if task.device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    if arm == "script":
        step = ScriptStep(base, task)
        for number in range(task.steps):
            step(number, 1.0)
    else:
        learning = cached(base, task, cache)
        settings, alone = loop_settings(task.configuration(), learning), Surroundings(lambda p: None, lambda: False)
        train(learning.weights, learning.loss, settings, Checkpoints(cache / "run"), alone)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print((used if task.device == "cpu" else torch.cuda.max_memory_allocated()) / 2**20)


def figures(task: Task) -> list[Figure]:
    """Returns the figures of one layout."""
    ours, theirs, own, other = compare(task)
    name, count = NAMES[task.layout], len(ours)
    full, here = operations(task, 1, published.SIDES[task.layout]), operations(task, task.divisor, task.side)
    where = f"widths /{task.divisor}, {task.side} px, {task.device} {task.precision}"
    rows = [
        Figure(
            "P8", f"{name}: a cached step beside a step that encodes, {where}",
            statistics.median(ours) / task.batch, statistics.median(theirs) / task.batch, "s/image", count,
        )
    ]  # fmt: skip
    for what, counted in (("full size", full), ("as run here", here)):
        whole = sum(counted.values())
        rows.append(Figure("P8-operations", f"{name}: {what}", counted["unet"] / 1e12, whole / 1e12, "TFLOP/image", 1))
    worst = max(abs(a - b) / b for a, b in zip(own, other, strict=True))
    rows.append(Figure("P8-loss", f"{name}: largest difference of a step's loss", worst, 0.01, "share", len(own)))
    rows.append(Figure("P8-memory", f"{name}: peak memory", peak(task, "cached"), peak(task, "script"), "MiB", 1))
    goal = GOALS[task.layout]
    assert rows[0].ratio is not None
    print(f"{name}: {rows[0].ratio:.2f}, goal {goal:.2f}: {'met' if rows[0].ratio <= goal else 'not met'}")
    return rows


def main() -> None:
    """Runs the comparison of every layout asked for and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", default="sd1,sdxl")
    parser.add_argument("--divisor", type=int, default=1 if torch.cuda.is_available() else 4)
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", type=int, default=0, help="pixels; 0: the layout's own, half of it on a CPU")
    parser.add_argument("--precision", default="bf16" if torch.cuda.is_available() else "fp32")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    if options.arm:
        run_arm(Task(**json.loads(options.task)), options.arm, options.cache)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = []
    for layout in options.layouts.split(","):
        side = options.side or published.SIDES[layout] // (2 if device == "cpu" else 1)
        found += figures(Task(layout, options.divisor, side, options.batch, options.steps, device, options.precision))
    report("trainer", found)


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
