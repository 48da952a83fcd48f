"""What every training stage of the recipe shares: schedule, averaged weights and checkpoints."""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def cosine(step: int, total: int, *, warmup: int, floor: float = 0.01) -> float:
    """Returns the learning-rate factor at `step`: linear warm-up, then cosine to `floor`."""
    return min(1.0, (step + 1) / warmup) * (
        floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
    )


def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer, parameters: Iterable[torch.Tensor]) -> None:
    """Takes one step of the optimiser down a loss; the norm of the gradient is clipped to 1."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


class Average:
    """Exponential moving average of parameters, warmed up so that early averages are usable."""

    def __init__(self, modules: Iterable[torch.nn.Module], decay: float) -> None:
        self.live = [p for module in modules for p in module.parameters()]
        self.mean = [p.detach().clone() for p in self.live]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the live weights."""
        decay = min(self.decay, (1 + step) / (20 + step))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges live and averaged weights; call again to undo."""
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.detach().clone()
            live.copy_(mean)
            mean.copy_(kept)


def save_checkpoint(
    path: Path, step: int, modules: Iterable[torch.nn.Module], optimizer: torch.optim.Optimizer, average: Average
) -> None:
    """Writes one complete-or-absent checkpoint: weights, averages, optimiser moments and the step."""
    tensors = {f"live.{i}": p.detach() for i, p in enumerate(average.live)}
    tensors |= {f"mean.{i}": p for i, p in enumerate(average.mean)}
    for m, module in enumerate(modules):
        tensors |= {f"buffer.{m}.{name}": b for name, b in module.named_buffers()}
    for i, p in enumerate(average.live):
        tensors |= {f"state.{i}.{key}": value for key, value in optimizer.state[p].items()}
    part = path.with_suffix(".part")
    save_file({key: value.contiguous() for key, value in tensors.items()}, part, {"step": json.dumps(step)})
    os.replace(part, path)


@torch.no_grad()
def load_checkpoint(
    path: Path, modules: Iterable[torch.nn.Module], optimizer: torch.optim.Optimizer, average: Average
) -> int:
    """Restores a checkpoint and returns its step, or 0 where there is none."""
    from safetensors import safe_open

    if not path.exists():
        return 0
    tensors = load_file(path)
    for m, module in enumerate(modules):
        for name, buffer in module.named_buffers():
            buffer.copy_(tensors[f"buffer.{m}.{name}"])
    for i, (live, mean) in enumerate(zip(average.live, average.mean, strict=True)):
        live.copy_(tensors[f"live.{i}"])
        mean.copy_(tensors[f"mean.{i}"])
        prefix = f"state.{i}."
        optimizer.state[live] = {
            key.removeprefix(prefix): value.clone() for key, value in tensors.items() if key.startswith(prefix)
        }
    with safe_open(path, "pt") as file:
        return int(json.loads(file.metadata()["step"]))
