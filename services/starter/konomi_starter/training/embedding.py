"""Embeds portraits with the bundled open_clip model, for the model card and for realism."""

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file

from konomi_starter.training.embedder import normalise


def load(folder: Path) -> open_clip.CLIP:
    """Loads the model of `folder` (model.json, model.safetensors) in single precision."""
    config = json.loads((folder / "model.json").read_text())
    model = open_clip.CLIP(embed_dim=config["embed_dim"], vision_cfg=config["vision_cfg"], text_cfg=config["text_cfg"])
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: v.float() if v.is_floating_point() else v for name, v in tensors.items()})
    return model.eval()


@torch.no_grad()
def embed(model: open_clip.CLIP, pixels: np.ndarray) -> np.ndarray:
    """Returns (N, D) float32 unit vectors of (N, 64, 64, 3) uint8."""
    parts = [model.encode_image(normalise(pixels[i : i + 64]), normalize=True) for i in range(0, len(pixels), 64)]
    return torch.cat(parts).numpy()
