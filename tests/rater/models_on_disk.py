"""Small open_clip models of random weights on disk, in the layout a person downloads: configuration and safetensors."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file

SECOND = "open_clip:second/tiny"
SECOND_CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 48, "head_width": 24, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def write_second_model(models: Path, seed: int = 5) -> str:
    """Writes a model into `models/open_clip/second` and returns its embedder's name."""
    folder = models / "open_clip" / "second"
    if not folder.exists():
        folder.mkdir(parents=True)
        save_file(weights(SECOND_CONFIG, seed), folder / "tiny.safetensors")
        config = {"model_cfg": SECOND_CONFIG, "preprocess_cfg": PREPROCESS}
        (folder / "open_clip_config.json").write_text(json.dumps(config))
    return SECOND


def weights(config: dict, seed: int = 0) -> dict[str, torch.Tensor]:
    """Returns random weights of a model."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    return {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
