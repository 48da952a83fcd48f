"""Measures the bundled models against the floors and prints the sample sheet: the figures of the model card."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline
from PIL import Image
from sklearn.linear_model import LogisticRegression

from konomi_starter.data.captions import ATTRIBUTES, CONTEXT_LENGTH, Record, full_caption
from konomi_starter.data.renderer import Portraits
from konomi_starter.training import attribute_reader, embedding, realism
from konomi_starter.training.autoencoder import psnr, to_model

STEPS, GUIDANCE = 8, 4.0


def sample(pipeline: StableDiffusionPipeline, prompts: list[str], seed: int) -> np.ndarray:
    """Returns (N, 64, 64, 3) uint8 made from prompts at the demo's settings, image i from seed + i."""
    parts = []
    for start in range(0, len(prompts), 32):
        batch = prompts[start : start + 32]
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))]
        images = pipeline(
            batch,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            height=64,
            width=64,
            generator=generators,
            output_type="np",
        ).images
        parts.append((images * 255).round().astype(np.uint8))
    return np.concatenate(parts)


def load_pipeline(folder: Path) -> StableDiffusionPipeline:
    """Loads the bundled diffusion model in single precision, as the generator does."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline


def adherence(read: Sequence[Record], asked: Sequence[Record]) -> dict[str, float]:
    """Returns the share drawn as asked per attribute, among the styles that can show it."""

    def share(name: str, keep: Any) -> float:
        rows = [a[name] == b[name] for a, b in zip(read, asked, strict=True) if keep(b)]
        return float(np.mean(rows))

    return {
        "style": share("style", lambda r: True),
        "background": share("background", lambda r: True),
        "hair colour": share("hair_colour", lambda r: True),
        "shirt": share("shirt", lambda r: r["shirt"] != "none"),
        "hair length": share("hair_length", lambda r: True),
        "beard": share("beard", lambda r: r["style"] != "comic"),
        "glasses, 3-way": share("glasses", lambda r: r["style"] in ("comic", "ink")),
        "glasses, flat": share("glasses", lambda r: r["style"] == "flat"),
    }


def zero_shot(model: Any, tokenize: Any, embeddings: np.ndarray, records: Sequence[Record]) -> dict[str, float]:
    """Returns zero-shot accuracy per attribute from one phrase per value, averaged over the styles that can show it."""
    templates = {
        "style": lambda s, v: f"{v} portrait",
        "hair_length": lambda s, v: f"{s} portrait, {v} hair",
        "hair_colour": lambda s, v: f"{s} portrait, {v} hair",
        "background": lambda s, v: f"{s} portrait, {v} background",
        "glasses": lambda s, v: f"{s} portrait, " + ("no glasses" if v == "none" else v),
        "beard": lambda s, v: f"{s} portrait, " + ("no beard" if v == "none" else v),
    }
    styles = {"glasses": ("comic", "ink"), "beard": ("ink", "flat", "toon")}
    result = {}
    for name, template in templates.items():
        where = styles.get(name, ATTRIBUTES["style"])
        rows = [i for i, record in enumerate(records) if record["style"] in where]
        with torch.no_grad():
            texts = [
                model.encode_text(tokenize([template(s, v) for s in where]), normalize=True).mean(0)
                for v in ATTRIBUTES[name]
            ]
        directions = torch.nn.functional.normalize(torch.stack(texts), dim=1).numpy()
        best = (embeddings[rows] @ directions.T).argmax(1)
        result[name] = float(
            np.mean([ATTRIBUTES[name][b] == records[i][name] for b, i in zip(best, rows, strict=True)])
        )
    return result


def linear_probe(embeddings: np.ndarray, records: Sequence[Record]) -> dict[str, float]:
    """Returns held-out accuracy per attribute of a linear probe on 1,000 labels: what the rater really uses."""
    result = {}
    for name in ("style", "hair_length", "hair_colour", "background", "glasses", "beard"):
        y = np.array([record[name] for record in records])
        probe = LogisticRegression(C=100, max_iter=2000).fit(embeddings[:1000], y[:1000])
        result[name] = float(probe.score(embeddings[1000:], y[1000:]))
    return result


def evaluate(models: Path, val: Portraits, renders: Portraits, *, count: int) -> dict[str, Any]:
    """Measures everything the model card states; writes the realism reference beside the reader."""
    from open_clip.tokenizer import SimpleTokenizer

    eyes = attribute_reader.load(models / "reader" / "model.safetensors")
    embedder = embedding.load(models / "embedder")
    tokenize = SimpleTokenizer(bpe_path=str(models / "embedder" / "bpe.txt.gz"), context_length=CONTEXT_LENGTH)
    held = np.asarray(val.pixels[:2000])
    held_embeddings = embedding.embed(embedder, held)
    reference = models / "reader" / "realism.safetensors"
    realism.save_reference(embedding.embed(embedder, np.asarray(renders.pixels[:4000])), held_embeddings, reference)
    pipeline = load_pipeline(models / "diffusion")
    asked = val.records[2000 : 2000 + count]
    started = time.process_time()
    drawn = sample(pipeline, [full_caption(r) for r in asked], seed=1)
    seconds = (time.process_time() - started) / count
    vae = AutoencoderTiny.from_pretrained(models / "diffusion" / "vae")
    with torch.no_grad():
        target = to_model(held[:500])
        latents = vae.encoder(target)
        rebuilt = ((vae.decoder(latents).clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy()
    before, after = (
        adherence(eyes.read(held[:500]), val.records[:500]),
        adherence(eyes.read(rebuilt), val.records[:500]),
    )
    return {
        "adherence": adherence(eyes.read(drawn), asked),
        "reader": before,
        "reader after reconstruction": after,
        "vae psnr dB": psnr(vae, latents, target),
        "broken share": realism.broken_share(embedding.embed(embedder, drawn), reference),
        "zero shot": zero_shot(embedder, tokenize, held_embeddings, val.records[:2000]),
        "linear probe": linear_probe(held_embeddings, val.records[:2000]),
        "core-seconds an image": seconds,
        "megabytes": sum(p.stat().st_size for p in models.rglob("*") if p.is_file()) / 1e6,
        "images": count,
    }


SHEET = (
    "comic portrait, long pink hair, sunglasses, no beard, blue background",
    "comic portrait, short green hair, glasses, no beard, yellow background",
    "ink portrait, long black hair, no glasses, no beard, pink background",
    "ink portrait, short red hair, sunglasses, beard, orange background",
    "flat portrait, short blue hair, glasses, beard, red shirt, green background",
    "flat portrait, long purple hair, no glasses, no beard, white shirt, dark background",
    "toon portrait, long blonde hair, no glasses, no beard, blue shirt, purple background",
    "portrait",
)


def sample_sheet(models: Path, out: Path) -> None:
    """Writes a sheet of 8 prompts x 12 seeds, 128 pixels each."""
    drawn = sample(load_pipeline(models / "diffusion"), [prompt for prompt in SHEET for _ in range(12)], seed=7)
    rows = drawn.reshape(len(SHEET), 12, 64, 64, 3).transpose(0, 2, 1, 3, 4).reshape(len(SHEET) * 64, 12 * 64, 3)
    Image.fromarray(rows).resize((12 * 128, len(SHEET) * 128), Image.Resampling.LANCZOS).save(out, optimize=True)
