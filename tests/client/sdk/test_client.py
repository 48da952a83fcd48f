"""The client's shortcuts: scoring anything, storing and reading artifacts, finding its roles."""

import json

import pytest

import konomi
from konomi.client import Client, services
from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, Unavailable


def test_score_takes_bytes_digests_and_paths(client, stand_in, png, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(png(10))
    digest = client.artifacts.put(png(20), "image/png").digest
    scores = client.rater.score([png(10), digest, path, str(path)])
    assert scores[0] == scores[2] == scores[3]
    assert scores[0].utility != scores[1].utility
    assert scores[0].rater_version == "tastes/default/raterVersions/1"
    assert client.rater.score([png(1)], taste="mine")[0].rater_version.startswith("tastes/mine/")


def test_one_bad_image_raises_in_score_and_not_in_score_each(client, png):
    images = [png(1), b"no image at all", png(2)]
    with pytest.raises(InvalidArgument, match="image 1: expected PNG") as caught:
        client.rater.score(images)
    assert caught.value.reason == "IMAGE_TYPE"
    kinds = [result.WhichOneof("result") for result in client.rater.score_each(images)]
    assert kinds == ["score", "error", "score"]


def test_score_of_a_missing_file(client, tmp_path):
    with pytest.raises(InvalidArgument, match=r"none\.png") as caught:
        client.rater.score([tmp_path / "none.png"])
    assert caught.value.reason == "FILE_UNREADABLE"


def test_scores_keep_their_order_over_batches(client, stand_in, png, monkeypatch):
    monkeypatch.setattr(services, "BATCH_IMAGES", 3)
    images = [png(shade) for shade in range(10)]
    together = client.rater.score(images)
    assert together == [client.rater.score([image])[0] for image in images]


def test_batches_fit_a_message(monkeypatch):
    monkeypatch.setattr(services, "BATCH_BYTES", 100)
    inputs = [services.image_input(bytes(size)) for size in (60, 40, 1, 99, 100)]
    assert [[len(image.content) for image in batch] for batch in services.batches(inputs)] == [[60, 40], [1, 99], [100]]
    with pytest.raises(InvalidArgument, match=r"artifacts\.put"):
        services.image_input(bytes(101))


@pytest.mark.slow
def test_artifacts_there_and_back(client):
    data = bytes(range(256)) * 20_000  # several chunks
    artifact = client.artifacts.put(data, "application/octet-stream")
    assert artifact.size_bytes == len(data)
    assert client.artifacts.get(artifact.digest) == data
    assert client.artifacts.get(client.artifacts.put(b"", "text/plain").digest) == b""
    with pytest.raises(NotFound):
        client.artifacts.get("0" * 64)


def test_a_flipped_bit_is_data_loss(client, stand_in):
    digest = client.artifacts.put(b"precious", "text/plain").digest
    stand_in.artifacts.corrupt.add(digest)
    with pytest.raises(DataLoss, match=digest):
        client.artifacts.get(digest)


def test_ensure_taste_creates_once(client, stand_in):
    assert client.rater.ensure_taste("mine").name == "tastes/mine"
    assert client.rater.ensure_taste("tastes/mine").name == "tastes/mine"
    assert list(stand_in.rater.tastes) == ["tastes/mine"]


def test_roles_at_their_own_addresses(stand_in, tmp_path):
    with Client.from_addresses({"rater": stand_in.address, "page": "http://x"}, home=tmp_path) as client:
        client.rater.list_tastes()
        client.artifacts.put(b"x", "text/plain")
        with pytest.raises(FailedPrecondition, match="not of a trainer"):
            client.trainer.list_models()
    with pytest.raises(FailedPrecondition, match="expected the address"):
        Client.from_addresses({"page": "http://x"})


def test_connect_without_an_address_needs_konomi_up(tmp_path):
    with pytest.raises(Unavailable, match="konomi up"):
        konomi.connect(home=tmp_path)
    stale = tmp_path / "run" / "up.json"
    stale.parent.mkdir()
    stale.write_text(json.dumps({"rater": "127.0.0.1:1"}))
    with pytest.raises(Unavailable, match="konomi up"):
        konomi.connect(home=tmp_path)
