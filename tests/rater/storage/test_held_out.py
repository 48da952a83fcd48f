"""Hidden grades of a night's unit: shown unmarked among the others, half at random, and never fitted on."""

import numpy as np
import pytest

from konomi.v1 import rater_pb2 as pb
from konomi_rater.selection.acquisition import SuggestionReason
from konomi_rater.storage import image_records, labels, panel, tastes
from konomi_rater.storage.embeddings import view_of
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import LabelEntry, NewLabel
from konomi_rater.storage.schema import SCHEMA
from konomi_rater.usecases.fitting.versions import _people
from tests.rater.conftest import grades_of, png

BOTH_ENGINES = True
AUDIT, NOVEL = pb.SUGGESTION_REASON_AUDIT, pb.SUGGESTION_REASON_AUDIT_NOVEL


@pytest.fixture
def after_night(rater, fitted):
    """A fitted taste and the digests of 40 images a new unit made."""
    return make(rater, fitted.taste, "unit-2", 1000)


def make(rater, taste: str, unit: str, first: int) -> set[str]:
    images = [
        pb.Image(digest=rater.put(png((i % 250, 200, 40), i)), source=pb.SOURCE_SELF, unit=unit)
        for i in range(first, first + 40)
    ]
    rater.add(taste, images)
    return {image.digest for image in images}


def suggest(rater, taste: str, **fields) -> list[pb.Suggestion]:
    return list(rater.call("SuggestImages", pb.SuggestImagesRequest(taste=taste, **fields)).suggestions)


def hidden(found: list[pb.Suggestion]) -> dict[str, int]:
    return {one.image.digest: one.reason for one in found if one.reason in (AUDIT, NOVEL)}


def grade_until_done(rater, taste: str, most: int = 20) -> dict[str, int]:
    """Grades what is suggested, batch by batch, until no hidden grade is due; returns these."""
    seen: dict[str, int] = {}
    for seed in range(most):
        found = suggest(rater, taste, count=12, seed=seed, no_repeats=True)
        if not hidden(found):
            return seen
        assert len(hidden(found)) <= 4 and len(found) == 12 == len({one.image.digest for one in found})
        seen |= hidden(found)
        for one in found:
            rater.label(taste, {one.image.digest: 1 + int(one.image.digest[:2], 16) % 5}, reason=one.reason)
    raise AssertionError("they never end")


def test_a_unit_gets_twenty_hidden_grades_half_of_them_novel_and_no_more(rater, fitted, after_night):
    said = grade_until_done(rater, fitted.taste)
    assert set(said) <= after_night
    assert (list(said.values()).count(AUDIT), list(said.values()).count(NOVEL)) == (10, 10)
    newer = make(rater, fitted.taste, "unit-3", 3000)
    assert set(hidden(suggest(rater, fitted.taste, count=40))) <= newer, "the newest unit alone is looked at"


def test_without_a_unit_or_with_a_filter_there_are_none(rater, fitted):
    other = rater.taste("other")
    rater.add(other, [pb.Image(digest=digest, source=pb.SOURCE_SELF, unit="base") for digest in fitted.digests])
    assert not hidden(suggest(rater, other, count=60))
    made = make(rater, fitted.taste, "unit-2", 1000)
    assert hidden(suggest(rater, fitted.taste, count=60))
    assert not hidden(suggest(rater, fitted.taste, count=60, filter=pb.ImageFilter(units=["unit-2"])))
    few = dict.fromkeys(sorted(made)[:30], 3)
    rater.label(fitted.taste, few)
    assert set(hidden(suggest(rater, fitted.taste, count=60))) <= made - set(few), "only what nobody graded"


def test_one_at_a_time_they_come_too(rater, fitted, after_night):
    found = [suggest(rater, fitted.taste, count=1, seed=seed) for seed in range(40)]
    assert 3 <= sum(bool(hidden(one)) for one in found) <= 20


@pytest.fixture
def no_other_panel(monkeypatch):
    """A rater that holds nothing else out."""
    monkeypatch.setenv("KONOMI_PANEL_SIZE", "0")


def test_their_grades_are_held_out_of_every_fit(no_other_panel, rater, fitted, after_night):
    before = rater.fit(fitted.taste)
    said = grade_until_done(rater, fitted.taste)
    graded = rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste)).label_count
    version = rater.fit(fitted.taste)
    assert version.label_count == graded - len(said)
    assert version.diff.gain.n == 20, "they are the panel"
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[:3]), reason=AUDIT)
    assert rater.fit(fitted.taste).label_count == version.label_count, "what was fitted on stays where it is"
    assert before.label_count == 40


def test_people_s_word_of_a_unit_is_its_random_half(rows, tmp_path):
    assert (int(SuggestionReason.AUDIT), int(SuggestionReason.AUDIT_NOVEL)) == (AUDIT, NOVEL)
    engine = rows.open(tmp_path, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        said = {
            "a" * 64: (5, AUDIT),
            "b" * 64: (1, NOVEL),
            "c" * 64: (4, int(SuggestionReason.RANDOM)),
            "d" * 64: (2, 1),
        }
        for digest, (grade, reason) in said.items():
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
            labels.record(connection, "t", [NewLabel(digest, grade, reason=reason)], 1.0)
        assert _people(connection, "t") == {"a" * 64: 5, "c" * 64: 4}
    engine.dispose()


def test_a_unit_that_has_its_grades_costs_nothing_more():
    made = [f"{number:064x}" for number in range(20)]
    view = view_of(made, np.eye(20, dtype=np.float32), ["unit-1"] * 20, np.ones(20, int))

    def farthest(rows, most):
        raise AssertionError("nobody needs to know what is far")

    said = {digest: LabelEntry(1, digest, 3, "owner", AUDIT, 0.0) for digest in made[:2]}
    said |= {digest: LabelEntry(1, digest, 3, "owner", NOVEL, 0.0) for digest in made[2:4]}
    assert panel.due(view, said, np.arange(4, 20), 4, 5, farthest) == []
    assert panel.due(view, {}, np.arange(20), 4, 0, farthest) == []


@pytest.fixture
def no_audits(monkeypatch):
    """Settings of the rater that starts next."""
    monkeypatch.setenv("KONOMI_AUDIT_GRADES", "0")


@pytest.mark.slow
def test_none_are_asked_for_where_the_owner_wants_none(no_audits, rater, fitted):
    make(rater, fitted.taste, "unit-2", 1000)
    assert not hidden(suggest(rater, fitted.taste, count=60))
