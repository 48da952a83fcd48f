"""Merging, retrieval and export of concepts over a real socket, with every error a caller can cause."""

import io
import json
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_starter import installation
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.data.tensors import unpack
from konomi_trainer.methods import concept_file
from tests.trainer import concept_bench, tiny
from tests.trainer.conftest import Bench


def merge(bench: Bench, *models: pb.Model, **more: Any) -> pb.Model:
    names = [model.name for model in models]
    given = {"names": names, "display_name": "both", "request_id": str(uuid.uuid4()), **more}
    return bench.client.trainer.merge_models(**given)


def refused(kind: type[KonomiError], bench: Bench, *models: pb.Model, **more: Any) -> KonomiError:
    with pytest.raises(kind) as caught:
        merge(bench, *models, **more)
    return caught.value


def test_merged_models_know_the_concepts_of_all(bench: Bench) -> None:
    parts = [concept_bench.trained(bench, [token]) for token in ("<a>", "<b>", "<c>")]
    key = str(uuid.uuid4())
    model = merge(bench, *parts, request_id=key)
    assert model.metrics["constraint_error"] <= 1e-6 and model.metrics["concepts"] == 3
    assert list(model.parents) == [part.name.removeprefix("models/") for part in parts] and model.display_name == "both"
    assert model.method == pb.TRAINING_METHOD_CUSTOM_DIFFUSION and model.base_digest == parts[0].base_digest
    found = concept_file.from_bytes(bench.store.get(model.adapter_digest))
    own = [concept_file.from_bytes(bench.store.get(part.adapter_digest)) for part in parts]
    assert [concept.token for concept in found.concepts] == ["<a>", "<b>", "<c>"]
    for part, token in zip(own, ("<a>", "<b>", "<c>"), strict=True):
        assert torch.equal(found.rows[token][0], part.rows[token][0])
    assert merge(bench, *parts, request_id=key) == model == merge(bench, *parts)
    # by hand: at the words of V* the merged weights answer what the concept's own do
    pipe = concept_bench.pipeline(bench.home / "models" / "tiny", found)
    with torch.no_grad():
        words = pipe.encode_prompt("a <b> face", torch.device("cpu"), 1, False)[0][0, 2:8]
    start = concept_bench.pipeline(bench.home / "models" / "tiny").unet
    for name, delta in own[1].dense().items():
        wanted = words @ (start.get_submodule(name).weight + delta).T
        assert (words @ pipe.unet.get_submodule(name).weight.T - wanted).norm() / wanted.norm() < 1e-5
    again = merge(bench, model, concept_bench.trained(bench, ["<d>"]))
    assert again.metrics["concepts"] == 4 and again.metrics["constraint_error"] <= 1e-6
    runs = bench.client.trainer.list_training_runs().training_runs
    assert all(run.state == pb.TRAINING_STATE_SUCCEEDED for run in runs) and len(runs) == 6
    for form in (pb.EXPORT_FORMAT_KOHYA, pb.EXPORT_FORMAT_MODEL_CARD):  # its captions are no manifest's
        assert bench.client.trainer.export_model(name=model.name, format=form).size_bytes > 0
    assert bench.client.trainer.promote_model(name=model.name, request_id=str(uuid.uuid4())).current


def test_a_merge_can_be_compressed(bench: Bench) -> None:
    parts = [concept_bench.trained(bench, [token]) for token in ("<a>", "<b>")]
    whole, small = merge(bench, *parts), merge(bench, *parts, keep_mass=0.6)
    sizes = [bench.store.stat(model.adapter_digest).size_bytes for model in (whole, small)]
    assert sizes[1] < sizes[0] and small.name != whole.name
    deltas = concept_file.from_bytes(bench.store.get(small.adapter_digest)).deltas
    assert any(isinstance(delta, tuple) for delta in deltas.values())
    assert small.metrics["constraint_error"] <= 1e-6  # the models are cut before, the merge is not


