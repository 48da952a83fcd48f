"""Trains the starter's open_clip model: a small ModifiedResNet and text tower on caption-image pairs."""

import json
import logging
import random
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch.nn import functional

from konomi_starter.data.captions import CONTEXT_LENGTH, Record, caption
from konomi_starter.training.autoencoder import to_model
from konomi_starter.training.optimisation import Average, cosine, descend, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)
CLIP_MEAN = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
CLIP_STD = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
HARD_SHARE = 0.25
"""Share of batches drawn from one style and background: more makes style and hair worse."""


def model_config(width: int, vocabulary: int) -> dict[str, object]:
    """Returns the open_clip model configuration; the tokenizer's path is filled in where it is loaded."""
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": width, "head_width": 64},
        "text_cfg": {"context_length": CONTEXT_LENGTH, "vocab_size": vocabulary, "width": 128, "heads": 4, "layers": 2},
    }


def normalise(pixels: np.ndarray) -> torch.Tensor:
    """Turns (N, 64, 64, 3) uint8 into what open_clip's own preprocessing returns for 64-pixel images."""
    return ((to_model(pixels) + 1) / 2 - CLIP_MEAN) / CLIP_STD


def build(config: dict[str, object], seed: int) -> open_clip.CLIP:
    """Builds the model with random weights; token embeddings start wide, as in the generator."""
    torch.manual_seed(seed)
    settings = json.loads(json.dumps(config))
    model = open_clip.CLIP(
        embed_dim=settings["embed_dim"], vision_cfg=settings["vision_cfg"], text_cfg=settings["text_cfg"]
    )
    torch.nn.init.normal_(model.token_embedding.weight, std=0.3)
    torch.nn.init.normal_(model.positional_embedding, std=0.1)
    return model


def _lookalikes(records: Sequence[Record], batch: int) -> list[np.ndarray]:
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[record["style"], record["background"]].append(index)
    return [np.array(group) for group in groups.values() if len(group) >= batch]


def _optimizer(model: open_clip.CLIP) -> torch.optim.AdamW:
    """Returns AdamW that decays matrices alone, not biases and gains."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        1e-3,
        betas=(0.9, 0.98),
        fused=True,
    )


def _draw_rows(rng: np.random.Generator, count: int, groups: list[np.ndarray], batch: int) -> np.ndarray:
    """Draws the rows (batch,) of a step: of all `count` renders, or of one group of lookalikes."""
    if groups and rng.random() < HARD_SHARE:
        return rng.choice(groups[rng.integers(len(groups))], batch, replace=False)
    return rng.integers(0, count, batch)


def _augment(x: torch.Tensor, rng: np.random.Generator, step: int) -> torch.Tensor:
    """Shifts the brightness of images (N, 3, 64, 64), adds noise and blurs every third batch."""
    batch = len(x)
    x = x + torch.tensor(rng.standard_normal((batch, 1, 1, 1), np.float32)) * 0.06
    x = x + torch.tensor(rng.standard_normal(x.shape, np.float32) * rng.random((batch, 1, 1, 1), np.float32)) * 0.15
    if step % 3 == 0:  # the generator's images are softer than renders
        x = functional.interpolate(
            functional.interpolate(x, scale_factor=0.5, mode="area"), scale_factor=2, mode="bilinear"
        )
    return x


def _contrastive_loss(logits: torch.Tensor, texts: Sequence[str], device: str) -> torch.Tensor:
    """Returns the symmetric contrastive loss of logits (N, N); captions of the same phrases share the target."""
    names = np.array([hash_text(t) for t in texts])
    same = torch.tensor((names[:, None] == names[None]).astype(np.float32), device=device)
    target = same / same.sum(1, keepdim=True)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.t(), target)) / 2


def train(
    model: open_clip.CLIP,
    tokenize: open_clip.tokenizer.SimpleTokenizer,
    pixels: np.ndarray,
    records: Sequence[Record],
    *,
    steps: int,
    batch: int,
    checkpoint: Path,
    seed: int,
    device: str,
) -> None:
    """Trains the model in place on the symmetric contrastive loss; identical captions share the target."""
    model.to(device).train()
    optimizer, groups = _optimizer(model), _lookalikes(records, batch)
    average = Average([model], 0.0)
    for step in range(load_checkpoint(checkpoint, [model], optimizer, average), steps):
        rng, words = np.random.default_rng((seed, step)), random.Random(f"{seed}-{step}")
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * cosine(step, steps, warmup=50)
        index = _draw_rows(rng, len(pixels), groups, batch)
        texts = [caption(records[i], words, drop=0.1, open_share=0.15) for i in index]
        x = _augment(normalise(pixels[index]), rng, step)
        image, text, scale = model(x.to(device), tokenize(texts).to(device))
        loss = _contrastive_loss(scale * image @ text.t(), texts, device)
        descend(loss, optimizer, model.parameters())
        average.update(step)
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.6052)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, [model], optimizer, average)
            log.info(
                "embedder step %d pairs %d loss %.3f scale %.1f",
                step + 1,
                (step + 1) * batch,
                loss.item(),
                scale.item(),
            )
    model.eval()


def hash_text(text: str) -> int:
    """Returns a stable integer of the caption as a set of phrases, so that shuffles count as identical."""
    return zlib.crc32(", ".join(sorted(text.split(", "))).encode())
