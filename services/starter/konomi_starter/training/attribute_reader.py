"""The attribute reader: a small CNN that names a portrait's attributes, the simulated person's eyes."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from konomi_starter.data.captions import ATTRIBUTES, Record
from konomi_starter.training.autoencoder import to_model

log = logging.getLogger(__name__)


class AttributeReader(nn.Module):
    """Four strided convolutions and one linear head per attribute."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (32, 64, 96, 128):
            layers += [nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.features = nn.Sequential(*layers)
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(128 * 16, 256), nn.ReLU(), nn.Dropout(0.2))
        self.heads = nn.ModuleDict({name: nn.Linear(256, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns logits (N, values) per attribute of images (N, 3, 64, 64) in -1..1."""
        hidden = self.trunk(self.features(images))
        return {name: head(hidden) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, pixels: np.ndarray) -> list[dict[str, str]]:
        """Returns the attribute record of every image of (N, 64, 64, 3) uint8."""
        self.eval()
        rows: list[dict[str, str]] = []
        for start in range(0, len(pixels), 256):
            logits = self(to_model(pixels[start : start + 256]))
            picks = {name: values.argmax(1).tolist() for name, values in logits.items()}
            rows += [
                {name: ATTRIBUTES[name][picks[name][i]] for name in ATTRIBUTES}
                for i in range(len(next(iter(picks.values()))))
            ]
        return rows


def load(path: Path) -> AttributeReader:
    """Loads the bundled reader."""
    model = AttributeReader()
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in load_file(path).items()}
    )
    return model.eval()


def labels(records: Sequence[Record]) -> dict[str, torch.Tensor]:
    """Returns class indices (N,) int64 per attribute."""
    return {name: torch.tensor([values.index(r[name]) for r in records]) for name, values in ATTRIBUTES.items()}


def train(
    model: AttributeReader, pixels: np.ndarray, records: Sequence[Record], *, steps: int, seed: int, device: str
) -> None:
    """Trains the reader in place on shifted, noisy and blurred renders, so that soft samples are read too."""
    torch.manual_seed(seed)
    model.to(device).train()
    targets = labels(records)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        index = np.random.default_rng((seed, step)).integers(0, len(pixels), 64)
        x = to_model(pixels[index]) + torch.randn(64, 1, 1, 1) * 0.03
        x = x + torch.randn_like(x) * (0.15 * torch.rand(64, 1, 1, 1))
        if step % 2:
            x = functional.interpolate(
                functional.interpolate(x, scale_factor=0.5, mode="area"), scale_factor=2, mode="bilinear"
            )
        logits = model(x.to(device))
        loss = sum(functional.cross_entropy(logits[name], targets[name][index].to(device)) for name in ATTRIBUTES)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % 500 == 0:
            log.info("reader step %d loss %.4f", step + 1, loss.item())
    model.to("cpu").eval()
