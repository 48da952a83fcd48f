"""What is written into Immich, and what never is."""

import pytest

from konomi.cli.images.immich.assets import Asset
from konomi.cli.images.immich.marks import WrittenMarks, planned, write
from konomi.cli.images.immich.server import ImmichServer
from konomi.errors import PermissionDenied
from konomi.host.hub_token import HubToken
from konomi.taste.scoring import Scored
from konomi.v1 import rater_pb2 as rater
from tests.plugins.immich.stand_in import KEY, READ, Immich, identity


@pytest.fixture
def immich():
    with Immich() as running:
        for number in range(6):
            running.add(number, b"%d" % number)
        yield running


@pytest.fixture
def server(immich):
    return ImmichServer(immich.address, HubToken(KEY, "test"), 10.0)


def scored(number, grade, unknown=False):
    """Returns a picture's score: surely of a grade, 1 to 5."""
    chances = [float(place == grade - 1) for place in range(5)]
    return Scored(identity(number), rater.Score(utility=grade, grade_probabilities=chances, unknown=unknown))


def assets_of(immich):
    return {one.id: Asset(one.id, one.name, "", one.rating) for one in immich.pictures.values()}


def run(kind, scores, immich, server, written):
    plan = planned(kind, scores, assets_of(immich), written)
    list(write(server, plan, written))
    return plan


def stars_of(immich):
    return [picture.rating for picture in immich.pictures.values()]


def test_stars_go_where_nobody_gave_any(immich, server, tmp_path):
    immich.pictures[identity(1)].rating = 2
    written = WrittenMarks(tmp_path, immich.address)
    scores = [scored(0, 5), scored(1, 5), scored(2, 4), scored(3, 4, unknown=True), Scored(identity(4)), scored(5, 5)]
    plan = run("rating", scores, immich, server, written)
    assert stars_of(immich) == [5, 2, 4, None, None, 5]
    assert plan.passed_over == {"own rating": 1, "guess": 1, "not scored": 1}
    assert [body for _, _, body in immich.writes()] == [
        {"ids": [identity(2)], "rating": 4},
        {"ids": [identity(0), identity(5)], "rating": 5},
    ]


def test_what_konomi_wrote_it_may_change_and_what_was_taken_off_stays_off(immich, server, tmp_path):
    run("rating", [scored(0, 5), scored(1, 4), scored(2, 3)], immich, server, WrittenMarks(tmp_path, immich.address))
    immich.pictures[identity(1)].rating = None
    immich.pictures[identity(2)].rating = 1
    again = WrittenMarks(tmp_path, immich.address)
    plan = run("rating", [scored(0, 4), scored(1, 4), scored(2, 3)], immich, server, again)
    assert stars_of(immich)[:3] == [4, None, 1]
    assert plan.passed_over == {"taken off": 1, "own rating": 1}
    assert planned("rating", [scored(0, 4)], assets_of(immich), again).passed_over == {"already": 1}
    assert WrittenMarks(tmp_path, immich.address).ratings()[identity(0)] == 4


def test_a_picture_has_one_of_konomis_tags_and_keeps_its_own(immich, server, tmp_path):
    immich.pictures[identity(0)].tags.add("holiday")
    run("tag", [scored(0, 5), scored(1, 1)], immich, server, WrittenMarks(tmp_path, immich.address))
    assert immich.pictures[identity(0)].tags == {"holiday", "konomi/UR"}
    run("tag", [scored(0, 2), scored(1, 1)], immich, server, WrittenMarks(tmp_path, immich.address))
    assert immich.pictures[identity(0)].tags == {"holiday", "konomi/R"}
    assert immich.pictures[identity(1)].tags == {"konomi/N"}
    assert stars_of(immich) == [None] * 6


def test_stars_that_stand_after_a_kill_are_known_to_be_konomis(immich, server, tmp_path):
    """Immich took them, and konomi died before it heard so."""
    written = WrittenMarks(tmp_path, immich.address)
    written.note("rating", "SSR", [identity(0), identity(1)], written=False)
    immich.pictures[identity(0)].rating = 4
    with next(tmp_path.glob("*.jsonl")).open("a") as file:
        file.write('{"kind": "rating", "gra')
    again = WrittenMarks(tmp_path, immich.address)
    assert again.ratings() == {identity(0): 4, identity(1): 4}
    plan = run("rating", [scored(0, 4), scored(1, 4)], immich, server, again)
    assert stars_of(immich)[:2] == [4, 4] and plan.passed_over == {"already": 1}
    assert WrittenMarks(tmp_path, immich.address).grade("rating", identity(1)) == "SSR"


def test_a_key_that_may_only_read_writes_nothing(immich, server, tmp_path):
    immich.permissions = set(READ)
    for kind, permission in (("rating", "asset.update"), ("tag", "tag.create")):
        with pytest.raises(PermissionDenied, match=f"Missing required permission: {permission}"):
            run(kind, [scored(0, 5)], immich, server, WrittenMarks(tmp_path, immich.address))
    assert stars_of(immich) == [None] * 6 and not immich.tags
    assert WrittenMarks(tmp_path, immich.address).grade("rating", identity(0)) == ""
