"""Words beside a LoRA, family by family: learnt, saved, drawn with, composed, exported, and refused where none is."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.concept_format import WORDS_FORMAT
from konomi_chassis.models.families import table
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.sampling import AdapterFile
from konomi_trainer.base_models import pipeline
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import complete
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.data.tensors import pack, unpack
from konomi_trainer.export import custom_diffusion
from konomi_trainer.merging import concepts as merging
from konomi_trainer.methods import word_lora
from konomi_trainer.methods.base import PreparedMethod, TrainingSource
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.settings import TrainerSettings
from tests.families.test_protocol import image

CPU = torch.device("cpu")
CAT = {"token": "<cat-1>", "class_word": "cat", "initial_word": ""}
OWL = {"token": "<owl-1>", "class_word": "snow owl", "initial_word": ""}
SIDES = {"lumina2": 64}
FLOWS = ("z-image", "lumina2", "klein-base", "chroma", "flux1-dev", "sd3", "qwen-image")
ROWS = {"flux1-dev": 2, "sd3": 2, "sdxl": 2}
"""Text encoders that learn words, where there is more than one."""


def prepared(home: Path, folder: Path, id: str, *concepts: dict[str, str]) -> PreparedMethod:
    """Returns a run on a tiny base, with two images a concept and one of the prior."""
    model = BaseModels(home).get(id)
    place = pipeline.TrainingPlacement("cpu", "fp32", False)
    base = pipeline.load(model, home / "configs", "0" * 64, place, SIDES.get(id, 32))
    taught = [f"photo of a {c['token']} {c['class_word']}" for c in concepts for _ in range(2)]
    items = [ManifestItem(f"{number:064x}", text, 1.0, "selected") for number, text in enumerate(taught)]
    items.append(ManifestItem(f"{99:064x}", "photo of a dog", 1.0, "prior"))

    def pixels(digest: str) -> np.ndarray:
        rng = np.random.default_rng(int(digest, 16))
        return rng.integers(0, 256, (base.resolution, base.resolution, 3), np.uint8)

    source = TrainingSource(items, pixels, TensorCache(folder / id), lambda: None)
    given = {"batch_size": 4, "rank": 2, "concepts": concepts, "scale_augmentation": False}
    method = METHODS["concept_lora"]
    return method.prepare(base, source, complete(method.name, id, "0" * 64, 1, given, method.defaults))


def taught(home: Path, folder: Path, id: str, *concepts: dict[str, str]) -> tuple[bytes, PreparedMethod]:
    """Returns the file after a step along the gradient, which made the loss smaller."""
    method = prepared(home, folder, id, *concepts)
    before = method.loss(0, range(4))
    before.backward()
    with torch.no_grad():
        for weight in method.weights.values():
            if weight.grad is not None and weight.grad.norm() > 0:
                weight -= 0.02 * weight.grad / weight.grad.norm()
    assert method.loss(0, range(4)).item() < before.item()
    weights = {name: weight.detach().clone() for name, weight in method.weights.items()}
    record = {"schema": "konomi.adapter/1", "base_model": id, "base_digest": "0" * 64}
    return method.save(weights, record).adapter, method


def drawing(home: Path, id: str) -> Any:
    return load_pipeline(BaseModels(home).get(id), home / "configs", CPU, torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("id", (*FLOWS, "sdxl"))
def test_a_word_is_learnt_beside_a_lora_and_the_generator_draws_it(id: str, home: Path, tmp_path: Path) -> None:
    data, method = taught(home, tmp_path, id, CAT)
    tensors, header = unpack(data)
    pipe = drawing(home, id)
    rows = sorted(name for name in tensors if name.startswith("tokens"))
    assert rows == ["tokens.<cat-1>", "tokens_2.<cat-1>"][: ROWS.get(id, 1)] and header["format"] == WORDS_FORMAT
    assert all(method.weights[name].grad is not None for name in rows)
    assert {name.partition(".")[0] for name in tensors} - {"tokens", "tokens_2"} == {table.of_pipeline(pipe).network}
    learnt = word_lora.from_bytes(data)
    assert word_lora.to_bytes(learnt) == data and [concept.token for concept in learnt.concepts] == ["<cat-1>"]
    texts = ("a <cat-1> cat",)
    plain, adapters = image(pipe, texts), Adapters(pipe)
    adapters.apply([AdapterFile("a" * 64, data, 1.0)])
    drawn = image(pipe, texts)
    assert np.isfinite(drawn).all() and not np.array_equal(drawn, plain)
    adapters.apply([])
    assert np.array_equal(image(pipe, texts), plain), "tokenizer, rows and weights are the base's again, to the bit"


@pytest.mark.slow
def test_a_row_alone_says_something_and_starts_from_the_mean_of_its_class_word(home: Path, tmp_path: Path) -> None:
    method = prepared(home, tmp_path, "z-image", OWL)
    pipe = drawing(home, "z-image")
    ids = pipe.tokenizer("snow owl", add_special_tokens=False)["input_ids"]
    start = method.weights["tokens.<owl-1>"].detach()
    assert len(ids) > 1 and torch.equal(start, pipe.text_encoder.get_input_embeddings().weight[ids].mean(dim=0))
    weights = {name: weight.detach().clone() for name, weight in method.weights.items()}
    near = method.save(weights, {"schema": "konomi.adapter/1"}).adapter
    weights["tokens.<owl-1>"] += 1.0
    far = method.save(weights, {"schema": "konomi.adapter/1"}).adapter
    adapters, drawn = Adapters(pipe), []
    for digest, data in (("a" * 64, near), ("b" * 64, far)):
        adapters.apply([AdapterFile(digest, data, 1.0)])
        drawn.append(image(pipe, ("a <owl-1> owl",)))
    assert not np.array_equal(*drawn), "the LoRA has learnt nothing: what differs is the word"


@pytest.mark.slow
def test_the_same_run_makes_the_same_bytes(home: Path, tmp_path: Path) -> None:
    first, second = (taught(home, tmp_path / name, "z-image", CAT, OWL)[0] for name in ("one", "two"))
    assert first == second


@pytest.mark.slow
def test_concepts_are_composed_by_joint_training_by_merging_and_by_two_adapters(home: Path, tmp_path: Path) -> None:
    joint, _ = taught(home, tmp_path, "z-image", CAT, OWL)
    assert [concept.token for concept in word_lora.from_bytes(joint).concepts] == ["<cat-1>", "<owl-1>"]
    cat, owl = (taught(home, tmp_path, "z-image", concept)[0] for concept in (CAT, OWL))
    models = [word_lora.from_bytes(data) for data in (cat, owl)]
    merging.check(models)
    with pytest.raises(InvalidArgument, match="<cat-1> is in more than one model"):
        merging.check([models[0], models[0]])
    merged = word_lora.joined(models, {"schema": "konomi.adapter/1"})
    assert merged.rank == 4 and merged.metadata["transformer.r"] == merged.metadata["transformer.lora_alpha"] == 4
    pipe = drawing(home, "z-image")
    adapters, texts = Adapters(pipe), ("a <cat-1> cat and a <owl-1> owl",)
    adapters.apply([AdapterFile("a" * 64, cat, 1.0), AdapterFile("b" * 64, owl, 1.0)])
    both = image(pipe, texts)
    adapters.apply([AdapterFile("c" * 64, word_lora.to_bytes(merged), 1.0)])
    assert np.allclose(image(pipe, texts), both, atol=1e-4), "what is merged adds what two adapters add"
    with pytest.raises(FailedPrecondition, match="Two adapters bind <cat-1>"):
        adapters.apply([AdapterFile("a" * 64, cat, 1.0), AdapterFile("d" * 64, joint, 1.0)])


@pytest.mark.slow
def test_other_programs_get_the_lora_and_a_file_a_word(home: Path, tmp_path: Path) -> None:
    for id, names in (("z-image", ["emb_params"]), ("flux1-dev", ["clip_l", "t5xxl"])):
        data, _ = taught(home, tmp_path, id, CAT)
        model, layout = word_lora.from_bytes(data), BaseModels(home).get(id).layout
        words = table.family(layout).words
        packed = custom_diffusion.words_archive(model, [words[name] for name in sorted(words)], {})
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            assert sorted(archive.namelist()) == ["cat-1.safetensors", "lora.safetensors"]
            embeddings = load(archive.read("cat-1.safetensors"))
            lora = archive.read("lora.safetensors")
        assert sorted(embeddings) == names and all(row.shape[0] == 1 for row in embeddings.values())
        pipe = drawing(home, id)
        (tmp_path / "lora.safetensors").write_bytes(lora)
        pipe.load_lora_weights(tmp_path, weight_name="lora.safetensors", local_files_only=True)
        layers = [name for name, _ in pipe.transformer.named_modules() if name.endswith("lora_B.default_0")]
        assert len(layers) == sum(name.endswith("lora_B.weight") for name in load(lora))


@pytest.mark.slow
def test_a_file_that_is_none_is_refused(home: Path, tmp_path: Path) -> None:
    data, _ = taught(home, tmp_path, "z-image", CAT)
    tensors, header = unpack(data)
    with pytest.raises(FailedPrecondition, match="came a file that is none: rows or a LoRA are missing"):
        word_lora.from_bytes(pack({n: t for n, t in tensors.items() if not n.startswith("tokens")}, header))
    with pytest.raises(FailedPrecondition, match="its format is 'pt'"):
        word_lora.from_bytes(pack(tensors, {name: value for name, value in header.items() if name != "format"}))
    broken = {name: tensor * float("nan") if name.startswith("tokens") else tensor for name, tensor in tensors.items()}
    adapters = Adapters(drawing(home, "z-image"))
    with pytest.raises(FailedPrecondition, match=r"tokens\.<cat-1> holds numbers that are none"):
        adapters.apply([AdapterFile("a" * 64, pack(broken, header), 1.0)])
    wide = tensors | {"tokens.<cat-1>": torch.zeros(7)}
    with pytest.raises(FailedPrecondition, match=r"The row of <cat-1> has shape \(7,\)"):
        adapters.apply([AdapterFile("b" * 64, pack(wide, header), 1.0)])
    assert json.loads(header["konomi"])["base_model"] == "z-image"


@pytest.mark.slow
def test_bases_without_a_place_for_a_method_are_refused_by_name(home: Path) -> None:
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    for id in (*FLOWS, "sd1", "sdxl"):
        bases.check_binds(id, words=True)
    with pytest.raises(InvalidArgument, match="toy is a toy, whose do not: train a LoRA") as caught:
        bases.check_binds("toy", words=True)
    assert (caught.value.reason, caught.value.field) == ("METHOD", "method")
    with pytest.raises(InvalidArgument, match=r"z-image is a z_image, .*: choose the method concept_lora") as caught:
        bases.check_binds("z-image")
    assert (caught.value.reason, caught.value.field) == ("METHOD", "method")
