"""Every kind of adapter and every way to train it, on tiny bases in the true layouts: trained, stored, drawn."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from konomi.errors import FailedPrecondition
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.data.manifest import ManifestItem, render
from tests.trainer import tiny
from tests.trainer.conftest import Bench
from tests.trainer.export.test_exporter import images

KINDS = {
    "lora": pb.TRAINING_METHOD_LORA,
    "dora": pb.TRAINING_METHOD_DORA,
    "loha": pb.TRAINING_METHOD_LOHA,
    "lokr": pb.TRAINING_METHOD_LOKR,
}


def header(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def train(bench: Bench, kind: str, manifest: str, base: str, **numbers: float) -> pb.Model:
    request = bench.request(manifest, base, **{"steps": 3, "learning_rate": 0.02, **numbers})
    request.method = KINDS[kind]
    run = bench.finish(bench.client.trainer.create_training_run(request).name)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
    return bench.client.trainer.get_model(name=run.model)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_trains_and_plain_diffusers_loads_it(bench: Bench, kind: str, tmp_path: Path) -> None:
    model = train(bench, kind, bench.manifest(4), "tiny", text_encoder_learning_rate=0.01, rank=2)
    assert model.method == KINDS[kind]
    folder, data = bench.home / "models" / "tiny", bench.store.get(model.adapter_digest)
    tensors = load(data)
    parts = {name.partition(".")[0] for name in tensors}
    assert parts == {"unet", "text_encoder"}
    plain, tuned = images(folder, None, tmp_path), images(folder, data, tmp_path)
    assert (plain - tuned).abs().max() > 1e-3
    record = json.loads(header(data)["konomi"])
    assert record["method"] == kind
    if kind in ("loha", "lokr"):
        own = load(bench.store.get(record["native"]))
        assert set(own) and all({"loha": "hada_", "lokr": "lokr_"}[kind] in name for name in own)
        assert_same_change(tensors, own, kind)
    if kind == "dora":
        assert any("magnitude" in name for name in tensors)
    exported = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_KOHYA)
    check_names(bench.store.get(exported.digest), kind)


def check_names(data: bytes, kind: str) -> None:
    """The export bears the names that sd-scripts and LyCORIS give each kind."""
    named, told = load(data), header(data)
    ends = {name.partition(".")[2] for name in named} - {"alpha"}
    wanted = {
        "lora": {"lora_down.weight", "lora_up.weight"},
        "dora": {"lora_down.weight", "lora_up.weight", "dora_scale"},
        "loha": {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"},
        "lokr": {"lokr_w1", "lokr_w2_a", "lokr_w2_b"},
    }[kind]
    if "lokr_w2" in ends:  # LoKr keeps a small second matrix whole
        wanted.add("lokr_w2")
    assert ends == wanted
    assert {tensor.item() for name, tensor in named.items() if name.endswith(".alpha")} == {2.0}
    assert all(t.shape[1:] == (1,) for name, t in named.items() if name.endswith(".dora_scale"))
    module = "lycoris.kohya" if kind in ("loha", "lokr") else "networks.lora"
    assert told["ss_network_module"] == module and told["ss_network_dim"] == "2"


def assert_same_change(lora: dict[str, torch.Tensor], own: dict[str, torch.Tensor], kind: str) -> None:
    """The LoRA's product is the change that the kind's own equation gives."""
    for down in (name for name in lora if name.endswith("lora_A.weight")):
        module = down.removesuffix(".lora_A.weight")
        product = lora[f"{module}.lora_B.weight"].double() @ lora[down].double()
        part = {name.rpartition(".")[2]: t.double() for name, t in own.items() if name.startswith(f"{module}.")}
        if kind == "loha":
            wanted = (part["hada_w1_a"] @ part["hada_w1_b"]) * (part["hada_w2_a"] @ part["hada_w2_b"])
        else:
            second = part["lokr_w2"] if "lokr_w2" in part else part["lokr_w2_a"] @ part["lokr_w2_b"]
            wanted = torch.kron(part["lokr_w1"], second)
        assert (product - wanted).abs().max() <= 1e-6 * max(1.0, float(wanted.abs().max()))


def test_sdxl_trains_with_buckets_flips_prior_and_both_text_encoders(bench: Bench) -> None:
    sides = [(16, 16), (16, 32), (32, 16), (20, 16), (16, 16), (16, 16)]
    items = [
        ManifestItem(
            bench.store.put(tiny.png(i, size), "image/png").digest, f"face {i}", 1.0, "prior" if i > 3 else "selected"
        )
        for i, size in enumerate(sides)
    ]
    manifest = bench.store.put(render(tuple(items)), "application/json").digest
    numbers = {"flip": True, "text_encoder_learning_rate": 0.001, "prior_weight": 0.5, "min_snr_gamma": 5.0}
    model = train(bench, "lora", manifest, "tiny-xl", **numbers, gradient_accumulation=2, batch_size=2)
    assert model.metrics["images"] == len(items) and model.metrics["skipped_steps"] == 0
    tensors = load(bench.store.get(model.adapter_digest))
    assert {name.partition(".")[0] for name in tensors} == {"unet", "text_encoder", "text_encoder_2"}
    assert all(t.abs().max() > 0 for name, t in tensors.items() if "lora_B" in name and "text" not in name)
    squares = train(bench, "lora", manifest, "tiny-xl", **numbers, batch_size=2, steps=1, aspect_buckets=False)
    assert squares.config_digest != model.config_digest and squares.metrics["images"] == len(items)


def test_the_prior_pulls_and_its_weight_matters(bench: Bench) -> None:
    digests = [bench.store.put(tiny.png(i), "image/png").digest for i in range(4)]
    roles = ["selected", "selected", "prior", "prior"]
    both = tuple(ManifestItem(digest, "face", 1.0, role) for digest, role in zip(digests, roles, strict=True))
    manifest = bench.store.put(render(both), "application/json").digest
    alone = bench.store.put(render(both[:2]), "application/json").digest
    with_prior = train(bench, "lora", manifest, "tiny")
    without = train(bench, "lora", manifest, "tiny", prior_weight=0.0)
    assert with_prior.adapter_digest != without.adapter_digest
    left, right = (load(bench.store.get(m.adapter_digest)) for m in (without, train(bench, "lora", alone, "tiny")))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_what_is_not_installed_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("konomi_trainer.training.optimizers.importlib.util.find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition) as caught:
        bench.client.trainer.create_training_run(bench.request(bench.manifest(2), optimizer="adamw_8bit"))  # type: ignore[arg-type]
    assert caught.value.reason == "OPTIMIZER_UNAVAILABLE" and "pip install bitsandbytes" in caught.value.message
