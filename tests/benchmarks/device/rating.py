"""The rater on a device: the tower alone, with decoding as PyTorch's loader does it, and through konomi's queue."""

import copy
import io
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.embedding.batching import Batcher, QueueLimits
from konomi_rater.embedding.device import DTYPES, Placement
from konomi_rater.embedding.names import in_precision
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import Caller
from konomi_rater.storage.embeddings import view_of
from konomi_rater.usecases.vectors import ImageInput, Vectors
from tests.benchmarks.device.models import off
from tests.benchmarks.device.sections import Check, Row
from tests.benchmarks.serving import rig

TOWERS = ("ViT-B-32", "ViT-L-14")
TINY = "ViT-S-32-alt"
BATCH, IN_FLIGHT = 32, 4
GOAL = 0.95
STRANGERS = 10_000
"""Seeds from here on are of images that are graded, and not scored."""
NEAR = {"tf32": 5e-3, "bf16": 3e-2, "fp16": 5e-3}


def rater(check: Check) -> Iterator[Row]:
    """Images a second of every way, each beside the one that does less."""
    workers = max(2, len(os.sched_getaffinity(0)) - 2)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        side, few = check.take(1024, 64), 0 if "png" in check.cut else check.take(64, 2)
        jpegs = list(pool.map(partial(_encoded, side, "JPEG"), range(check.take(256, 4))))
        pngs = list(pool.map(partial(_encoded, side, "PNG"), range(few)))
        others = range(STRANGERS, STRANGERS + check.take(rig.LABELS, 8))
        graded = list(pool.map(partial(_encoded, check.take(224, 64), "JPEG"), others))
    for tower in TOWERS if not check.rehearse else (TINY,):
        best = 0.0
        for row in _tensors(check, tower):
            best = row.value or best
            yield row
        yield from _decoded(check, tower, jpegs, pngs, workers, best)
    yield from _served(check, jpegs, graded, workers)


def _encoded(side: int, kind: str, seed: int) -> bytes:
    image = Image.open(io.BytesIO(rig.photograph(seed, side)))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def _model(check: Check, tower: str) -> str:
    """Writes a tower of random weights into the home, unless it is there; returns its embedder's name."""
    path = check.home / "models" / "open_clip" / tower / "random.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True)
        torch.manual_seed(0)
        network = open_clip.create_model(tower, load_weights=False)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return f"open_clip:{tower}/random"


def _tensors(check: Check, tower: str) -> Iterator[Row]:
    """The tower alone on tensors that are there already."""
    _model(check, tower)
    network = open_clip.create_model(tower, load_weights=False, device=check.device).eval()
    size = int(network.visual.preprocess_cfg["size"] if isinstance(network.visual.preprocess_cfg["size"], int)
               else network.visual.preprocess_cfg["size"][0])  # fmt: skip
    pixels = torch.randn(check.take(64, 2), 3, size, size, device=check.device)
    reference, times = None, check.take(20, 1)
    for kind in ("fp32", "tf32", "fp16", "bf16"):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = kind == "tf32"
        dtype = getattr(torch, DTYPES.get(kind, "float32"))
        tower_of_kind, given = copy.deepcopy(network).to(dtype), pixels.to(dtype)
        with torch.inference_mode():
            vectors = torch.nn.functional.normalize(tower_of_kind.encode_image(given).float(), dim=-1)
            took = check.seconds(partial(tower_of_kind.encode_image, given), times)
        reference = vectors if reference is None else reference
        if kind in NEAR:
            yield Row(
                f"{tower}: vectors in {kind}, relative error to fp32", off(vectors, reference), "", most=NEAR[kind]
            )
        yield Row(f"{tower}: tensors alone in {kind}", len(pixels) / took, "images/s")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


