"""MapImages over a socket: where images lie, which become points, regions and islands, and tastes of almost nothing."""

import grpc
import numpy as np
import pytest

from konomi.errors import InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from konomi.v1 import rater_pb2_grpc
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.storage.database import open_database
from konomi_rater.storage import collected
from konomi_rater.storage.schema import MIGRATIONS
from konomi_rater.usecases import exploration
from konomi_rater.usecases.measuring.image_map import choose
from tests.rater.conftest import grades_of, png, serving


def mapped(rater, taste: str, count: int = 0) -> pb.ImageMap:
    return rater.call("MapImages", pb.MapImagesRequest(taste=taste, count=count))


def test_every_image_has_its_place_its_grade_and_what_is_expected_of_it(rater, fitted):
    found = mapped(rater, fitted.taste)
    assert [point.digest for point in found.points] == sorted(fitted.digests)
    assert (found.total_size, found.left_out, found.without_pixels) == (120, 0, 0)
    assert found.newest_unit == "unit-1"
    assert found.rater_version == f"{fitted.taste}/raterVersions/1"
    graded = {point.digest: point.grade for point in found.points if point.grade}
    assert graded == grades_of(fitted, fitted.digests[:40])
    scored = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, with_scores=True, page_size=1000))
    expected = {image.digest: (image.score.utility, image.score.std, image.unit) for image in scored.images}
    for point in found.points:
        assert (point.utility, point.std) == pytest.approx(expected[point.digest][:2], abs=1e-5)
        assert point.unit == expected[point.digest][2]
    places = np.array([(point.x, point.y) for point in found.points])
    assert places.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert places[:, 0].std() > places[:, 1].std() > 0
    first, second = found.explained_variance
    assert 1 > first > second > 0
    assert mapped(rater, fitted.taste) == found, "the same images, the same map"


def test_regions_count_all_images_and_lie_where_theirs_do(rater, fitted):
    found = mapped(rater, fitted.taste)
    assert sum(region.images for region in found.regions) == 120
    assert sum(region.graded for region in found.regions) == 40
    liked = [point for point in found.points if point.grade >= pb.GRADE_SSR]
    assert sum(region.liked for region in found.regions) == len(liked) > 0
    for region in found.regions:
        inside = np.array([(point.x, point.y) for point in found.points if point.region == region.region])
        assert len(inside) == region.images
        assert (region.x, region.y) == pytest.approx(tuple(inside.mean(axis=0)), abs=1e-5)
        spread = np.sqrt(((inside - inside.mean(axis=0)) ** 2).sum(axis=1).mean())
        assert region.radius == pytest.approx(spread, abs=1e-5)
    assert not any(region.island for region in found.regions)


def test_once_slates_were_shown_their_regions_and_islands_are_those_of_the_map(rater, library, monkeypatch):
    monkeypatch.setattr(exploration, "REGIONS", 6)  # so that a hundred images are several in each
    taste, shown = library.taste, {}
    rater.label(taste, {digest: 1 + 4 * (place % 2) for place, digest in enumerate(library.digests[:8])})
    for _ in range(6):  # no slate holds two images that are almost the same
        slate = rater.call("SuggestImages", pb.SuggestImagesRequest(taste=taste, slate=True, count=30))
        shown |= {one.image.digest: one.region for one in slate.suggestions}
        rater.label(taste, {one.image.digest: 5 for one in slate.suggestions})
    found = mapped(rater, taste)
    assert shown.items() <= {point.digest: point.region for point in found.points}.items()
    tail = rater.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=taste, count=1)).discovery
    islands = {island.region for island in tail.islands}
    assert islands, "what was expected below the median is liked now"
    assert {region.region for region in found.regions if region.island} == islands


def test_of_more_images_than_there_is_room_for_the_rest_is_counted(rater, fitted):
    found = mapped(rater, fitted.taste, 40)
    assert len(found.points) == 40
    assert (found.total_size, found.left_out) == (120, 80)
    assert found.graded_left_out == 20, "half the room is for what was graded"
    assert sum(point.unit == "unit-1" for point in found.points) >= 10, "a quarter for the newest unit"
    everything = {point.digest: (point.x, point.y) for point in mapped(rater, fitted.taste).points}
    assert all(everything[point.digest] == (point.x, point.y) for point in found.points), "and nothing moves"
    assert len(mapped(rater, fitted.taste, 1).points) == 1


def test_the_room_one_kind_leaves_goes_to_the_others():
    order = np.arange(100)[::-1]
    some, none = np.arange(100) < 30, np.zeros(100, bool)
    assert choose(order, none, none, 10).tolist() == order[:10].tolist()
    assert sorted(choose(order, some, none, 20).tolist()) == [*range(20, 30), *range(90, 100)]
    assert len(choose(order, np.ones(100, bool), none, 20)) == 20
    assert len(choose(order, some, ~some, 60)) == 60
    assert choose(order, some, ~some, 200).tolist() == order.tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_a_taste_of_almost_nothing_has_a_map(rater, count):
    taste = rater.taste()
    digests = [rater.put(png((60 * place, 20, 200), seed=place)) for place in range(count)]
    rater.add(taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED) for digest in digests])
    found = mapped(rater, taste)
    assert [point.digest for point in found.points] == sorted(digests)
    assert not any(point.grade or point.HasField("utility") or point.HasField("std") for point in found.points)
    assert (found.newest_unit, found.rater_version) == ("", "")
    assert sum(region.images for region in found.regions) == count
    assert len(found.explained_variance) == (2 if count else 0)
    assert all(np.isfinite([point.x, point.y]).all() for point in found.points)


def test_images_without_pixels_are_no_points(home, kept_library):
    library = kept_library[1]
    gone = library.digests[7]
    engine = open_database(home / "databases" / "rater.sqlite", MIGRATIONS)
    with engine.begin() as connection:
        collected.note_collected(connection, collected.standings(connection, "default", [gone]), {}, "policy", 1.0)
    engine.dispose()
    with serving(home) as rater:
        found = mapped(rater, library.taste)
    assert (found.total_size, found.without_pixels, len(found.points), found.left_out) == (120, 1, 119, 0)
    assert gone not in {point.digest for point in found.points}


def test_what_is_refused_says_why(rater, fitted):
    with pytest.raises(NotFound, match=r"tastes/nobody") as missing:
        mapped(rater, "tastes/nobody")
    assert missing.value.code is grpc.StatusCode.NOT_FOUND
    for count in (-1, 5001):
        with pytest.raises(InvalidArgument, match=r"count.*0.*5000") as wrong:
            mapped(rater, fitted.taste, count)
        assert wrong.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(InvalidArgument, match="taste"):
        mapped(rater, "default")


def test_a_tool_may_not_ask_for_it_and_a_labeller_may(rater, fitted):
    def asked_by(scope: str) -> pb.ImageMap:
        token = issue_token(rater.home, "somebody", scope, "default")
        metadata = [("authorization", f"Bearer {token}")]
        with grpc.insecure_channel(rater.address) as channel:
            stub = rater_pb2_grpc.RaterServiceStub(channel)
            return stub.MapImages(pb.MapImagesRequest(taste=fitted.taste), metadata=metadata, timeout=30)

    assert len(asked_by("labeller").points) == 120
    with pytest.raises(grpc.RpcError) as denied:
        asked_by("tool")
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert denied.value.details() == "A tool token may not call MapImages."
