"""What a rater version says of its own use: pressure counted once, reset by an audit, and alarms of generations."""

import math
import re
import uuid

import numpy as np
import pytest
from sqlalchemy import text

from konomi import errors
from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.storage.database import open_database, reading
from konomi_rater.measures.novelty import reference_of
from konomi_rater.measures.overoptimisation import over_optimised
from konomi_rater.preference.fitting import quick_fit
from konomi_rater.storage import image_records, labels, tastes
from konomi_rater.storage.embeddings import view_of
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import MIGRATIONS
from konomi_rater.usecases.fitting import versions
from tests.rater.conftest import grades_of, png


def active(rater, taste: str) -> pb.RaterVersion:
    return rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{taste}/raterVersions/active"))


def select(rater, taste: str, count: int, **fields) -> pb.SelectImagesResponse:
    request = pb.SelectImagesRequest(taste=taste, policy="converge", count=count, **fields)
    return rater.call("SelectImages", request)


def test_pressure_adds_up_over_choices_and_an_audit_takes_it_back(rater, fitted):
    assert active(rater, fitted.taste).pressure.selections == 0
    first = select(rater, fitted.taste, 6)
    assert select(rater, fitted.taste, 6) == first
    share = len([m for m in first.selected if m.role == pb.SELECTION_ROLE_SELECTED]) / 120
    spent = active(rater, fitted.taste).pressure
    assert (spent.selections, spent.nats) == (1, pytest.approx(-math.log(share)))
    assert spent.best_of_n_nats == pytest.approx(-math.log(share) - (1 - share)) == pytest.approx(first.best_of_n_nats)
    for count in (5, 4):
        select(rater, fitted.taste, count)
    version = active(rater, fitted.taste)
    assert version.pressure.selections == 3 and version.pressure.nats > 6
    assert any("nats of selection since a person last audited" in alarm for alarm in version.alarms)
    drawn = rater.call("CertifySet", pb.CertifySetRequest(taste=fitted.taste, digests=fitted.digests[:5]))
    labels = [pb.Label(image_digest=digest, grade=4) for digest in drawn.shown]
    rater.call("RecordAudit", pb.RecordAuditRequest(name=drawn.name, labels=labels))
    version = active(rater, fitted.taste)
    assert version.pressure.selections == 0 and not any("nats" in alarm for alarm in version.alarms)


def test_of_choices_for_one_unit_the_last_alone_is_pressure(rater, fitted):
    for count in (6, 5):
        select(rater, fitted.taste, count, purpose="night/unit-1", seed=7)
    spent = active(rater, fitted.taste).pressure
    last = select(rater, fitted.taste, 5, purpose="night/unit-1", seed=7)
    assert (spent.selections, spent.nats) == (1, pytest.approx(last.pressure_nats))
    assert active(rater, fitted.taste).pressure == spent, "asked again, it is the same choice"
    other = select(rater, fitted.taste, 4, purpose="night/unit-2", seed=7)
    spent = active(rater, fitted.taste).pressure
    assert (spent.selections, spent.nats) == (2, pytest.approx(last.pressure_nats + other.pressure_nats))
    unsaid = [select(rater, fitted.taste, count, seed=7) for count in (3, 2)]
    spent = active(rater, fitted.taste).pressure
    assert spent.selections == 4, "nobody said what these are for: each counts"
    assert spent.nats == pytest.approx(sum(one.pressure_nats for one in (last, other, *unsaid)))


def test_what_came_to_nothing_counts_no_more(rater, fitted):
    for unit, count in enumerate((6, 5, 4)):
        last = select(rater, fitted.taste, count, purpose=f"night/unit-{unit}", seed=7)
    select(rater, fitted.taste, 3, seed=7)
    purposes = ["night/unit-0", "night/unit-1", "night/unit-1", "night/unit-9", "night"]
    request = pb.ReleaseSelectionsRequest(taste=fitted.taste, purposes=purposes)
    before = active(rater, fitted.taste).pressure
    assert rater.call("ReleaseSelections", request).released == 2
    spent = active(rater, fitted.taste).pressure
    assert (before.selections, spent.selections) == (4, 2), "the last unit's, and the one nobody said the purpose of"
    assert spent.nats == pytest.approx(last.pressure_nats + math.log(120 / 3))
    assert rater.call("ReleaseSelections", request).released == 0, "once is enough"
    with pytest.raises(errors.NotFound):
        rater.call("ReleaseSelections", pb.ReleaseSelectionsRequest(taste="tastes/none", purposes=["n"]))
    for wrong in ([], ["n" * 201], ["n"] * 1001):
        with pytest.raises(InvalidArgument, match="purposes"):
            rater.call("ReleaseSelections", pb.ReleaseSelectionsRequest(taste=fitted.taste, purposes=wrong))


