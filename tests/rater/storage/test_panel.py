"""The frozen panel and what it guards: joined by lot, never fitted on, and the judge of every new version."""

from pathlib import Path

import pytest
import sqlalchemy

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.storage.database import reading
from konomi_rater.storage import image_records, labels, panel, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.in_force import GradesInMemory
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.panel import PanelRule
from konomi_rater.storage.schema import SCHEMA
from tests.rater.conftest import grades_of

BOTH_ENGINES = True
DIGESTS = [f"{i:064x}" for i in range(400)]
RANDOM, EXPLOIT = 5, 1


@pytest.fixture
def engine(rows, tmp_path: Path):
    engine = rows.open(tmp_path, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
    yield engine
    engine.dispose()


def record(engine, digests: list[str], reason: int, rule: PanelRule, grade: int = 3) -> int:
    with engine.begin() as connection:
        graded = panel.graded_images(connection, "t")
        entries = labels.record(connection, "t", [NewLabel(d, grade, reason=reason) for d in digests], 1.0)
        return panel.set_aside(connection, "t", entries, rule, 1.0, graded)


def test_about_half_of_the_random_labels_join_once_there_are_enough(engine):
    rule = PanelRule(start=100, size=200, share=0.5)
    assert record(engine, DIGESTS[:99], RANDOM, rule) == 0
    assert record(engine, DIGESTS[99:150], EXPLOIT, rule) == 0
    joined = record(engine, DIGESTS[150:350], RANDOM, rule)
    assert 75 < joined < 125
    with reading(engine) as connection:
        grades = GradesInMemory("t").at(connection)
        training, aside = grades.training, grades.aside
    assert len(aside) == joined and len(training) == 350 - joined
    assert not set(training) & set(aside)
    assert set(aside) <= set(DIGESTS[150:350])


@pytest.mark.parametrize("batch", [1, 7, 100, 160])
def test_of_labels_in_one_call_those_join_that_would_have_joined_one_by_one(engine, batch):
    rule = PanelRule(start=100, size=200, share=0.5)
    joined = sum(record(engine, DIGESTS[at : min(160, at + batch)], RANDOM, rule) for at in range(0, 160, batch))
    with reading(engine) as connection:
        members = panel.members(connection, "t")
    assert members == {digest for digest in DIGESTS[100:160] if panel._lot("t", digest) < rule.share}
    assert joined == len(members) > 20


def test_the_panel_is_full_at_its_size(engine):
    assert record(engine, DIGESTS[:60], RANDOM, PanelRule(0, 7, 1.0)) == 7
    assert record(engine, DIGESTS[60:90], RANDOM, PanelRule(0, 7, 1.0)) == 0


def test_an_image_some_version_may_have_been_fitted_on_never_joins(engine):
    record(engine, DIGESTS[:5], EXPLOIT, PanelRule(0, 200, 1.0))
    assert record(engine, DIGESTS[:10], RANDOM, PanelRule(0, 200, 1.0)) == 5
    with engine.begin() as connection:
        labels.undo(connection, "t", 1, 2.0)
    assert record(engine, DIGESTS[:1], RANDOM, PanelRule(0, 200, 1.0)) == 0


def test_who_joins_depends_on_neither_grade_nor_order(engine, rows, tmp_path):
    rule = PanelRule(0, 200, 0.5)
    record(engine, DIGESTS[:100], RANDOM, rule, grade=1)
    other = rows.open(tmp_path / "other", SCHEMA)
    with other.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
    record(other, DIGESTS[99::-1], RANDOM, rule, grade=5)
    with reading(engine) as one, reading(other) as two:
        assert panel.members(one, "t") == panel.members(two, "t")
    other.dispose()


def test_a_member_never_leaves(engine):
    record(engine, DIGESTS[:3], RANDOM, PanelRule(0, 9, 1.0))
    for statement in ("DELETE FROM panel", "UPDATE panel SET digest = 'x'"):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)


@pytest.fixture
def small_panel(monkeypatch):
    """A rater whose panel takes every random label from the thirtieth on."""
    monkeypatch.setenv("KONOMI_PANEL_START", "30")
    monkeypatch.setenv("KONOMI_PANEL_SHARE", "1")


def test_no_version_is_fitted_on_the_panel(small_panel, rater, fitted):
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:80]), reason=RANDOM)
    version = rater.fit(fitted.taste)
    assert (version.label_count, version.held_out_count) == (40, 40)
    assert active(rater, f"{fitted.taste}/raterVersions/1").held_out_count == 0
    assert version.label_digest == active(rater, f"{fitted.taste}/raterVersions/1").label_digest
    assert version.active and version.diff.verdict == pb.VERSION_VERDICT_NOT_WORSE
    assert (version.diff.against, version.diff.gain.n) == (f"{fitted.taste}/raterVersions/1", 40)
    assert version.diff.gain.value == pytest.approx(0) and version.diff.srcc.value > 0.5
    assert rater.call("GetTaste", pb.GetTasteRequest(name=fitted.taste)).label_count == 80


def test_a_version_that_is_worse_on_the_panel_does_not_score(small_panel, rater, fitted):
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:80]), reason=RANDOM)
    upside_down = {digest: 6 - grade for digest, grade in grades_of(fitted, fitted.digests[:40]).items()}
    rater.label(fitted.taste, upside_down | {d: 6 - g for d, g in grades_of(fitted, fitted.digests[80:]).items()})
    version = rater.fit(fitted.taste)
    assert not version.active and version.diff.verdict == pb.VERSION_VERDICT_WORSE
    assert version.diff.gain.high < 0 and version.diff.labels_changed == 80
    assert any("Not activated: on 40 panel images" in alarm and "version 1" in alarm for alarm in version.alarms)
    assert active(rater, f"{fitted.taste}/raterVersions/active").name == f"{fitted.taste}/raterVersions/1"
    by_hand = rater.call("ActivateRaterVersion", pb.ActivateRaterVersionRequest(name=version.name))
    assert by_hand.active and by_hand.diff == version.diff


def test_without_a_panel_a_new_version_scores_and_says_that_nothing_was_compared(rater, fitted):
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:60]))
    version = rater.fit(fitted.taste)
    assert version.active and version.diff.verdict == pb.VERSION_VERDICT_TOO_FEW
    assert not version.diff.HasField("gain")
    assert version.diff.labels_changed == 20


def active(rater, name: str) -> pb.RaterVersion:
    return rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=name))
