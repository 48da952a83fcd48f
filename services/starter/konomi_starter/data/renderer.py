"""Rendered portraits: runs the renderer and reads what it wrote."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PORTRAITS = Path(__file__).parents[1] / "portraits"
SIZE = 64


@dataclass(frozen=True)
class Portraits:
    """Renders with their attributes.

    Attributes:
        pixels: (N, 64, 64, 3) uint8, memory-mapped.
        records: N attribute records, in the same order.
    """

    pixels: np.ndarray
    records: list[dict[str, str]]


def render(count: int, out: Path, *, seed: int) -> Portraits:
    """Renders `count` portraits with Node, or reads them when `out` is already there.

    Raises:
        FileNotFoundError: Node is not installed.
        subprocess.CalledProcessError: the renderer failed; run `npm install` in its folder first.
    """
    if not out.with_suffix(".json").exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        script = PORTRAITS / "render.mjs"
        subprocess.run(["node", str(script), str(count), str(SIZE), str(out), str(seed)], check=True)
    return read(out)


def read(out: Path) -> Portraits:
    """Reads renders from `out`.rgb and `out`.json."""
    pixels = np.memmap(out.with_suffix(".rgb"), np.uint8, "r").reshape(-1, SIZE, SIZE, 3)
    return Portraits(pixels, json.loads(out.with_suffix(".json").read_text()))
