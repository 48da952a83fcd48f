"""Over the wire: what a fit reads beside grades: how images were made, comparisons, what others like, favourites."""

import uuid

import numpy as np
import pytest

from konomi.errors import FailedPrecondition
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import grades_of, png


def test_parameters_of_images_reach_trees_and_their_scores(rater):
    """The owner likes a band of the guidance scale; the pixels, all alike, cannot show it."""
    taste, rng, scales = rater.taste(), np.random.default_rng(0), {}
    images = []
    for i in range(160):
        digest = rater.put(png((120, 120, 120), seed=i))
        scales[digest] = float(rng.uniform(1, 9))
        parameters = {"guidance_scale": scales[digest]}
        images.append(
            pb.Image(digest=digest, source=pb.SOURCE_SELF, prompt="a cat", seed=i, unit="base", parameters=parameters)
        )
    rater.add(taste, images)
    band = {digest: 5 if 3 < scale < 5 else 4 if 2 < scale < 6 else 1 for digest, scale in scales.items()}
    digests = list(band)
    rater.label(taste, {digest: band[digest] for digest in digests[:100]})
    version = rater.fit(taste)
    assert version.head == "stack"
    assert version.candidates["stack"] > version.candidates["gp"] + 0.02
    request = pb.ScoreImagesRequest(taste=taste, images=[pb.ImageInput(digest=digest) for digest in digests[100:]])
    found = [answer.score.utility for answer in rater.call("ScoreImages", request).results]
    liked = np.array([band[digest] >= 4 for digest in digests[100:]])
    assert np.mean(np.array(found)[liked]) > np.mean(np.array(found)[~liked]) + 1


def test_favourites_alone_make_a_rater_that_says_so(rater, library):
    best = sorted(library.utility, key=lambda digest: -library.utility[digest])
    rater.label(library.taste, dict.fromkeys(best[:12], 5))
    version = rater.fit(library.taste)
    assert version.head == "favourites"
    assert version.metrics["auc_pu"].value > 0.7
    assert any("Only favourites are graded" in sentence for sentence in version.alarms)
    request = pb.ScoreImagesRequest(
        taste=library.taste, images=[pb.ImageInput(digest=digest) for digest in [*best[12:24], *best[-12:]]]
    )
    found = [answer.score.utility for answer in rater.call("ScoreImages", request).results]
    assert np.mean(found[:12]) > np.mean(found[12:])


def test_favourites_from_a_folder_are_fitted_against_the_rest_of_the_folder(rater):
    taste, rng = rater.taste(), np.random.default_rng(5)
    red = {rater.put(png((int(value), 90, 90), seed=i)): int(value) for i, value in enumerate(rng.integers(0, 255, 80))}
    rater.add(taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, path=f"{digest}.png") for digest in red])
    best = sorted(red, key=lambda digest: -red[digest])
    rater.label(taste, dict.fromkeys(best[:20:2], 5))
    version = rater.fit(taste)
    assert version.head == "favourites" and version.metrics["auc_pu"].value > 0.7
    images = [pb.ImageInput(digest=digest) for digest in [*best[1:20:2], *best[-10:]]]
    answers = rater.call("ScoreImages", pb.ScoreImagesRequest(taste=taste, images=images)).results
    found = [answer.score.utility for answer in answers]
    assert np.mean(found[:10]) > np.mean(found[10:])


def test_favourites_with_nothing_to_tell_them_from_are_refused(rater):
    taste = rater.taste()
    digests = [rater.put(png((200, i, 0), seed=i)) for i in range(10)]
    rater.add(taste, [pb.Image(digest=d, source=pb.SOURCE_SELF, prompt=d, seed=1) for d in digests])
    rater.label(taste, dict.fromkeys(digests, 5))
    with pytest.raises(FailedPrecondition, match="expected at least 20 ungraded images") as caught:
        rater.fit(taste)
    assert caught.value.reason == "TOO_FEW_LABELS"


def test_one_grade_that_is_no_favourite_is_refused(rater, library):
    rater.label(library.taste, dict.fromkeys(library.digests[:10], 2))
    with pytest.raises(FailedPrecondition, match="at least two grades"):
        rater.fit(library.taste)


def test_comparisons_order_images_of_one_grade(rater, library):
    grades = grades_of(library, library.digests[:60])
    rater.label(library.taste, grades)
    top = [digest for digest, grade in grades.items() if grade == 5]
    first, last = top[0], top[-1]
    for loser in top[1:]:
        compared = pb.Comparison(winner_digest=first, loser_digest=loser)
        for _ in range(3):
            request = pb.RecordComparisonRequest(taste=library.taste, comparison=compared, request_id=str(uuid.uuid4()))
            rater.call("RecordComparison", request)
    request = pb.ScoreImagesRequest(
        taste=library.taste, images=[pb.ImageInput(digest=first), pb.ImageInput(digest=last)]
    )
    rater.fit(library.taste)
    winner, loser = (answer.score.utility for answer in rater.call("ScoreImages", request).results)
    assert winner > loser
