"""A tower in half precision has a name and a space of its own, and nothing of the one is taken for the other."""

import uuid

import numpy as np
import pytest
import torch

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.embedding import device
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.names import LITE, in_precision, parse, plain, space_of
from konomi_rater.embedding.registry import Embedders
from konomi_rater.settings import RaterSettings
from konomi_rater.storage.files import head_file
from tests.rater.conftest import png, serving
from tests.rater.models_on_disk import SECOND, write_second_model
from tests.rater.usecases.test_embedders import change, vectors

CPU = Placement("cpu", 1, 16)
PICTURES = [np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8) for i in range(5)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_tower_in_half_precision_says_nearly_the_same_under_another_name(tmp_path, precision) -> None:
    whole, half = (
        Embedders(tmp_path, CPU).open(name)
        for name in (write_second_model(tmp_path), in_precision(write_second_model(tmp_path), precision))
    )
    single, rough = whole.embed(PICTURES, keep=True), half.embed(PICTURES, keep=True)
    assert rough.dtype == np.float32 and np.allclose(np.linalg.norm(rough, axis=1), 1, atol=1e-6)
    assert (single * rough).sum(axis=1).min() > 0.99 and not np.array_equal(single, rough)
    words = [tower.embed_texts(["a red hat"])[0] for tower in (whole, half)]
    assert words[0] @ words[1] > 0.99
    assert space_of(f"{SECOND}@{precision}") == f"{SECOND}@{precision}" != space_of(SECOND)
    assert space_of(f"{LITE}@{precision}") == f"{space_of(LITE)}@{precision}"


def test_a_row_that_is_kept_is_the_same_bits_beside_any_others_in_half_precision_too(tmp_path) -> None:
    opened = Embedders(tmp_path, CPU).open(f"{write_second_model(tmp_path)}@bf16")
    together = opened.embed([*PICTURES, *PICTURES, *PICTURES, *PICTURES], keep=True)
    assert np.array_equal(together[-5:], opened.embed(PICTURES, keep=True))


def test_a_pass_that_is_filled_up_lies_in_memory_as_a_full_one_does(tmp_path) -> None:
    """Another layout of the same numbers rounds otherwise: seen with the starter's patches, too few here to show it."""
    write_second_model(tmp_path)
    opened = Embedders(tmp_path, Placement("cpu", 1, 1)).open(SECOND)
    pixels = torch.zeros((16, opened.fit.height, opened.fit.width, 3), dtype=torch.uint8)
    full, filled = opened._on_device(pixels, 16), opened._on_device(pixels[:5], 16)
    assert filled.shape == full.shape and filled.stride() == full.stride()
    assert torch.equal(filled, full)


def test_bytes_normalised_on_the_device_are_the_host_s_bits(tmp_path) -> None:
    prepare = Embedders(tmp_path, CPU).open(write_second_model(tmp_path))._prepare
    stacked = prepare.stacked(PICTURES)
    assert stacked.dtype == torch.uint8 and stacked.shape == (5, 32, 32, 3)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (prepare.mean, prepare.std))
    host = torch.stack([(image.permute(2, 0, 1).float() / 255 - mean) / std for image in stacked])
    assert torch.equal(prepare.normalised(stacked.to("cpu", non_blocking=True)), host)
    assert torch.equal(prepare(PICTURES), host)


def test_a_name_says_its_precision_and_one_of_no_known_precision_is_refused() -> None:
    assert in_precision(SECOND, "bf16") == f"{SECOND}@bf16" and in_precision(SECOND, "fp32") == SECOND
    assert in_precision(f"{SECOND}@fp32", "bf16") == SECOND
    assert in_precision(f"{SECOND}@fp16", "bf16") == f"{SECOND}@fp16" and plain(f"{SECOND}@fp16") == SECOND
    assert parse("starter@bf16").text == "starter@bf16" and parse("starter").text == "starter"
    for name in (f"{SECOND}@", f"{SECOND}@int8", f"{SECOND}@bf16@bf16", "starter@", "@bf16"):
        with pytest.raises(InvalidArgument) as caught:
            parse(name)
        assert caught.value.reason == "EMBEDDER_UNKNOWN" and "@bf16 or @fp16" in caught.value.message


