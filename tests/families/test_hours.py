"""The hours the docs estimate of a night on the flow families, reckoned anew from counted operations."""

import re
from pathlib import Path

import pytest
import torch

from konomi.night.settings import NightSettings
from konomi_chassis.models.families import table
from konomi_chassis.models.memory_needs import LARGE_BATCH
from tests.families.test_flops import attention, layers
from tests.published_size.flows import PUBLISHED

CARDS = {"RTX 4090": 165.2e12, "H100 SXM": 989e12}
"""Published dense bfloat16 operations a second: NVIDIA's Ada whitepaper and H100 data sheet."""
EFFICIENCY = 0.4
BACK_AND_FORTH = 3
"""Passes a row of a training step takes: forward, again for the activations, and back to them; no weight but the
adapter's has a gradient."""
ROWS = {
    "Z-Image": ("Z-Image", False),
    "Z-Image-Turbo": ("Z-Image", True),
    "FLUX.1 [dev]": ("FLUX.1 [dev]", False),
    "Chroma1-HD": ("Chroma1-HD", False),
    "Qwen-Image": ("Qwen-Image", False),
    "FLUX.2 [klein] base 4B": ("FLUX.2 [klein] 4B", False),
    "FLUX.2 [klein] 4B": ("FLUX.2 [klein] 4B", True),
    "Stable Diffusion 3.5 Medium": ("Stable Diffusion 3.5 Medium", False),
    "Stable Diffusion 3.5 Large": ("Stable Diffusion 3.5 Large", False),
    "Lumina Image 2.0": ("Lumina Image 2.0", False),
}
"""Row of the docs → published transformer, and whether it was distilled to few steps without guidance."""


def night(name: str, *, distilled: bool) -> tuple[float, float]:
    """Returns the operations of a default night: of all images it draws, and of all steps it trains."""
    flow, settings = PUBLISHED[name], NightSettings()
    with torch.device("meta"):
        network = flow.transformer()
    row = layers(network, flow) + attention(network, flow)
    defaults = table.family(flow.family).defaults
    drawing = defaults.few_step if distilled else defaults.drawing
    assert drawing is not None
    guided = 1 if distilled or name.startswith("FLUX.1") else 2
    images = settings.units * settings.images + (settings.units + 1) * settings.evaluation_images
    trained = settings.units * settings.steps * LARGE_BATCH
    return images * drawing.steps * guided * row, trained * BACK_AND_FORTH * row


@pytest.mark.slow
@pytest.mark.parametrize("docs", ["docs/first-night.md", "docs/first-night.ja.md"])
def test_the_docs_estimate_what_counted_operations_say(docs: str) -> None:
    text = Path(docs).read_text("utf-8")
    found = dict(re.findall(r"^\| ([^|]+?) \| (\d[\d.]* \| \d[\d.]* \| \d[\d.]*) \|$", text, re.M))
    assert found.keys() == ROWS.keys()
    for row, (name, distilled) in ROWS.items():
        draw, train = night(name, distilled=distilled)
        hours = [(draw + train) / rate / EFFICIENCY / 3600 for rate in CARDS.values()]
        hours.append(train / CARDS["RTX 4090"] / EFFICIENCY / 3600)
        assert found[row] == " | ".join(f"{value:.1f}" for value in hours), row