class _Files(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Encoded images as open_clip's own transform prepares them."""

    def __init__(self, images: Sequence[bytes], transform: Any) -> None:
        self._images, self._transform = images, transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self._transform(Image.open(io.BytesIO(self._images[place])))


def _decoded(
    check: Check, tower: str, jpegs: Sequence[bytes], pngs: Sequence[bytes], workers: int, alone: float
) -> Iterator[Row]:
    """From encoded bytes to vectors: PyTorch's loader with PIL, then konomi's queue with few children and with many."""
    name = in_precision(_model(check, tower), "bf16")
    raw = _loader_rate(check, tower, jpegs, workers)
    yield Row(f"{tower}: raw open_clip, PIL in {workers} processes, JPEG, beside tensors", raw, "images/s", alone)
    for children in (2, workers):
        rate = _queue_rate(check, name, jpegs, children)
        least = GOAL if children == workers else None
        yield Row(f"{tower}: konomi's queue, {children} children, JPEG, beside raw", rate, "images/s", raw, least=least)
    if pngs:
        rate, raw = _queue_rate(check, name, pngs, workers), _loader_rate(check, tower, pngs, workers)
        yield Row(f"{tower}: konomi's queue, {workers} children, PNG, beside raw", rate, "images/s", raw)


def _loader_rate(check: Check, tower: str, images: Sequence[bytes], workers: int) -> float:
    network, _, transform = open_clip.create_model_and_transforms(tower, load_weights=False, device=check.device)
    network = network.eval().to(torch.bfloat16)
    loader = DataLoader(
        _Files(images, transform), batch_size=BATCH, num_workers=workers, pin_memory=check.on_gpu,
        persistent_workers=True, multiprocessing_context="fork",
    )  # fmt: skip

    def embed() -> None:
        with torch.inference_mode():
            for pixels in loader:
                given = pixels.to(check.device, torch.bfloat16, non_blocking=True)
                torch.nn.functional.normalize(network.encode_image(given).float(), dim=-1).cpu()

    embed()  # the processes start
    return len(images) / check.seconds(embed)


def _queue_rate(check: Check, name: str, images: Sequence[bytes], children: int) -> float:
    embedders = Embedders(check.home / "models", Placement(check.device, 1, 0))
    decoder, store = Decoder(DecodeSettings(decode_children=children)), ArtifactStore(StoreSettings(home=check.home))
    batcher = Batcher(decoder.decode, QueueLimits(embedders.batch, decoder.children, 2048, 256 << 20))
    vectors = Vectors(store, embedders, lambda: batcher, 0)
    view = view_of([], np.zeros((0, embedders.open(name).dimensions), np.float32), [], np.zeros(0, np.int64))
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]

    def embed(part: Sequence[bytes]) -> None:
        inputs = [ImageInput(image) for image in part]
        results = vectors.collect(vectors.request(name, view, inputs, Caller("check")))
        assert all(isinstance(result, np.ndarray) for result in results), results

    try:
        embed(parts[0])  # the children start
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return len(images) / check.seconds(lambda: list(pool.map(embed, parts)))
    finally:
        batcher.close()
        decoder.close()


def _served(check: Check, jpegs: Sequence[bytes], graded: Sequence[bytes], workers: int) -> Iterator[Row]:
    """ScoreImages over gRPC, batches of 32, four in flight: of images the taste does not know, so all are embedded."""
    if find_spec("faiss") is None:
        yield Row("ScoreImages over gRPC", note="not run: a taste's scores need faiss, which is not installed")
        return
    name = _model(check, TINY if check.rehearse else TOWERS[0])
    for children in (2, workers) if not check.rehearse else (2,):
        server = rig.Server(
            check.home, 1, KONOMI_DECODE_CHILDREN=str(children), KONOMI_EMBEDDER_DEVICE=check.device
        )  # fmt: skip
        try:
            rig.fit_taste(server, graded, name)
            parts = [jpegs[start : start + BATCH] for start in range(0, len(jpegs), BATCH)]
            with server.client() as client, ThreadPoolExecutor(IN_FLIGHT) as pool:
                rig.score(client, parts[0])
                took = check.seconds(lambda: list(pool.map(partial(rig.score, client), parts)))  # noqa: B023
            yield Row(f"ScoreImages over gRPC, {children} children, JPEG", len(jpegs) / took, "images/s")
        finally:
            server.stop()