def test_what_is_left_open_is_float32_on_the_cpu_and_half_precision_on_a_gpu(tmp_path, monkeypatch) -> None:
    def settled(precision: str, name: str) -> str:
        return Embedders(tmp_path, Placement("auto", 1, 0, precision)).settle(name)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert settled("auto", SECOND) == SECOND and settled("bf16", SECOND) == f"{SECOND}@bf16"
    asked = device.settled(Placement("auto", 1, 0))
    assert (asked.device, asked.batch, asked.kept) == ("cpu", 32, 16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda name: monkeypatch.context())
    for computes, half in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation, c=computes: c)
        assert settled("auto", SECOND) == f"{SECOND}@{half}"
    assert settled("auto", "starter") == "starter" and settled("auto", LITE) == LITE
    assert settled("bf16", "starter") == "starter@bf16" and settled("fp32", SECOND) == SECOND
    asked = device.settled(Placement("auto", 1, 0))
    assert (asked.device, asked.batch, asked.kept) == ("cuda", 64, 64)
    assert device.settled(Placement("cuda:1", 1, 8)).batch == 8 and torch.backends.cuda.matmul.allow_tf32


def test_settings_take_a_number_or_auto() -> None:
    assert RaterSettings().embed_batch == "auto" and RaterSettings(embed_batch=7).embed_batch == 7
    for wrong in ({"embed_batch": 0}, {"embed_batch": "all"}, {"embedder_precision": "int8"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RaterSettings(**wrong)


@pytest.fixture
def halved(home, monkeypatch):
    """A rater set to bf16 with one taste of the starter."""
    monkeypatch.setenv("KONOMI_EMBEDDER_PRECISION", "bf16")
    with serving(home) as running:
        yield running


def test_a_new_taste_says_its_precision_and_a_change_goes_there_and_back(halved, models) -> None:
    write_second_model(models)
    taste = halved.taste()
    digest = halved.put(png((200, 30, 40), seed=3))
    halved.add(taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED)])
    assert halved.call("GetTaste", pb.GetTasteRequest(name=taste)).embedder == "starter@bf16"
    assert change(halved, taste, SECOND)[-1].taste.embedder == f"{SECOND}@bf16"
    assert change(halved, taste, f"{SECOND}@fp32")[-1].taste.embedder == SECOND
    assert change(halved, taste, SECOND)[-1].taste.embedder == SECOND  # its own name, as it is
    near, single = (vectors(halved.home, name)[digest] for name in (f"{SECOND}@bf16", SECOND))
    assert 0.99 < near @ single < 1


def test_a_taste_keeps_its_precision_and_a_version_of_another_does_not_score(rater, fitted) -> None:
    first = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste))
    assert first.embedder == "starter"
    answer = change(rater, fitted.taste, "starter@bf16")[-1]
    assert answer.taste.embedder == answer.rater_version.embedder == "starter@bf16"
    with pytest.raises(FailedPrecondition) as caught:
        request = pb.ActivateRaterVersionRequest(name=first.active_rater_version, request_id=str(uuid.uuid4()))
        rater.call("ActivateRaterVersion", request)
    assert caught.value.reason == "EMBEDDER_CHANGED"
    assert "expected a version that reads starter@bf16" in caught.value.message
    assert "reads starter;" in caught.value.message


def test_a_head_of_another_space_under_a_taste_says_so(rater, fitted, monkeypatch) -> None:
    """As a database put together by hand would have it: the row says one space, the head's own file another."""
    version = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste)).active_rater_version
    store = ArtifactStore(StoreSettings(home=rater.home))
    digest = rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=version)).artifact_digest
    assert head_file.from_bytes(store.get(digest)).embedder == "starter"
    other = head_file.from_bytes(store.get(digest).replace(b'embedder\\": \\"starter', b'embedder\\": \\"st@bf16'))
    monkeypatch.setattr("konomi_rater.usecases.workspace.from_bytes", lambda data: other)
    assert rater.fit(fitted.taste, seed=5).artifact_digest != digest
    with pytest.raises(FailedPrecondition) as caught:
        rater.call("ScoreImages", pb.ScoreImagesRequest(taste=fitted.taste, images=[{"digest": fitted.digests[9]}]))
    assert caught.value.reason == "EMBEDDER_CHANGED"
    assert "fitted on vectors of starter, the embedder of" in caught.value.message
    assert "was fitted on vectors of st@bf16; fit a new one with FitRater" in caught.value.message
