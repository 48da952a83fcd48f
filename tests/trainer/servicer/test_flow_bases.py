"""A trainer over a real socket on a base model that follows a flow: run, exports, and what it refuses."""

import io
import json
import uuid
import zipfile
from pathlib import Path

import pytest
import torch
from diffusers import ZImagePipeline
from safetensors.torch import load

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.catalogue import BaseModels
from konomi_trainer.methods import word_lora
from tests.families import tiny_flows
from tests.trainer import concept_bench
from tests.trainer.conftest import Bench


@pytest.fixture
def flow(bench: Bench) -> Bench:
    """A trainer whose home has a Z-Image."""
    tiny_flows.z_image().save_pretrained(bench.home / "models" / "z-image")
    return bench


def test_a_run_on_z_image_is_exported_for_every_program_that_knows_it(flow: Bench, tmp_path: Path) -> None:
    model = flow.trained(flow.manifest(side=32), "z-image", steps=3, learning_rate=0.05)
    stored = load(flow.store.get(model.adapter_digest))
    assert all(name.startswith("transformer.") for name in stored) and model.metrics["loss"] > 0

    def exported(form: int) -> bytes:
        return flow.store.get(flow.client.trainer.export_model(name=model.name, format=form).digest)  # type: ignore[arg-type]

    comfy = load(exported(pb.EXPORT_FORMAT_KOHYA))
    assert "diffusion_model.layers.0.attention.to_q.lora_down.weight" in comfy
    assert load(exported(pb.EXPORT_FORMAT_DIFFUSERS)).keys() == stored.keys()
    with pytest.raises(FailedPrecondition, match=r"this one is z_image, of which.* export a merged folder instead"):
        exported(pb.EXPORT_FORMAT_MERGED)
    with zipfile.ZipFile(io.BytesIO(exported(pb.EXPORT_FORMAT_MERGED_FOLDER))) as archive:
        archive.extractall(tmp_path / "models" / "merged")
    assert BaseModels(tmp_path).get("merged").layout == "z_image"
    merged = ZImagePipeline.from_pretrained(tmp_path / "models" / "merged", local_files_only=True)
    base = ZImagePipeline.from_pretrained(flow.home / "models" / "z-image", local_files_only=True)
    name = "layers.0.attention.to_q"
    change = stored[f"transformer.{name}.lora_B.weight"] @ stored[f"transformer.{name}.lora_A.weight"]
    wanted = base.transformer.get_submodule(name).weight + change
    assert change.abs().max() > 1e-3
    assert torch.allclose(merged.transformer.get_submodule(name).weight.float(), wanted, atol=1e-3)
    card = exported(pb.EXPORT_FORMAT_MODEL_CARD).decode()
    assert json.dumps("z-image") in card.replace("'", '"')


def test_a_run_beside_packed_weights_says_so_and_gives_the_same_kind_of_file(flow: Bench) -> None:
    manifest = flow.manifest(side=32)
    whole = flow.trained(manifest, "z-image", steps=2)
    request = flow.request(manifest, "z-image", steps=2)
    request.hyper_parameters.quantization = "nf4"
    run = flow.finish(flow.client.trainer.create_training_run(request).name)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED and run.request.hyper_parameters.quantization == "nf4"
    packed = flow.client.trainer.get_model(name=run.model)
    assert packed.config_digest == run.config_digest != whole.config_digest
    files = [load(flow.store.get(model.adapter_digest)) for model in (whole, packed)]
    assert {n: t.shape for n, t in files[0].items()} == {n: t.shape for n, t in files[1].items()}
    assert flow.client.trainer.get_training_run(name=whole.training_run).request.hyper_parameters.quantization == "none"
    request.hyper_parameters.quantization = "int3"
    request.request_id = str(uuid.uuid4())
    with pytest.raises(InvalidArgument) as caught:
        flow.client.trainer.create_training_run(request)
    assert caught.value.field == "hyper_parameters.quantization"


def taught(flow: Bench, token: str, **numbers: int) -> pb.Model:
    """Returns a model that knows a word, learnt beside a LoRA."""
    manifest = concept_bench.manifest(flow, [token], side=32)
    request = concept_bench.request(flow, manifest, [token], "z-image", **{"steps": 2, "rank": 2, **numbers})
    request.method = pb.TRAINING_METHOD_CONCEPT_LORA
    run = flow.finish(flow.client.trainer.create_training_run(request).name)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
    return flow.client.trainer.get_model(name=run.model)


def test_words_beside_a_lora_are_taught_merged_and_exported(flow: Bench) -> None:
    parts = [taught(flow, "<a>"), taught(flow, "<b>", rank=3)]
    assert [part.concepts[0].token for part in parts] == ["<a>", "<b>"]

    def merge(*models: pb.Model, **more: object) -> pb.Model:
        given = {"names": [m.name for m in models], "display_name": "both", "request_id": str(uuid.uuid4()), **more}
        return flow.client.trainer.merge_models(**given)

    both = merge(*parts)
    assert both.method == pb.TRAINING_METHOD_CONCEPT_LORA and (both.metrics["concepts"], both.metrics["rank"]) == (2, 5)
    known = word_lora.from_bytes(flow.store.get(both.adapter_digest))
    assert [concept.token for concept in known.concepts] == ["<a>", "<b>"] and known.rank == 5
    assert merge(*parts) == both and merge(both, taught(flow, "<c>")).metrics["rank"] == 7
    for more, field in (({"keep_mass": 0.5}, "keep_mass"), ({"captions": ["sea"]}, "captions")):
        with pytest.raises(InvalidArgument, match=f"adding up, which needs no {field}") as caught:
            merge(*parts, **more)
        assert caught.value.field == field
    with pytest.raises(InvalidArgument, match="<a> is in more than one model"):
        merge(parts[0], parts[0])
    lora = flow.trained(flow.manifest(2, side=32), "z-image", steps=1)
    with pytest.raises(FailedPrecondition, match=r"models of one method; .* is of concept_lora and .* of lora"):
        merge(parts[0], lora)

    def exported(form: int) -> bytes:
        return flow.store.get(flow.client.trainer.export_model(name=both.name, format=form).digest)  # type: ignore[arg-type]

    for form, name in (
        (pb.EXPORT_FORMAT_DIFFUSERS, "transformer.layers.0.attention.to_q.lora_A.weight"),
        (pb.EXPORT_FORMAT_KOHYA, "diffusion_model.layers.0.attention.to_q.lora_down.weight"),
    ):
        with zipfile.ZipFile(io.BytesIO(exported(form))) as archive:
            assert sorted(archive.namelist()) == ["a.safetensors", "b.safetensors", "lora.safetensors"]
            lora_file, word = (load(archive.read(file)) for file in ("lora.safetensors", "a.safetensors"))
        assert lora_file[name].shape[0] == 5 and word["emb_params"].shape == (1, 16)
    with pytest.raises(FailedPrecondition, match="knows concepts also brings words"):
        exported(pb.EXPORT_FORMAT_MERGED_FOLDER)
    assert "concept_lora" in exported(pb.EXPORT_FORMAT_MODEL_CARD).decode()


def test_custom_diffusion_on_it_is_refused_before_a_run(flow: Bench) -> None:
    request = concept_bench.request(flow, concept_bench.manifest(flow), base="z-image")
    with pytest.raises(InvalidArgument, match="z-image is a z_image, which reads text and image in one") as caught:
        flow.client.trainer.create_training_run(request)
    assert (caught.value.reason, caught.value.field) == ("METHOD", "method")
    assert not flow.client.trainer.list_training_runs().training_runs
