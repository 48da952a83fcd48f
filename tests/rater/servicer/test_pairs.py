"""Over the wire: a rater from pairs alone, what leaves the fit again, and what suggestions learn from pairs."""

import uuid
from itertools import pairwise

import numpy as np
import pytest
from sqlalchemy import text

from konomi.errors import FailedPrecondition
from konomi.v1 import rater_pb2 as pb
from konomi_rater.preference.metrics import spearman
from tests.postgresql import beside
from tests.rater.conftest import grades_of


def compare(rater, taste: str, winner: str, loser: str, *, tie: bool = False) -> str:
    """Records a comparison and returns its name."""
    comparison = pb.Comparison(winner_digest=winner, loser_digest=loser, tie=tie)
    request = pb.RecordComparisonRequest(taste=taste, comparison=comparison, request_id=str(uuid.uuid4()))
    return rater.call("RecordComparison", request).name


def prefer(rater, library, count: int, among: int = 80) -> list[str]:
    """Says which of random pairs among the first images the owner prefers."""
    rng = np.random.default_rng(3)
    names = []
    for _ in range(count):
        both = [library.digests[int(at)] for at in rng.choice(among, 2, replace=False)]
        names.append(compare(rater, library.taste, *sorted(both, key=lambda digest: -library.utility[digest])))
    return names


def undo(rater, taste: str, name: str) -> None:
    rater.call("UndoComparison", pb.UndoComparisonRequest(taste=taste, name=name, request_id=str(uuid.uuid4())))


def suggested(rater, taste: str, count: int = 10) -> list[str]:
    request = pb.SuggestImagesRequest(taste=taste, count=count, seed=1, no_repeats=True)
    return [one.image.digest for one in rater.call("SuggestImages", request).suggestions]


def test_pairs_alone_make_a_rater_that_says_what_it_rests_on(rater, library):
    prefer(rater, library, 60)
    version = rater.fit(library.taste)
    assert (version.label_count, version.comparison_count) == (0, 60)
    assert version.metrics["pair_accuracy"].low > 0.5
    assert [alarm.name for alarm in version.alarm_details] == ["only_pairs"]
    unseen = library.digests[80:]
    request = pb.ScoreImagesRequest(taste=library.taste, images=[pb.ImageInput(digest=digest) for digest in unseen])
    found = [answer.score.utility for answer in rater.call("ScoreImages", request).results]
    assert spearman(np.array([library.utility[digest] for digest in unseen]), np.array(found)) > 0.5


def test_a_taste_says_how_many_pairs_are_in_force(rater, library):
    names = prefer(rater, library, 12)
    undo(rater, library.taste, names[3])
    compare(rater, library.taste, library.digests[0], library.digests[1], tie=True)
    told = rater.call("GetTaste", pb.GetTasteRequest(name=library.taste))
    assert (told.comparison_count, told.label_count) == (12, 0)


def test_the_same_pairs_have_the_same_digests_and_one_more_has_others(rater, library):
    prefer(rater, library, 30)
    first, again = rater.fit(library.taste), rater.fit(library.taste)
    assert (first.label_digest, first.artifact_digest) == (again.label_digest, again.artifact_digest)
    compare(rater, library.taste, library.digests[0], library.digests[1])
    more = rater.fit(library.taste)
    assert more.label_digest != first.label_digest and more.artifact_digest != first.artifact_digest


def test_too_few_pairs_are_refused_with_how_many_there_are_and_undone_ones_are_none(rater, library):
    names = prefer(rater, library, 10)
    assert rater.fit(library.taste).comparison_count == 10
    undo(rater, library.taste, names[0])
    compare(rater, library.taste, library.digests[0], library.digests[1], tie=True)
    with pytest.raises(
        FailedPrecondition, match=r"or 10 pairs of which one image is preferred, .* and 9 pairs"
    ) as caught:
        rater.fit(library.taste)
    assert caught.value.reason == "TOO_FEW_LABELS"


def test_pairs_undone_leave_the_grades_as_they_were(rater, library):
    rater.label(library.taste, grades_of(library, library.digests[:30]))
    before = rater.fit(library.taste)
    names = prefer(rater, library, 12)
    beside = rater.fit(library.taste)
    assert (beside.label_count, beside.comparison_count) == (30, 12)
    assert beside.artifact_digest != before.artifact_digest
    for name in names:
        undo(rater, library.taste, name)
    after = rater.fit(library.taste)
    assert (after.artifact_digest, after.label_digest) == (before.artifact_digest, before.label_digest)
    assert after.comparison_count == 0


def test_pairs_of_a_revoked_image_leave_the_fit(rater, library):
    digests = library.digests
    for winner, loser in pairwise(digests[:13]):
        compare(rater, library.taste, winner, loser)
    assert rater.fit(library.taste).comparison_count == 12
    request = pb.RevokeImagesRequest(taste=library.taste, digests=[digests[5]], request_id=str(uuid.uuid4()))
    rater.call("RevokeImages", request)
    assert rater.fit(library.taste).comparison_count == 10


def test_pairs_of_a_panel_image_are_never_learnt(rater, library):
    rater.label(library.taste, grades_of(library, library.digests[:30]))
    with beside(rater.home).begin() as connection:
        line = text("INSERT INTO panel VALUES ('default', :digest, 0.0)")
        connection.execute(line, {"digest": library.digests[0]})
    for loser in library.digests[40:52]:
        compare(rater, library.taste, library.digests[0], loser)
    compare(rater, library.taste, library.digests[1], library.digests[2])
    version = rater.fit(library.taste)
    assert (version.label_count, version.comparison_count) == (29, 1)


def test_suggestions_know_what_pairs_taught(rater, library):
    before = suggested(rater, library.taste)
    names = prefer(rater, library, 40)
    learnt = suggested(rater, library.taste)
    assert learnt != before
    for name in names:
        undo(rater, library.taste, name)
    assert suggested(rater, library.taste) == before
