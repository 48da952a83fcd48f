"""A taste changes its embedder: labels stay, the old one scores until the switch, a kill costs one batch at most."""

import threading
import uuid

import numpy as np
import pytest
from sqlalchemy import text

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.postgresql import beside
from tests.rater.conftest import png
from tests.rater.models_on_disk import SECOND, write_second_model


@pytest.fixture
def second(models):
    """Another embedder among the home's models."""
    return write_second_model(models)


def change(rater, taste, embedder=SECOND, **fields):
    request = pb.ChangeEmbedderRequest(taste=taste, embedder=embedder, request_id=str(uuid.uuid4()), **fields)
    return rater.stream("ChangeEmbedder", request)


def vectors(home, embedder):
    query = text("SELECT digest, vector FROM embeddings WHERE embedder = :embedder")
    with beside(home).connect() as connection:
        rows = connection.execute(query, {"embedder": embedder}).all()
    return {digest: np.frombuffer(vector, "<f4") for digest, vector in rows}


def test_a_change_keeps_labels_and_fits_a_version_on_the_new_embeddings(rater, fitted, second):
    before = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste))
    answers = change(rater, fitted.taste, seed=3)
    phases = [answer.progress.phase for answer in answers[:-1]]
    assert "embedding" in phases and phases == sorted(phases, key=phases.index)
    taste, version = answers[-1].taste, answers[-1].rater_version
    assert (taste.embedder, taste.next_embedder, taste.uid) == (second, "", before.uid)
    assert (taste.label_count, taste.image_count) == (before.label_count, before.image_count)
    assert (version.embedder, version.active, taste.active_rater_version) == (second, True, version.name)
    assert set(vectors(rater.home, second)) == set(fitted.digests)
    scored = rater.call(
        "ScoreImages", pb.ScoreImagesRequest(taste=fitted.taste, images=[{"digest": fitted.digests[9]}])
    )
    assert scored.results[0].score.rater_version == version.name
    hit = rater.call(
        "SearchImages", pb.SearchImagesRequest(taste=fitted.taste, image={"digest": fitted.digests[5]}, count=1)
    ).hits[0]
    assert hit.image.digest == fitted.digests[5] and hit.similarity == pytest.approx(1, abs=1e-4)


def test_an_older_version_cannot_score_with_another_embedder_and_the_way_back_needs_no_new_vectors(
    rater, fitted, second
):
    first = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste)).active_rater_version
    change(rater, fitted.taste)
    with pytest.raises(FailedPrecondition) as caught:
        rater.call("ActivateRaterVersion", pb.ActivateRaterVersionRequest(name=first, request_id=str(uuid.uuid4())))
    assert caught.value.reason == "EMBEDDER_CHANGED"
    back = change(rater, fitted.taste, "starter")
    done = [a.progress.done for a in back if a.progress.phase == "embedding"]
    assert set(done) <= {len(fitted.digests)}
    assert back[-1].taste.embedder == "starter"
    rater.call("ActivateRaterVersion", pb.ActivateRaterVersionRequest(name=first, request_id=str(uuid.uuid4())))


def test_a_taste_without_labels_changes_without_a_version(rater, library, second):
    last = change(rater, library.taste)[-1]
    assert last.taste.embedder == second and not last.HasField("rater_version")


def test_the_same_request_is_answered_once(rater, library, second):
    request = pb.ChangeEmbedderRequest(taste=library.taste, embedder=second, request_id=str(uuid.uuid4()))
    first = rater.stream("ChangeEmbedder", request)[-1]
    assert rater.stream("ChangeEmbedder", request) == [first]


def test_images_that_come_during_a_change_are_in_the_new_space_too(rater, library, second):
    new = [rater.put(png((9, 200, i), seed=900 + i)) for i in range(12)]
    facts = [pb.Image(digest=d, source=pb.SOURCE_IMPORTED) for d in new]
    adding = threading.Thread(target=rater.add, args=(library.taste, facts))
    adding.start()
    change(rater, library.taste)
    adding.join()
    assert set(vectors(rater.home, second)) == {*library.digests, *new}
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=library.taste, page_size=1))
    assert listed.total_size == len(library.digests) + len(new)


@pytest.mark.parametrize(
    ("embedder", "error", "reason"),
    [
        ("nonsense", InvalidArgument, "EMBEDDER_UNKNOWN"),
        ("open_clip:second/missing", FailedPrecondition, "EMBEDDER_MISSING"),
    ],
)
def test_an_embedder_that_cannot_be_leaves_everything_as_it_is(rater, fitted, second, embedder, error, reason):
    with pytest.raises(error) as caught:
        change(rater, fitted.taste, embedder)
    assert caught.value.reason == reason
    taste = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste))
    assert (taste.embedder, taste.next_embedder) == ("starter", "")
    with pytest.raises(NotFound):
        change(rater, "tastes/nobody")


def test_an_image_that_is_gone_stands_against_the_change_and_is_named(rater, library, second):
    lost = library.digests[7]
    (rater.home / "artifacts" / lost[:2] / lost).unlink()
    with pytest.raises(FailedPrecondition) as caught:
        change(rater, library.taste)
    assert caught.value.reason == "IMAGES_UNREADABLE" and lost in caught.value.message
    assert rater.call("GetTaste", pb.GetTasteRequest(name=library.taste)).next_embedder == ""
    ArtifactStore(StoreSettings(home=rater.home)).put(png(colour_of(7), seed=7), "image/png")


def colour_of(place: int) -> tuple[int, ...]:
    rng = np.random.default_rng(7)
    return [tuple(int(c) for c in rng.integers(0, 255, 3)) for _ in range(place + 1)][-1]