def test_merges_that_cannot_be_say_why(bench: Bench) -> None:
    first, second = (concept_bench.trained(bench, [token], steps=1) for token in ("<a>", "<b>"))
    lora = bench.trained(bench.manifest(2), steps=1)
    large = concept_bench.trained(bench, ["<c>"], base="tiny-xl", steps=1)
    error = refused(FailedPrecondition, bench, first, lora)
    assert error.reason == "METHOD_NOT_MERGED" and "several adapters" in error.message
    assert refused(FailedPrecondition, bench, first, large).reason == "BASES_DIFFER"
    same = refused(InvalidArgument, bench, first, first)
    assert same.reason == "TOKENS_COLLIDE" and "<a>" in same.message
    few = refused(InvalidArgument, bench, first, second, captions=["sea"])
    assert few.reason == "TOO_FEW_CAPTIONS" and "at least 32" in few.message
    assert refused(NotFound, bench, first, names=[first.name, "models/nobody"]).reason == "MODEL_NOT_FOUND"
    assert refused(InvalidArgument, bench, names=[first.name]).field == "names"
    assert refused(InvalidArgument, bench, first, second, keep_mass=1.5).field == "keep_mass"
    assert refused(InvalidArgument, bench, first, second, request_id="x").field == "request_id"
    for path in (bench.home / "artifacts").rglob(f"{first.adapter_digest}*"):
        path.unlink()
    error = refused(FailedPrecondition, bench, first, lora)
    assert error.reason == "METHOD_NOT_MERGED", "no file is read before every method is known to be merged"


def candidates(bench: Bench, captions: list[str]) -> tuple[str, list[str]]:
    digests = [bench.store.put(tiny.png(500 + n), "image/png").digest for n in range(len(captions))]
    items = tuple(ManifestItem(d, caption, 1.0, "prior") for d, caption in zip(digests, captions, strict=True))
    return bench.store.put(render(items), "application/json").digest, digests


@pytest.mark.slow
def test_regularisation_images_are_found_by_the_bundled_text_tower(bench: Bench) -> None:
    installation.install(bench.home)
    captions = ["ink portrait, long hair", "ink portrait, short hair", "comic portrait, sunglasses", "ink portrait"]
    manifest, digests = candidates(bench, captions)
    asked = {"taste": "tastes/default", "candidates_digest": manifest, "prompts": ["ink portrait, long hair"]}
    retrieve = bench.client.trainer.retrieve_images
    found = retrieve(**asked)
    assert found.images[0].digest == digests[0] and found.images[0].text_similarity == pytest.approx(1, abs=1e-3)
    assert digests[2] not in [image.digest for image in found.images] and found.candidates == 4
    assert "fewer than the 200" in found.warnings[0]
    other = retrieve(**asked, concept_digests=digests[:1], min_text_similarity=-1, min_image_similarity=-1, limit=2)
    assert len(other.images) == 2 and digests[0] not in [image.digest for image in other.images]
    assert all(-1 <= image.image_similarity <= 0.95 for image in other.images)
    nothing = retrieve(**{**asked, "prompts": ["comic portrait, beard"]}, min_text_similarity=0.999)
    assert not nothing.images and "None of 4" in nothing.warnings[0]


def test_a_retrieval_that_cannot_be_says_why(bench: Bench) -> None:
    manifest, _ = candidates(bench, ["a face"])
    retrieve = bench.client.trainer.retrieve_images
    with pytest.raises(FailedPrecondition) as caught:
        retrieve(taste="tastes/default", candidates_digest=manifest, prompts=["a face"])
    assert caught.value.reason == "EMBEDDER_MISSING" and "konomi_starter install" in caught.value.message
    with pytest.raises(NotFound):
        retrieve(taste="tastes/default", candidates_digest="0" * 64, prompts=["a face"])
    broken = bench.store.put(json.dumps({"schema": "x"}).encode(), "application/json").digest
    with pytest.raises(InvalidArgument):
        retrieve(taste="tastes/default", candidates_digest=broken, prompts=["a face"])
    for field, value in (("prompts", []), ("limit", -1), ("min_text_similarity", 2.0), ("concept_digests", ["x"])):
        given: dict[str, Any] = {"candidates_digest": manifest, "prompts": ["a face"], field: value}
        with pytest.raises(InvalidArgument) as refusal:
            retrieve(taste="tastes/default", **given)
        assert refusal.value.field.startswith(field)