def test_an_older_home_counts_what_it_counted(tmp_path):
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS[:11])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 0)"))
        for key in ("one", "two"):
            line = "INSERT INTO selections VALUES ('t', :key, 1, 'converge', 0.5, 1.0)"
            connection.execute(text(line), {"key": key})
    engine.dispose()
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with reading(engine) as connection:
        spent = versions.pressure(connection, "t")
    engine.dispose()
    assert (spent.selections, spent.nats) == (2, pytest.approx(2 * math.log(2)))


def test_choices_of_the_owners_own_grades_cost_nothing(rater, library):
    rater.label(library.taste, grades_of(library, library.digests[:40]))
    rater.call("SelectImages", pb.SelectImagesRequest(taste=library.taste, policy="golden", count=3))
    rater.fit(library.taste)
    assert active(rater, library.taste).pressure.selections == 0


def test_scores_and_selections_are_never_labels(rater, fitted):
    before = rater.call("ListLabels", pb.ListLabelsRequest(taste=fitted.taste, page_size=1000))
    select(rater, fitted.taste, 20)
    inputs = [pb.ImageInput(digest=digest) for digest in fitted.digests]
    rater.call("ScoreImages", pb.ScoreImagesRequest(images=inputs))
    assert rater.call("ListLabels", pb.ListLabelsRequest(taste=fitted.taste, page_size=1000)) == before
    assert rater.fit(fitted.taste).label_count == 40
    label = pb.Label(image_digest=fitted.digests[50], grade=5, labeller=f"{fitted.taste}/raterVersions/1")
    with pytest.raises(InvalidArgument) as failure:
        rater.call(
            "RecordLabels", pb.RecordLabelsRequest(taste=fitted.taste, labels=[label], request_id=str(uuid.uuid4()))
        )
    assert failure.value.reason == "SCORE_AS_LABEL" and "scores are never labels" in failure.value.message


class Desk:
    """A workspace as far as watching looks at it: what is typical of the first sixty images."""

    def reference(self, taste, view, base_units):
        return reference_of(np.arange(60), view.embeddings[:60])


