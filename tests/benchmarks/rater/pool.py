"""Starter images for the rater's benchmarks: made once by the bundled models, kept as numbers under build/.

A pool holds what konomi sees of an image (embedding, prompt, seed, guidance scale) and what only a simulated person
sees (its attributes). 4,000 images take about 10 minutes on one core, once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import konomi_starter
from konomi_starter.data.captions import open_prompts

FOLDER = Path(__file__).parents[3] / "build" / "bench" / "rater"
MODELS = Path(konomi_starter.__file__).parent / "models"
PROMPTS = 400
GUIDANCE = (1.5, 2.0, 3.0, 4.0, 6.0)
BATCH = 32


@dataclass(frozen=True)
class ImagePool:
    """N starter images.

    Attributes:
        embeddings: (N, D) float32, unit length.
        records: N attribute records, hidden from konomi.
        prompts: N prompts.
        seeds: (N,) int64.
        guidance: (N,) guidance scales.
    """

    embeddings: np.ndarray
    records: Sequence[dict[str, str]]
    prompts: Sequence[str]
    seeds: np.ndarray
    guidance: np.ndarray


def load(count: int, seed: int = 0) -> ImagePool:
    """Returns the pool of `count` images, made now if it was not made before."""
    path = FOLDER / f"pool-{count}-{seed}"
    if not path.with_suffix(".npz").exists():
        _make(count, seed, path)
    facts = json.loads(path.with_suffix(".json").read_text("utf-8"))
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        return ImagePool(arrays["embeddings"], facts["records"], facts["prompts"], arrays["seeds"], arrays["guidance"])


def _make(count: int, seed: int, path: Path) -> None:
    import torch  # whoever finds a pool that was made before shall not wait for it

    from konomi_starter.training import attribute_reader, embedding, evaluation

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    words = open_prompts(PROMPTS, seed)
    prompts = [words[int(i)] for i in rng.integers(0, PROMPTS, count)]
    seeds, guidance = rng.integers(0, 2**31, count), np.sort(rng.choice(GUIDANCE, count))
    embeddings: list[np.ndarray] = []
    records: list[dict[str, str]] = []
    pipe = evaluation.load_pipeline(MODELS / "diffusion")
    eyes, encoder = attribute_reader.load(MODELS / "reader" / "model.safetensors"), embedding.load(MODELS / "embedder")
    for scale in GUIDANCE:
        rows = np.flatnonzero(guidance == scale)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            pixels = draw(pipe, [prompts[i] for i in batch], seeds[batch], scale)
            embeddings.append(embedding.embed(encoder, pixels))
            records += eyes.read(pixels)
            print(f"\r{len(records)} of {count} images", end="", flush=True)
    print()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps({"records": records, "prompts": prompts}), "utf-8")
    np.savez(path.with_suffix(".npz"), embeddings=np.concatenate(embeddings), seeds=seeds, guidance=guidance)


def draw(pipe: object, prompts: list[str], seeds: np.ndarray, scale: float) -> np.ndarray:
    """Returns (n, 64, 64, 3) uint8."""
    import torch

    made = pipe(  # type: ignore[operator]
        prompts,
        num_inference_steps=8,
        guidance_scale=float(scale),
        height=64,
        width=64,
        generator=[torch.Generator().manual_seed(int(s)) for s in seeds],
        output_type="np",
    )
    return (made.images * 255).round().astype(np.uint8)
