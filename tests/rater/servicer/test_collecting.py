"""Collected images over a socket: never shown, drawn or chosen again, no error anywhere, and back when put again."""

import os
import time
import uuid

import grpc
import pytest

from konomi.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    from_rpc_error,
)
from konomi.v1 import rater_pb2 as pb
from konomi.v1 import rater_pb2_grpc
from konomi_chassis.auth.authentication import issue_token
from tests.rater.conftest import png
from tests.rater.models_on_disk import write_second_model
from tests.rater.storage.test_consents import consent, given_images, revoke
from tests.rater.usecases.test_embedders import change
from tests.rater.usecases.test_snapshots import carry, export, other, restore

__all__ = ["other"]


@pytest.fixture
def night(rater, fitted):
    """Thirty candidates of a night's unit, old enough to go, beside the graded library."""
    datas = [png((10 * number % 255, 40, 200), seed=900 + number) for number in range(30)]
    digests = [rater.put(data) for data in datas]
    facts = {"source": pb.SOURCE_SELF, "unit": "u1", "night": "n1", "prompt": "portrait 3"}
    images = [pb.Image(digest=digest, seed=number, **facts) for number, digest in enumerate(digests)]
    assert not any(answer.HasField("error") for answer in rater.add(fitted.taste, images))
    for digest in digests:
        age(rater, digest)
    return dict(zip(digests, datas, strict=True))


def age(rater, digest):
    then = time.time() - 40 * 86400
    path = rater.home / "artifacts" / digest[:2] / digest
    for each in (path, path.with_name(f"{digest}.type")):
        os.utime(each, (then, then))


def collect(rater, **fields):
    request = pb.CollectImagesRequest(rejected_seconds=0.001, request_id=str(uuid.uuid4()))
    request.MergeFrom(pb.CollectImagesRequest(**fields))
    return rater.call("CollectImages", request)


def test_what_a_dry_run_names_goes_the_rest_stays_and_a_repeated_request_is_answered_as_before(rater, fitted, night):
    dry = collect(rater, dry_run=True)
    assert list(dry.digests) == sorted(night) and all(map(rater.store.exists, night))
    request_id = str(uuid.uuid4())
    done = collect(rater, request_id=request_id)
    assert (done.count, done.bytes, list(done.digests)) == (30, dry.bytes, []) and not done.next_page_token
    assert not any(map(rater.store.exists, night)) and all(map(rater.store.exists, fitted.digests))
    kinds = {kind.kind: kind.count for kind in done.kinds}
    assert kinds == {"rejected": 30, "graded": 40, "base": 50, "single": 30}
    assert collect(rater, request_id=request_id) == done
    with pytest.raises(AlreadyExists):
        collect(rater, request_id=request_id, keep_units=1)
    assert collect(rater).count == 0


def test_reading_one_says_that_the_policy_took_it_and_its_record_says_so(rater, fitted, night):
    collect(rater)
    digest = next(iter(night))
    with pytest.raises(NotFound, match="collected by the storage policy; its record stays"):
        rater.store.get(digest)
    image = rater.call("GetImage", pb.GetImageRequest(taste=fitted.taste, digest=digest))
    assert image.pixels_collected and image.prompt == "portrait 3" and image.HasField("score")
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, page_size=1000, with_scores=True))
    assert {image.digest for image in listed.images if image.pixels_collected} == set(night)


def test_none_is_ever_suggested_laid_out_drawn_or_chosen(rater, fitted, night):
    collect(rater)
    seen = set()
    for seed in range(3):
        for fields in ({"count": 200}, {"count": 60, "novel": 30}, {"count": 40, "slate": True}):
            reply = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=fitted.taste, seed=seed, **fields))
            seen |= {suggestion.image.digest for suggestion in reply.suggestions}
    explored = rater.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=fitted.taste, count=100, cells=64))
    seen |= {image.digest for image in explored.images} | {elite.image.digest for elite in explored.archive.elites}
    for policy in ("converge", "conformal"):
        request = pb.SelectImagesRequest(
            taste=fitted.taste, policy=policy, count=100, quota=0, duplicate_cosine=1, false_discovery_rate=0.9
        )
        seen |= {image.digest for image in rater.call("SelectImages", request).selected}
    assert seen and not seen & set(night)
    with pytest.raises(FailedPrecondition, match="30 were collected by the storage policy") as caught:
        rater.call("CertifySet", pb.CertifySetRequest(taste=fitted.taste, digests=list(night)))
    assert caught.value.reason == "PIXELS_COLLECTED"


def test_a_blind_audit_of_one_is_refused_and_says_why(rater, fitted, night):
    collect(rater)
    pair = pb.BlindPair(unit_digest=next(iter(night)), against_digest=fitted.digests[0], choice=pb.BLIND_CHOICE_UNIT)
    audit = pb.BlindAudit(unit="u1", against="base", pairs=[pair])
    request = pb.RecordBlindAuditRequest(taste=fitted.taste, audit=audit, request_id=str(uuid.uuid4()))
    with pytest.raises(NotFound, match="collected by the storage policy") as caught:
        rater.call("RecordBlindAudit", request)
    assert caught.value.reason == "ARTIFACT_COLLECTED"


def test_their_embeddings_go_on_counting(rater, fitted, night):
    request = pb.MeasureImagesRequest(taste=fitted.taste, digests=list(night), reference=fitted.digests[:60])
    before = rater.call("MeasureImages", request)
    collect(rater)
    assert rater.call("MeasureImages", request) == before


