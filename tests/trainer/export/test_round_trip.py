"""What the trainer exports comes back through konomi's own generator as what was trained, of every kind of adapter."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from konomi_trainer.base_models import pipeline as trained_base
from tests.trainer.conftest import Bench
from tests.trainer.methods.test_lora import KINDS, train

SIDES = {"tiny": 64, "tiny-xl": 16}
PARTS = ("unet", "text_encoder", "text_encoder_2")
ROUNDED = (".lora_A.weight", ".lora_B.weight")


def pipeline(home: Path, id: str):
    """A base model as the generator loads it."""
    return load_pipeline(BaseModels(home).get(id), home / "configs", torch.device("cpu"), torch.float32)


def weights(pipe) -> dict[str, torch.Tensor]:
    parts = [part for part in PARTS if getattr(pipe, part, None) is not None]
    return {f"{p}.{n}": w.detach().clone() for p in parts for n, w in getattr(pipe, p).named_parameters()}


def fused(pipe, data: bytes) -> dict[str, torch.Tensor]:
    """The weights with an adapter on them; the pipeline is as before afterwards."""
    adapters = Adapters(pipe)
    adapters.apply([AdapterFile(hashlib.sha256(data).hexdigest(), data, 1.0)])
    found = weights(pipe)
    adapters.apply([])
    return found


def image(pipe, side: int, data: bytes | None = None) -> np.ndarray:
    adapters = Adapters(pipe)
    adapters.apply([AdapterFile(hashlib.sha256(data).hexdigest(), data, 1.0)] if data else [])
    sampling = Sampling(3, 3.0, side, side)
    with torch.inference_mode():
        pixels = Denoiser(pipe).run(DenoisingBatch([ImageRequest(0, "face 1", 5)], 1), sampling, lambda: False)
    adapters.apply([])
    return (pixels * 255).round().astype(np.uint8)


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], base: dict[str, torch.Tensor]) -> float:
    """The difference of two sets of weights, as a share of what the second changes."""
    changed = sum(float((right[name] - base[name]).double().pow(2).sum()) for name in base)
    return (sum(float((left[name] - right[name]).double().pow(2).sum()) for name in base) / changed) ** 0.5


@pytest.fixture(scope="module")
def bench(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One trainer for all: what both tests ask for alike is trained once."""
    place = tmp_path_factory.mktemp("trips") / "home"
    shutil.copytree(bases, place / "models")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KONOMI_THREADS", "1")
        bench = Bench(place).start()
        yield bench
        bench.stop()


@pytest.mark.parametrize("base", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_kohya_export_comes_back_as_what_was_trained(bench: Bench, kind: str, base: str) -> None:
    side = SIDES[base]
    model = train(bench, kind, bench.manifest(4, side), base, text_encoder_learning_rate=0.01, rank=2)
    stored = bench.store.get(model.adapter_digest)
    exported = bench.store.get(bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_KOHYA).digest)
    pipe = pipeline(bench.home, base)
    plain = weights(pipe)
    ours, theirs = fused(pipe, stored), fused(pipe, exported)
    changed = {name.partition(".")[0] for name in plain if not torch.equal(plain[name], theirs[name])}
    assert changed == {part for part in PARTS if getattr(pipe, part, None) is not None}
    assert distance(theirs, ours, plain) < 2e-3, "half precision of the factors, and nothing else"
    if kind in ("lora", "dora"):  # the same numbers under other names are the same weights to the last bit
        halves = {n: t.half().float() if n.endswith(ROUNDED) else t for n, t in load(stored).items()}
        rounded = save(halves, metadata(stored))
        same = fused(pipe, rounded)
        assert all(torch.equal(same[name], theirs[name]) for name in plain)
        assert np.array_equal(image(pipe, side, rounded), image(pipe, side, exported))
        assert not np.array_equal(image(pipe, side), image(pipe, side, exported))


def metadata(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


@pytest.mark.parametrize("base", SIDES)
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_merged_folder_has_the_weights_the_generator_fuses(
    bench: Bench, kind: str, base: str, tmp_path: Path
) -> None:
    model = train(bench, kind, bench.manifest(4, SIDES[base]), base, text_encoder_learning_rate=0.01, rank=2)
    pipe = pipeline(bench.home, base)
    plain, wanted = weights(pipe), fused(pipe, bench.store.get(model.adapter_digest))
    exported = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED_FOLDER)
    with zipfile.ZipFile(io.BytesIO(bench.store.get(exported.digest))) as archive:
        archive.extractall(tmp_path / "models" / "merged")
    merged = weights(pipeline(tmp_path, "merged"))
    assert merged.keys() == plain.keys()
    for name, weight in merged.items():
        assert torch.allclose(weight, wanted[name], atol=1e-3, rtol=1e-3), name
    moved = [name for name in plain if not torch.equal(plain[name], wanted[name])]
    short = {
        name.replace("_vector.weight", "_vector"): t for name, t in load(bench.store.get(model.adapter_digest)).items()
    }
    older = save(short, metadata(bench.store.get(model.adapter_digest)))  # as files were stored before
    again = weights(trained_base.merged(BaseModels(bench.home).get(base), bench.home, older))
    assert all(torch.allclose(again[name], wanted[name], atol=1e-5) for name in plain)
    share = distance({n: merged[n] for n in moved}, {n: wanted[n] for n in moved}, {n: plain[n] for n in moved})
    assert {name.partition(".")[0] for name in moved} >= {"unet", "text_encoder"} and share < 0.05
