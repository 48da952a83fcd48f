"""Early layers of any tower of timm, and two embedders as one: what their vectors are, and what is refused."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.decoding.worker_process import Decoded
from konomi_rater.embedding import early_layers
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.names import LITE, in_precision, parse, space_of
from konomi_rater.embedding.registry import Embedders
from tests.rater.models_on_disk import write_second_model

CPU = Placement("cpu", 1, 16)
PICTURES = [np.random.default_rng(i).integers(0, 255, (40 + i, 50, 3), dtype=np.uint8) for i in range(3)]


def place(models: Path, model: str, seed: int = 3) -> str:
    """Writes random weights of a model of timm and returns its embedder's name."""
    torch.manual_seed(seed)
    path = models / "timm" / model / "mine.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in timm.create_model(model, pretrained=False).state_dict().items()}, path)
    return f"timm:{model}/mine"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["test_vit", "test_resnet", "test_convnext"])
def test_early_layers_stand_beside_the_last_whatever_the_tower(tmp_path, model):
    name = place(tmp_path, model)
    plain, both = Embedders(tmp_path, CPU).open(name), Embedders(tmp_path, CPU).open(f"{name}#early")
    rows, wide = plain.embed(PICTURES, keep=True), both.embed(PICTURES, keep=True)
    last, early = wide[:, : plain.dimensions], wide[:, plain.dimensions :]
    assert both.dimensions == wide.shape[1] > plain.dimensions and not both.reads_text
    assert np.allclose(last / np.linalg.norm(last, axis=1, keepdims=True), rows, atol=1e-5)
    assert np.allclose(np.linalg.norm(early, axis=1) / np.linalg.norm(last, axis=1), early_layers.WEIGHT, atol=1e-4)
    again = Embedders(tmp_path, CPU).open(f"{name}#early").embed(PICTURES, keep=True)
    assert np.array_equal(wide, again), "the fixed pictures are the same ones at every start"


def test_early_layers_tell_a_blurred_picture_from_a_sharp_one(tmp_path):
    name = place(tmp_path, "test_resnet")
    sharp = [Image.fromarray(p) for p in early_layers.pictures(160, 160)[:6]]
    blurred = [image.filter(ImageFilter.GaussianBlur(3)) for image in sharp]
    pixels = [np.asarray(image) for image in (*sharp, *blurred)]
    plain, both = Embedders(tmp_path, CPU).open(name), Embedders(tmp_path, CPU).open(f"{name}#early")
    early = both.embed(pixels, keep=False)[:, plain.dimensions :]
    direction = early[:6].mean(axis=0) - early[6:].mean(axis=0)
    assert (early[:6] @ direction).min() > (early[6:] @ direction).max()


def test_which_layers_are_early():
    assert early_layers.early(4) == early_layers.early(6) == (0, 1, 2)
    assert early_layers.early(2) == (0,) and early_layers.early(3) == (0, 1)
    assert early_layers.early(12) == (0, 1, 2) and early_layers.early(24) == (1, 3, 5)
    with pytest.raises(early_layers.NoEarlyLayers):
        early_layers.early(1)


def test_a_tower_that_names_no_early_layers_is_refused(tmp_path, monkeypatch):
    name = place(tmp_path, "test_vit")
    made = timm.create_model

    def silent(*arguments, **options):
        network = made(*arguments, **options)
        network.feature_info = []
        return network

    monkeypatch.setattr(timm, "create_model", silent)
    with pytest.raises(FailedPrecondition) as caught:
        Embedders(tmp_path, CPU).open(f"{name}#early")
    assert caught.value.reason == "EMBEDDER_UNSUPPORTED" and "'test_vit' 0 layers are known" in caught.value.message