def test_what_is_chosen_or_shown_is_safe_for_a_day(rater, fitted, night):
    request = pb.SelectImagesRequest(
        taste=fitted.taste, policy="converge", count=20, quota=0, duplicate_cosine=1, candidates={"units": ["u1"]}
    )
    chosen = {
        image.digest
        for image in rater.call("SelectImages", request).selected
        if image.role == pb.SELECTION_ROLE_SELECTED
    }
    assert chosen and chosen <= set(night)
    assert set(collect(rater, dry_run=True).digests) == set(night) - chosen


def test_put_and_added_again_they_are_as_before(rater, fitted, night):
    collect(rater)
    digest = next(iter(night))
    image = pb.Image(digest=digest, source=pb.SOURCE_SELF)
    assert rater.add(fitted.taste, [image])[0].already_known
    assert rater.call("GetImage", pb.GetImageRequest(taste=fitted.taste, digest=digest)).pixels_collected
    rater.put(night[digest])
    assert rater.add(fitted.taste, [image])[0].already_known
    back = rater.call("GetImage", pb.GetImageRequest(taste=fitted.taste, digest=digest))
    assert (back.pixels_collected, back.prompt) == (False, "portrait 3")


def test_a_new_taste_cannot_take_what_is_gone(rater, fitted, night):
    collect(rater)
    fresh = rater.taste("fresh")
    answers = rater.add(fresh, [pb.Image(digest=digest, source=pb.SOURCE_SELF) for digest in list(night)[:2]])
    assert [answer.error.reason for answer in answers] == ["ARTIFACT_COLLECTED"] * 2


def test_an_embedder_changes_past_them_and_they_come_back_into_the_new_space(rater, fitted, night, models):
    collect(rater)
    change(rater, fitted.taste, write_second_model(models))
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, page_size=1000))
    assert not {image.digest for image in listed.images} & set(night) and listed.total_size == len(fitted.digests)
    digest = next(iter(night))
    image = rater.call("GetImage", pb.GetImageRequest(taste=fitted.taste, digest=digest))
    assert image.pixels_collected and not image.HasField("score")
    rater.put(night[digest])
    assert rater.add(fitted.taste, [pb.Image(digest=digest, source=pb.SOURCE_SELF)])[0].already_known
    back = rater.call("GetImage", pb.GetImageRequest(taste=fitted.taste, digest=digest))
    assert not back.pixels_collected and back.HasField("score") and back.prompt == "portrait 3"
    units = pb.ImageFilter(units=["u1"])
    found = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, filter=units, with_scores=True))
    assert [image.digest for image in found.images] == [digest]


def test_a_taste_leaves_and_arrives_without_them(rater, other, fitted, night):
    collect(rater)
    parts = export(rater, fitted.taste)
    assert not {part.artifact.digest for part in parts} & set(night)
    taste = restore(other, carry(rater, other, parts))
    assert taste.image_count == len(fitted.digests) + len(night)
    digest = next(iter(night))
    image = other.call("GetImage", pb.GetImageRequest(taste=taste.name, digest=digest))
    assert image.pixels_collected and image.HasField("score")
    other.put(night[digest])
    again = restore(other, parts[0].artifact.digest, taste=taste.name, replace=True)
    image = other.call("GetImage", pb.GetImageRequest(taste=again.name, digest=digest))
    assert not image.pixels_collected, "its pixels lay in the other home"


def test_what_was_written_into_a_snapshot_is_safe_while_it_is_read(rater, fitted, night):
    export(rater, fitted.taste)
    assert collect(rater).count == 0


def test_revoked_images_have_no_pixels_when_the_answer_comes(rater, library):
    taste = library.taste
    consent(rater, taste, "mail-1")
    digests, _ = given_images(rater, taste, "mail-1", 3)
    rater.label(taste, dict.fromkeys(digests, 5))
    cached = [rater.home / "cache" / "page" / "thumb" / d[:2] / f"{d}.webp" for d in digests]
    cached += [rater.home / "cache" / "images" / "ab" / f"{d}-{'0' * 64}.safetensors" for d in digests]
    for path in cached:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"derived")
    revoke(rater, taste, consent="mail-1")
    assert not any(map(rater.store.exists, digests)) and not any(path.exists() for path in cached)
    with pytest.raises(NotFound, match="its consent was revoked"):
        rater.store.get(digests[0])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"keep_digests": ["x"]}, "keep_digests"),
        ({"keep_artifacts": ["../x"]}, "keep_artifacts"),
        ({"keep_units": -1}, "keep_units"),
        ({"taste": "nobody"}, "taste"),
        ({"page_token": "x"}, "page_token"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(rater, fields, field):
    with pytest.raises(InvalidArgument) as caught:
        collect(rater, **fields)
    assert caught.value.field.startswith(field)


def test_only_the_owner_collects(rater, fitted, night):
    for scope in ("service", "labeller", "tool"):
        token = issue_token(rater.home, f"a-{scope}", scope, taste="default")
        metadata = (("authorization", f"Bearer {token}"),)
        with grpc.insecure_channel(rater.address) as channel, pytest.raises(PermissionDenied):
            try:
                rater_pb2_grpc.RaterServiceStub(channel).CollectImages(
                    pb.CollectImagesRequest(taste=fitted.taste, rejected_seconds=0.001), metadata=metadata
                )
            except grpc.RpcError as error:
                raise from_rpc_error(error) from None
    assert all(map(rater.store.exists, night))
