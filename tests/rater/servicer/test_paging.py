"""A list in pages, read from a real rater: every entry once, in order, by its key, and no page that is not needed."""

import base64
import json

import pytest

from konomi.client import connect, paging
from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_rater.usecases import images
from tests.rater.conftest import png


def test_a_list_shows_what_was_there_when_it_began(rater, library):
    def page(token: str) -> pb.ListImagesResponse:
        return rater.call("ListImages", pb.ListImagesRequest(taste=library.taste, page_size=100, page_token=token))

    first = page("")
    late = rater.put(png((1, 2, 3), seed=999))
    rater.add(library.taste, [pb.Image(digest=late, source=pb.SOURCE_SELF, unit="base")])
    second = page(first.next_page_token)
    assert [image.digest for image in [*first.images, *second.images]] == library.digests
    assert not second.next_page_token
    assert page("").total_size == len(library.digests) + 1


def test_every_page_is_read_and_none_too_many(rater, library):
    asked: list[str] = []
    with connect(rater.address, home=rater.home) as client:

        def listing(**fields):
            asked.append(fields["page_token"])
            return client.rater.list_images(**fields)

        found = list(paging.pages(listing, taste=library.taste, page_size=50))
        assert [len(page.images) for page in found] == [50, 50, 20]
        assert [image.digest for page in found for image in page.images] == library.digests
        assert len(asked) == 3
        next(paging.pages(listing, taste=library.taste, page_size=50))
        assert asked[3:] == [""]
        rater.label(library.taste, dict.fromkeys(library.digests[:3], 5))
        graded = [label.image_digest for label in paging.labels(client, library.taste.removeprefix("tastes/"))]
        assert graded == library.digests[:3]


def listing_of(rater, taste: str, **fields) -> list[str]:
    """Returns the digests of all pages of a listing."""
    digests, token = [], ""
    while True:
        request = pb.ListImagesRequest(taste=taste, page_size=17, page_token=token, **fields)
        page = rater.call("ListImages", request)
        digests += [image.digest for image in page.images]
        token = page.next_page_token
        if not token:
            assert len(digests) == page.total_size
            return digests


@pytest.mark.parametrize("few", [0, 4096])
def test_every_order_is_paged_by_its_key_both_ways(rater, fitted, monkeypatch, few):
    monkeypatch.setattr(images, "FEW", few)
    whole = {}
    for field in ("create_time", "utility", "novelty", "digest"):
        whole[field] = listing_of(rater, fitted.taste, order_by=field)
        assert sorted(whole[field]) == sorted(fitted.digests)
        assert listing_of(rater, fitted.taste, order_by=f"{field} desc") == whole[field][::-1]
        part = pb.ImageFilter(units=["unit-1"], grades=[0])
        inside = set(fitted.digests[90:])
        assert listing_of(rater, fitted.taste, order_by=field, filter=part) == [d for d in whole[field] if d in inside]
    assert whole["create_time"] == fitted.digests and whole["digest"] == sorted(fitted.digests)
    scored = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, order_by="utility", with_scores=True))
    utilities = [image.score.utility for image in scored.images]
    assert utilities == sorted(utilities)


def test_a_page_goes_on_after_its_key_when_grades_change_what_came_before(rater, library):
    rater.label(library.taste, dict.fromkeys(library.digests[:60], 3))
    graded = pb.ImageFilter(grades=[3])

    def page(token: str) -> pb.ListImagesResponse:
        request = pb.ListImagesRequest(taste=library.taste, page_size=20, page_token=token, filter=graded)
        return rater.call("ListImages", request)

    first = page("")
    rater.label(library.taste, dict.fromkeys(library.digests[:10], 5))  # ten of the first page leave the listing
    second = page(first.next_page_token)
    assert [image.digest for image in second.images] == library.digests[20:40], "an offset would have skipped ten"


def test_a_token_of_another_listing_or_of_an_older_konomi_is_refused(rater, library):
    request = pb.ListImagesRequest(taste=library.taste, page_size=20)
    token = rater.call("ListImages", request).next_page_token
    key, row, below, mark = json.loads(base64.urlsafe_b64decode(token))
    forged = [[20, below, mark], [key, row, below, "0" * 16], [[key], row, below, mark], ["x", row, below, mark], [key]]
    for given in forged:
        request.page_token = base64.urlsafe_b64encode(json.dumps(given).encode()).decode()
        with pytest.raises(InvalidArgument, match="page token of the last answer to this very listing") as caught:
            rater.call("ListImages", request)
        assert caught.value.reason == "PAGE_TOKEN_INVALID"
