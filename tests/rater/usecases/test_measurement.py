"""MeasureImages over a socket: known images and strangers, a reference, known likes, near-copies."""

import pytest

from konomi import errors
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import png


def measure(rater, library, digests, **fields):
    return rater.call("MeasureImages", pb.MeasureImagesRequest(taste=library.taste, digests=digests, **fields))


def test_a_set_is_measured_against_the_base_models_images_without_itself(rater, library):
    found = measure(rater, library, library.digests[:30])
    assert (found.n, found.reference_n) == (30, 60)
    assert found.kid.low <= found.kid.value <= found.kid.high
    assert found.kid.n == 30
    assert 0 < found.coverage <= 1
    assert (found.liked_cells, found.likes_covered) == (0, 1.0)
    assert found.near_copies == 0.0


def test_strangers_of_one_colour_are_farther_than_the_base_models_own_and_lose_likes(rater, library):
    rater.label(library.taste, dict.fromkeys(library.digests[:90:3], 4))
    strangers = [rater.put(png((10, 240, 10), seed=900 + number)) for number in range(40)]
    narrow = measure(rater, library, strangers, reference=library.digests[:45])
    wide = measure(rater, library, library.digests[45:90], reference=library.digests[:45])
    assert narrow.kid.value > wide.kid.high
    assert narrow.cmmd > wide.cmmd
    assert narrow.coverage < wide.coverage
    assert narrow.largest_cell_share > wide.largest_cell_share
    assert narrow.liked_cells == wide.liked_cells > 5
    assert narrow.likes_covered < 0.8 * narrow.reference_likes_covered
    assert wide.likes_covered >= 0.8


def test_near_copies_are_counted_beside_chance(rater, library):
    source = library.digests[0]
    copies = [rater.put(png((0, 0, 0), seed=3)), rater.put(png((0, 0, 0), seed=3, kind="WEBP"), "image/webp")]
    found = measure(
        rater,
        library,
        [*copies, source],
        reference=library.digests[40:60],
        training_sources=[source, "f" * 64],
        near_copy_cosine=0.9999,
    )
    assert found.near_copies == pytest.approx(1 / 3)
    assert found.reference_near_copies == 0.0
    assert measure(rater, library, [*copies, source], near_copy_cosine=1, training_sources=[source]).near_copies == 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"digests": ["0" * 64]}, "2 to 1000 items"), ({"digests": ["0" * 64, "1" * 64]}, "artifact")],
)
def test_a_set_that_cannot_be_measured_says_why(rater, library, fields, words):
    with pytest.raises((errors.InvalidArgument, errors.NotFound), match=words):
        rater.call("MeasureImages", pb.MeasureImagesRequest(taste=library.taste, **fields))


def test_without_images_of_the_base_model_a_reference_is_asked_for(rater):
    taste = rater.taste()
    digests = [rater.put(png((number, 0, 0), seed=number)) for number in range(4)]
    rater.add(taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED) for digest in digests])
    with pytest.raises(errors.FailedPrecondition, match="name a reference"):
        rater.call("MeasureImages", pb.MeasureImagesRequest(taste=taste, digests=digests))


def test_a_units_copy_of_a_training_source_is_rejected_the_source_itself_is_not(rater, fitted):
    twin = rater.put(png((0, 0, 0), seed=1))
    rater.add(fitted.taste, [pb.Image(digest=twin, source=pb.SOURCE_SELF, unit="unit-2", prompt="p", seed=1)])
    later = rater.put(png((0, 0, 0), seed=1, kind="WEBP"), "image/webp")
    rater.add(fitted.taste, [pb.Image(digest=later, source=pb.SOURCE_SELF, unit="unit-2", prompt="p", seed=2)])

    def reasons(**fields):
        request = pb.SelectImagesRequest(
            taste=fitted.taste, policy="converge", count=200, typicality_percentile=100, duplicate_cosine=1, **fields
        )
        return {one.digest: one.reason for one in rater.call("SelectImages", request).rejections}

    assert reasons(training_sources=[twin]).get(later) == pb.REJECTION_REASON_NEAR_COPY
    assert reasons(training_sources=[twin]).get(twin) != pb.REJECTION_REASON_NEAR_COPY
    assert pb.REJECTION_REASON_NEAR_COPY not in reasons(training_sources=[twin], near_copy_cosine=1).values()
    assert pb.REJECTION_REASON_NEAR_COPY not in reasons().values()


def test_a_set_is_held_against_what_was_graded_whoever_made_that(rater, library):
    assert not measure(rater, library, library.digests[60:80]).HasField("graded"), "nothing is graded yet"
    rater.label(library.taste, {digest: 4 if number % 2 else 2 for number, digest in enumerate(library.digests[:50])})
    own = measure(rater, library, library.digests[60:110]).graded
    assert (own.graded_n, own.liked_n) == (50, 25)
    assert own.typical > 0.7 and own.near_liked > 0.7
    likes = measure(rater, library, library.digests[1:50:2]).graded
    assert (likes.liked_distance, likes.near_liked) == (0.0, 1.0)
    assert own.liked_distance > 0.0 and own.usual_distance == likes.usual_distance > 0.0
