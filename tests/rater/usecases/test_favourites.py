"""Favourites over a socket: kept with the taste, listed newest first, gone with their image, learnt from by nobody."""

import uuid

import grpc
import pytest

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.auth.policy import POLICY
from konomi_rater.storage import favourites
from tests.rater.conftest import serving

BOTH_ENGINES = True


def put(
    rater, taste: str, digests: list[str], favourite: bool = True, request_id: str = ""
) -> pb.SetFavouritesResponse:
    request = pb.SetFavouritesRequest(taste=taste, digests=digests, favourite=favourite, request_id=request_id)
    return rater.call("SetFavourites", request)


def listed(rater, taste: str, **fields) -> list[str]:
    reply = rater.call("ListFavourites", pb.ListFavouritesRequest(taste=taste, page_size=1000, **fields))
    return [one.image_digest for one in reply.favourites]


def test_they_are_kept_newest_first_taken_off_and_there_after_a_restart(home, kept_library):
    library = kept_library[1]
    first, second, third = library.digests[:3]
    with serving(home) as rater:
        assert put(rater, library.taste, [first, second]).total_size == 2
        assert put(rater, library.taste, [first, third]).total_size == 3, "what is kept already stays where it is"
        assert listed(rater, library.taste) == [third, second, first]
        assert put(rater, library.taste, [second], favourite=False).total_size == 2
        assert put(rater, library.taste, [second], favourite=False).total_size == 2, "twice is no mistake"
    with serving(home) as rater:
        assert listed(rater, library.taste) == [third, first]
        reply = rater.call("ListFavourites", pb.ListFavouritesRequest(taste=library.taste))
        assert reply.total_size == 2 and all(one.create_time.seconds > 1_600_000_000 for one in reply.favourites)


def test_pages_join_whatever_comes_meanwhile(rater, library):
    put(rater, library.taste, library.digests[:25])
    ask = pb.ListFavouritesRequest(taste=library.taste, page_size=10)
    pages, token = [], ""
    while True:
        reply = rater.call("ListFavourites", pb.ListFavouritesRequest(taste=ask.taste, page_size=10, page_token=token))
        pages.append([one.image_digest for one in reply.favourites])
        token = reply.next_page_token
        put(rater, library.taste, [library.digests[25 + len(pages)]])
        if not token:
            break
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [digest for page in pages for digest in page] == library.digests[:25][::-1]


def test_what_is_no_image_of_the_taste_is_named_and_not_kept(rater, library):
    stranger = "0" * 64
    reply = put(rater, library.taste, [stranger, library.digests[0], stranger])
    assert list(reply.unknown_digests) == [stranger] and reply.total_size == 1
    assert listed(rater, library.taste) == [library.digests[0]]


def test_the_same_request_twice_is_one(rater, library):
    request = str(uuid.uuid4())
    first = put(rater, library.taste, library.digests[:2], request_id=request)
    put(rater, library.taste, library.digests[:2], favourite=False)
    assert put(rater, library.taste, library.digests[:2], request_id=request) == first
    assert listed(rater, library.taste) == [], "and does nothing again"
    with pytest.raises(AlreadyExists):
        put(rater, library.taste, library.digests[:1], request_id=request)


def test_a_revoked_image_is_none_any_more(rater, library):
    put(rater, library.taste, library.digests[:3])
    gone = library.digests[1]
    rater.call("RevokeImages", pb.RevokeImagesRequest(taste=library.taste, digests=[gone], why="asked"))
    assert listed(rater, library.taste) == [library.digests[2], library.digests[0]]


def test_nothing_learns_from_them(rater, fitted):
    before = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste))
    scored = pb.ListImagesRequest(taste=fitted.taste, with_scores=True, page_size=1000)
    scores = rater.call("ListImages", scored)
    version = rater.fit(fitted.taste, seed=5)
    put(rater, fitted.taste, fitted.digests[40:90])
    after = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste))
    assert (after.label_count, after.comparison_count) == (before.label_count, before.comparison_count)
    again = rater.fit(fitted.taste, seed=5)
    assert again.artifact_digest == version.artifact_digest and again.metrics == version.metrics
    assert [image.grade for image in rater.call("ListImages", scored).images] == [i.grade for i in scores.images]


def test_what_is_refused_says_why(rater, library, monkeypatch):
    with pytest.raises(NotFound, match="nobody") as missing:
        put(rater, "tastes/nobody", library.digests[:1])
    assert missing.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(NotFound):
        listed(rater, "tastes/nobody")
    for digests in ([], ["../../etc/passwd"], ["0" * 64] * 1001):
        with pytest.raises(InvalidArgument, match="digests") as wrong:
            put(rater, library.taste, digests)
        assert wrong.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(InvalidArgument, match=r"favourites/\{number\}\", found 'x'") as token:
        listed(rater, library.taste, page_token="x")
    assert (token.value.code, token.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NAME_INVALID")
    monkeypatch.setattr(favourites, "MOST_FAVOURITES", 5)
    put(rater, library.taste, library.digests[:5])
    with pytest.raises(FailedPrecondition, match=r"at most 5 favourites.*would make 6; take some off first") as full:
        put(rater, library.taste, library.digests[5:6])
    assert (full.value.code, full.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "FAVOURITES_FULL")
    assert len(listed(rater, library.taste)) == 5, "and none was kept"


def test_only_the_owner_sets_them():
    assert POLICY["/konomi.v1.RaterService/SetFavourites"] == {"owner"}
