"""`konomi immich` as its user types it: a live rater on one side, Immich's HTTP shapes on the other."""

import json

import pytest

from konomi.cli import commands
from konomi.client import connect_home
from tests.client.web.site import TASTE, picture
from tests.plugins.immich.stand_in import KEY, READ, Immich, identity

pytestmark = pytest.mark.slow


@pytest.fixture
def immich(site, monkeypatch):
    """Pictures of the kind the rater was taught on, on a server whose key is in the environment."""
    with Immich() as running:
        for number in range(8):
            running.add(number, picture(6000 + number), favourite=number < 2)
        running.add(50, b"film", kind="VIDEO")
        monkeypatch.setenv("KONOMI_HOME", str(site.home.root))
        monkeypatch.setenv("KONOMI_IMMICH_URL", running.address)
        monkeypatch.setenv("IMMICH_API_KEY", KEY)
        yield running


@pytest.fixture
def konomi(capsys):
    def run(*line, code=0):
        assert commands.run(["immich", *line]) == code
        return capsys.readouterr()

    return run


def test_check_says_who_answers(immich, konomi):
    said = konomi("check").out
    assert f"Immich 3.1.0 answers at {immich.address}" in said and "its pictures can be read" in said
    immich.permissions = READ - {"asset.view"}
    assert "Missing required permission: asset.view" in konomi("check", code=4).err


def test_nothing_is_written_unless_asked_and_shown_first(immich, konomi):
    immich.permissions = set(READ)
    said = json.loads(konomi("score", "--json").out.splitlines()[-1])
    assert len(said["scores"]) == 8 and said["passed_over"] == {"video": 1}
    assert {"id", "path", "grade", "utility"} <= set(said["scores"][0])
    shown = konomi("score", "--write", "tag", "--dry-run")
    assert "would get a mark" in shown.out and "passed over, videos: 1" in shown.out
    assert immich.writes() == []
    assert "needs --write" in konomi("score", "--dry-run", code=2).err


def test_what_was_scored_is_not_fetched_again(immich, konomi):
    konomi("score", "--limit", "5")
    once = immich.fetched()
    konomi("score", "--limit", "5", "--write", "tag", "--dry-run")
    assert (once, immich.fetched()) == (5, 5)
    changed = next(iter(immich.pictures.values()))
    changed.data = picture(7001)
    konomi("score", "--limit", "5")
    assert immich.fetched() == 6


def test_marks_are_written_and_never_taken_for_the_owners(immich, konomi, site):
    immich.pictures[identity(0)].rating = 1
    said = json.loads(konomi("score", "--write", "rating", "--json").out.splitlines()[-1])
    marked = {one.id for one in immich.pictures.values() if one.rating is not None} - {identity(0)}
    assert sum(said["written"].values()) == len(marked)
    assert immich.pictures[identity(0)].rating == 1 and said["passed_over"]["own rating"] == 1
    done = json.loads(konomi("import", "--json").out.splitlines()[-1])
    assert (done["added"], done["rated"]) == (8, 1), "the owner's star counts, konomi's do not"
    with connect_home(site.home.root) as client:
        images = client.rater.list_images(taste=TASTE, page_size=1000).images
    assert {image.path for image in images} >= {f"IMG_{number:04}.jpg" for number in range(8)}


def test_a_picture_that_cannot_be_had_is_its_own_error(immich, konomi):
    immich.fail[f"/api/assets/{identity(3)}/thumbnail"] = 404
    immich.pictures[identity(4)].data = b"no picture"
    said = konomi("score", "--original", "--limit", "5", "--json", code=1)
    errors = [one for one in json.loads(said.out.splitlines()[-1])["scores"] if "error" in one]
    assert [one["path"] for one in errors] == ["IMG_0004.jpg"]
    said = konomi("score", "--json", code=1)
    errors = {
        one["path"]: one["error"]["reason"] for one in json.loads(said.out.splitlines()[-1])["scores"] if "error" in one
    }
    assert set(errors) == {"IMG_0003.jpg", "IMG_0004.jpg"} and errors["IMG_0003.jpg"] == "IMMICH_GONE"


def test_a_busy_or_broken_server_ends_it_and_the_same_command_goes_on(immich, konomi):
    immich.fail[f"/api/assets/{identity(6)}/thumbnail"] = 500
    assert "(500: made to fail); look at its log" in konomi("score", code=3).err
    immich.fail.clear()
    konomi("score")
    fetched = [path.split("/")[3] for _, path, _ in immich.asked if "/thumbnail" in path]
    assert fetched == [identity(number) for number in (0, 1, 2, 3, 4, 5, 6, 6, 7)], "only what was missing came again"