def test_generations_are_told_apart_by_their_units(tmp_path):
    """The rater likes the first direction; unit after unit goes there, and on unit-2 the person does not follow."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((120, 8)) + 3.0 * np.eye(8)[1]
    rows[60:90, 0] += 2.0
    rows[90:, 0] += 30.0
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    digests = [f"{i:064x}" for i in range(120)]
    units = ["base"] * 60 + ["unit-1"] * 30 + ["unit-2"] * 30
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with engine.begin() as connection:
        taste = tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest, unit in zip(digests, units, strict=True):
            image_records.add(connection, "t", ImageFacts(digest, 1, unit=unit), (8, 8), 0.0)
        for part, grade, reason in (
            (digests[:20], 3, 5),
            (digests[60:70], 4, 5),
            (digests[90:100], 1, 5),
            (digests[100:], 5, 1),
        ):
            labels.record(connection, "t", [NewLabel(digest, grade, reason=reason) for digest in part], 1.0)
    view = view_of(digests, rows.astype(np.float32), units, np.ones(120, int))
    grades = 1 + np.searchsorted(np.quantile(rows[:60, 0], [0.3, 0.6, 0.82, 0.94]), rows[:60, 0])
    head = quick_fit(view.embeddings[:60], grades, view.embeddings)
    with reading(engine) as connection:
        found = versions.generations(Desk(), connection, taste, view, head)
    engine.dispose()
    assert [(one.unit, one.graded, one.human) for one in found] == [
        ("base", 20, 3),
        ("unit-1", 10, 4),
        ("unit-2", 10, 1),
    ]
    assert found[0].proxy < found[1].proxy < found[2].proxy
    assert found[2].strangers == 1.0 and found[0].strangers < 0.2
    (alarm,) = over_optimised(found)
    assert alarm.name == "strangers" and "100 % of the images of unit-2" in str(alarm)


def score(rater, taste: str, digests: list[str], version: str = "") -> list[pb.Score]:
    request = pb.ScoreImagesRequest(
        taste=taste, images=[pb.ImageInput(digest=digest) for digest in digests], rater_version=version
    )
    return [result.score for result in rater.call("ScoreImages", request).results]


def test_a_version_that_is_named_scores_and_chooses_though_a_newer_is_active(rater, fitted):
    digests = fitted.digests[60:80]
    before, chosen = score(rater, fitted.taste, digests), select(rater, fitted.taste, 10, seed=3)
    rater.label(fitted.taste, {digest: 1 + number % 5 for number, digest in enumerate(fitted.digests[40:80])})
    assert rater.fit(fitted.taste).name.endswith("/2")
    rater.call("ActivateRaterVersion", pb.ActivateRaterVersionRequest(name=f"{fitted.taste}/raterVersions/2"))
    first = f"{fitted.taste}/raterVersions/1"
    assert score(rater, fitted.taste, digests)[0].rater_version.endswith("/2")
    again = score(rater, fitted.taste, digests, first)
    assert [one.utility for one in again] == [one.utility for one in before]
    assert {one.rater_version for one in again} == {first}
    pinned = select(rater, fitted.taste, 10, seed=3, rater_version=first)
    assert pinned.rater_version == first == chosen.rater_version
    assert select(rater, fitted.taste, 10, seed=3).rater_version.endswith("/2")


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("{taste}/raterVersions/9", errors.NotFound, "no version 9; konomi rater show lists them"),
        ("tastes/other/raterVersions/1", errors.InvalidArgument, "expected a rater version of tastes/default"),
        ("{taste}/raterVersions/active", errors.InvalidArgument, "raterVersions/{version}"),
    ],
)
def test_a_version_that_cannot_score_is_refused(rater, fitted, name, error, words):
    with pytest.raises(error, match=re.escape(words)):
        score(rater, fitted.taste, fitted.digests[:1], name.replace("{taste}", fitted.taste))
    with pytest.raises(error, match=re.escape(words)):
        select(rater, fitted.taste, 3, rater_version=name.replace("{taste}", fitted.taste))


def test_likes_of_other_sources_fill_a_small_set_up_and_spend_no_pressure(rater, fitted):
    own = [rater.put(png((250 - number, number, 0), seed=2000 + number)) for number in range(12)]
    rater.add(fitted.taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, prompt="mine") for digest in own])
    rater.label(fitted.taste, dict(zip(own, [5, 5, 5, 4, 4, 4, 4, 4, 3, 2, 1, 1], strict=True)))
    asked = {"candidates": pb.ImageFilter(sources=[pb.SOURCE_SELF]), "duplicate_cosine": 1.0, "seed": 1}
    plain = select(rater, fitted.taste, 3, **asked)
    filled = select(rater, fitted.taste, 3, fill_to=9, **asked)
    taken = [one for one in filled.selected if one.role == pb.SELECTION_ROLE_SELECTED]
    assert [one.digest for one in taken[:3]] == [one.digest for one in plain.selected[:3]]
    assert {one.digest for one in taken[3:6]} == set(own[:3]), "UR come first"
    assert {one.digest for one in taken[6:]} < set(own[3:8]) and len(taken) == 9
    assert {one.prompt for one in taken[3:]} == {"mine"}
    assert filled.considered == plain.considered and filled.kept_share == plain.kept_share
    assert filled.pressure_nats == pytest.approx(plain.pressure_nats * 3 / 9)
    base = sum(one.role == pb.SELECTION_ROLE_BASE for one in filled.selected)
    assert base == 3, "the base model's share is of the whole set"
    other = select(rater, fitted.taste, 4, fill_to=8, **asked)
    assert other.pressure_nats == pytest.approx(math.log(other.considered / 4) / 2)
    spent = plain.pressure_nats + other.pressure_nats  # the same choice is noted once
    assert active(rater, fitted.taste).pressure.nats == pytest.approx(spent)


def test_where_the_candidates_suffice_nothing_is_filled_up(rater, fitted):
    assert select(rater, fitted.taste, 12, fill_to=12, seed=2) == select(rater, fitted.taste, 12, seed=2)