def exported(bench: Bench, model: pb.Model, form: int) -> dict[str, bytes]:
    artifact = bench.client.trainer.export_model(name=model.name, format=form)
    with zipfile.ZipFile(io.BytesIO(bench.store.get(artifact.digest))) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
@pytest.mark.parametrize("form", [pb.EXPORT_FORMAT_KOHYA, pb.EXPORT_FORMAT_DIFFUSERS])
def test_diffusers_loads_the_exported_pair_and_draws_the_same(
    bench: Bench, base: str, form: int, tmp_path: Path
) -> None:
    model = concept_bench.trained(bench, base=base)
    files = exported(bench, model, form)
    assert sorted(files) == ["a.safetensors", "lora.safetensors"] and files == exported(bench, model, form)
    folder = bench.home / "models" / base
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    (tmp_path / "lora.safetensors").write_bytes(files["lora.safetensors"])
    pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors", adapter_name="concept")
    rows = load(files["a.safetensors"])
    if base == "tiny":
        assert list(rows) == ["emb_params"] and rows["emb_params"].shape == (1, 32)
        pipe.load_textual_inversion(rows, token="<a>")
    else:
        pipe.load_textual_inversion(
            rows["clip_l"], token="<a>", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
        )
        pipe.load_textual_inversion(
            rows["clip_g"], token="<a>", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
        )
    for encoder in filter(None, (pipe.text_encoder, getattr(pipe, "text_encoder_2", None))):
        encoder.requires_grad_(False)
    own = concept_bench.pipeline(folder, concept_file.from_bytes(bench.store.get(model.adapter_digest)))
    wanted = concept_bench.draw(own, "a <a> face")
    assert (concept_bench.draw(pipe, "a <a> face") - wanted).abs().max() < 2e-3
    assert (concept_bench.draw(concept_bench.pipeline(folder), "a face") - wanted).abs().max() > 1e-2


def test_kohya_names_ranks_and_header(bench: Bench) -> None:
    model = concept_bench.trained(bench)
    weights, header = unpack(exported(bench, model, pb.EXPORT_FORMAT_KOHYA)["lora.safetensors"])
    layers = {name.rsplit(".lora_down", 1)[0] for name in weights if name.endswith("lora_down.weight")}
    found = concept_file.from_bytes(bench.store.get(model.adapter_digest)).dense()
    assert layers == {"lora_unet_" + name.replace(".", "_") for name in found}
    for name, delta in found.items():
        layer = "lora_unet_" + name.replace(".", "_")
        down, up = weights[f"{layer}.lora_down.weight"], weights[f"{layer}.lora_up.weight"]
        assert weights[f"{layer}.alpha"].item() == down.shape[0] == up.shape[1]
        product = up.float() @ down.float()
        assert ((product - delta).norm() / delta.norm()).item() < 2e-3
    assert header["ss_base_model_version"] == "sd_v1" and header["modelspec.title"] == "concept-a"
    stored = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_PEFT)
    assert stored.digest == model.adapter_digest
    with pytest.raises(KonomiError) as caught:
        bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MERGED)
    assert "embedding" in caught.value.message


def test_concepts_not_in_a_caption_and_generated_images_are_told_apart(bench: Bench) -> None:
    digest = concept_bench.manifest(bench, ["<a>"])
    with pytest.raises(InvalidArgument) as caught:
        bench.client.trainer.create_training_run(concept_bench.request(bench, digest, ["<a>", "<z>"]))
    assert caught.value.reason == "CONCEPT_UNUSED" and caught.value.field == "concepts[1].token"
    made = concept_bench.manifest(bench, ["<a>"], prior="prior_generated")
    run = bench.finish(bench.client.trainer.create_training_run(concept_bench.request(bench, made, steps=1)).name)
    assert bench.client.trainer.get_model(name=run.model).metrics["regularisation_generated"] == 8
    assert np.isfinite(run.loss)
