"""A trainer over a real socket on a base model that follows a flow: run, exports, and what it refuses."""

import io
import json
import zipfile
from pathlib import Path

import pytest
import torch
from diffusers import ZImagePipeline
from safetensors.torch import load

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.catalogue import BaseModels
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


def test_custom_diffusion_on_it_is_refused_before_a_run(flow: Bench) -> None:
    request = concept_bench.request(flow, concept_bench.manifest(flow), base="z-image")
    with pytest.raises(InvalidArgument, match="z-image is a z_image, which reads text and image in one") as caught:
        flow.client.trainer.create_training_run(request)
    assert (caught.value.reason, caught.value.field) == ("METHOD", "method")
    assert not flow.client.trainer.list_training_runs().training_runs
