"""A list in pages, read from a real rater: every entry once, in order, and no page asked for that is not needed."""

from konomi.client import connect, paging
from konomi.v1 import rater_pb2 as pb
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