def test_two_embedders_are_one_with_the_vectors_of_both(tmp_path):
    second, vit = write_second_model(tmp_path), place(tmp_path, "test_vit")
    embedders = Embedders(tmp_path, CPU)
    joined, parts = embedders.open(f"{second}+{vit}"), [embedders.open(second), embedders.open(vit)]
    rows = joined.embed(PICTURES, keep=True)
    apart = np.concatenate([part.embed(PICTURES, keep=True) for part in parts], axis=1) * np.sqrt(0.5)
    assert joined.dimensions == rows.shape[1] and np.allclose(rows, apart, atol=1e-6)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    decoded = [Decoded(pixels=p, width=p.shape[1], height=p.shape[0], format="PNG") for p in PICTURES]
    assert np.allclose(joined.embed([joined.fitted(d) for d in decoded], keep=True), rows, atol=1e-5)
    assert joined.fit.least[0] >= max(part.fit.width for part in parts) and not joined.fit.least[2]


def test_words_are_read_by_the_half_that_can(tmp_path):
    second, vit = write_second_model(tmp_path), place(tmp_path, "test_vit")
    embedders = Embedders(tmp_path, CPU)
    joined, reader = embedders.open(f"{vit}+{second}"), embedders.open(second)
    words = joined.embed_texts(["a red hat"])
    assert joined.reads_text and embedders.reads_text(f"{vit}+{second}") and not embedders.reads_text(f"{vit}#early")
    assert np.isclose(np.linalg.norm(words), 1, atol=1e-5)
    near = joined.embed(PICTURES, keep=True) @ words[0]
    assert np.allclose(near, reader.embed(PICTURES, keep=True) @ reader.embed_texts(["a red hat"])[0] * np.sqrt(0.5))
    mute = embedders.open(f"{vit}+{vit}#early")
    with pytest.raises(InvalidArgument) as caught:
        mute.embed_texts(["a hat"])
    assert caught.value.reason == "NO_TEXT_TOWER" and not mute.reads_text


def test_one_half_that_is_missing_is_named(tmp_path):
    vit = place(tmp_path, "test_vit")
    with pytest.raises(FailedPrecondition) as caught:
        Embedders(tmp_path, CPU).open(f"{vit}+timm:test_resnet/other")
    assert caught.value.reason == "EMBEDDER_MISSING" and "timm:test_resnet/other" in caught.value.message


@pytest.mark.parametrize(
    "name",
    [
        *("starter#early", "open_clip:a/b#early", "timm:a/b#late", f"{LITE}#early", "timm:a/b#"),
        *("timm:a/b+", "starter+starter", "starter+timm:a/b+timm:c/d", "timm:a/b@bf16+starter"),
    ],
)
def test_layers_and_joins_of_no_known_form(name):
    with pytest.raises(InvalidArgument) as caught:
        parse(name)
    assert caught.value.reason == "EMBEDDER_UNKNOWN" and "#early" in caught.value.message


@pytest.mark.parametrize("name", ["timm:a/b#early", "starter+timm:a/b#early@bf16", f"{LITE}+open_clip:a/b"])
def test_names_are_read_and_written_alike(name):
    assert parse(name).text == name and in_precision(name, "fp32").partition("@")[0] == name.partition("@")[0]


def test_spaces_of_embedders_that_were_there_before_have_the_names_they_had():
    told = [LITE, "starter", "open_clip:ViT-B-32/laion2b_s34b_b79k", "timm:resnet18/mine", f"{LITE}@bf16"]
    spaces = "\n".join(map(space_of, told))
    assert (
        hashlib.sha256(spaces.encode()).hexdigest()
        == "2f3438524163d931ec0c8bb38a26fec80e2e539da1674ef97f52f724ed59bd4e"
    )
    assert space_of("timm:a/b#early@bf16") == "timm:a/b#early-0.75/1@bf16"
    assert space_of(f"{LITE}+timm:a/b#early") == f"{space_of(LITE)}+timm:a/b#early-0.75/1"


@pytest.mark.parametrize(
    ("model", "reads"),
    [("ViT-B-16-SigLIP2/webli", False), ("PE-Core-B-16/meta", True), ("MobileCLIP2-S0/dfndr2b", True)],
)
def test_of_the_embedders_to_fetch_it_is_known_which_read_words(tmp_path, model, reads):
    assert Embedders(tmp_path, CPU).reads_text(f"open_clip:{model}") is reads
