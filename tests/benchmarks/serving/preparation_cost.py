"""P3: what preparing a 1024-pixel JPEG costs beside open_clip's own transform, and what it does to scores."""

import argparse
import io
import os
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from scipy.stats import spearmanr

from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_chassis.process import keep_freed_memory
from konomi_rater.embedding.open_clip import like_open_clip
from konomi_rater.preference.features import learn_features
from konomi_rater.preference.head import fit_head
from tests.benchmarks.results import FOLDER
from tests.benchmarks.serving import rig

PERSONS = 10


def preparation(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the figures of P3: CPU per image, and the rank correlation of scores on ViT-B/32."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as the rater does at its start; the baseline gains from it too
    images = rig.write_photographs(FOLDER.parent / "photographs", 32 if arguments.small else 192, arguments.seed)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(rig.MODEL, pretrained=None)
    model.eval()
    prepare = like_open_clip(model.visual.preprocess_cfg)
    decoder = Decoder(DecodeSettings(decode_children=1))

    def ours(image: bytes) -> np.ndarray:
        decoded = decoder.decode(image, least=prepare.fit.least)
        return prepare.fitted(decoded.pixels, decoded.width, decoded.height)

    try:
        ours(images[0])
        value, base = [], []
        for _ in range(1 if arguments.small else 5):
            began = time.process_time()
            for image in images:
                transform(Image.open(io.BytesIO(image)))
            base.append((time.process_time() - began) / len(images))
            began, before = time.process_time(), _children_cpu(decoder)
            for start in range(0, len(images), 32):
                prepare([ours(image) for image in images[start : start + 32]])
            value.append((time.process_time() - began + _children_cpu(decoder) - before) / len(images))
        pixels = prepare([ours(image) for image in images])
    finally:
        decoder.close()
    whole = torch.stack([transform(Image.open(io.BytesIO(image))) for image in images])
    correlation = _correlation(_embed(model, whole), _embed(model, pixels))
    what = "CPU to prepare a 1024-pixel JPEG, decoding child included, against open_clip's transform"
    ranks = "Spearman of scores after it, lowest of 10 persons (goal .999)"
    return [
        _row(what, statistics.median(value) * 1e3, statistics.median(base) * 1e3, "ms", len(images) * len(value)),
        _row(ranks, min(correlation), 0.999, "srcc", len(images) * PERSONS),
    ]


def _embed(model: Any, pixels: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        parts = [torch.nn.functional.normalize(model.encode_image(part), dim=-1) for part in pixels.split(32)]
    return torch.cat(parts).numpy()


def _correlation(whole: np.ndarray, small: np.ndarray) -> list[float]:
    """Returns, for simulated persons, the Spearman of one head's scores on both sets of embeddings."""
    centred = whole - whole.mean(axis=0)
    directions, strength, _ = np.linalg.svd(centred, full_matrices=False)
    found = []
    for person in range(PERSONS):
        rng = np.random.default_rng(person)
        utility = directions[:, :8] @ (rng.normal(size=8) * strength[:8])
        utility += rng.normal(size=len(whole)) * utility.std() * 0.3
        grades = 1 + np.searchsorted(np.quantile(utility, [0.3, 0.6, 0.82, 0.94]), utility)
        graded, rest = np.split(rng.permutation(len(whole)), [len(whole) // 2])
        head = fit_head("gp", learn_features(whole), whole[graded], grades[graded])
        said = [head.predict(rows[rest]).utility for rows in (whole, small)]
        found.append(float(spearmanr(*said)[0]))
    return found


def _children_cpu(decoder: Decoder) -> float:
    """CPU seconds of the decoding children: those alive and those replaced and waited for."""
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for child in decoder._idle:
        fields = Path(f"/proc/{child._process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return gone.ru_utime + gone.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def _row(what: str, value: float, baseline: float, unit: str, n: int) -> dict[str, Any]:
    return {"id": "P3", "what": what, "value": value, "baseline": baseline, "unit": unit, "n": n}
