"""Collections and revocations cut short by a kill at every step are ended later; pixels of revoked images."""

import os
import signal
from pathlib import Path

import pytest

from konomi.errors import NotFound
from konomi_rater.selection.selection import CONSENTED, IMPORTED
from konomi_rater.storage import consents
from tests.forks import Forked
from tests.rater.usecases.shelf import NOW, Shelf, opened


def run_and_die(home: str, what: str, place: str) -> None:
    """Collects, or revokes a consent."""
    os.environ["KONOMI_FAILPOINT"] = place
    shelf = Shelf(Path(home))
    if what == "collect":
        shelf.run()
    else:
        with shelf.writing() as connection:
            consents.revoke_consent(connection, "t", "mail-1", "", 0.0)
        shelf.collecting.finish_revocations()


def dies(home: Path, what: str, place: str) -> None:
    """Does it in a process that is killed at a place."""
    child = Forked(("pytest", "tests.rater.usecases.shelf"), run_and_die, (str(home), what, place))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "collection.after_record",
        "artifact.before_discard@2",
        "artifact.after_discard@2",
        "artifact.before_discard_fsync",
        "collection.before_commit",
        "collection.after_pixels",
    ],
)
def test_a_kill_at_any_step_is_ended_by_the_next_run(tmp_path, place):
    with opened(tmp_path) as shelf:
        shelf.taste()
        digests = sorted(shelf.image() for _ in range(3))
        kept = shelf.image()
        shelf.label(kept, 4)
    dies(tmp_path, "collect", place)
    with opened(tmp_path) as shelf:
        missing = {digest for digest in digests if not shelf.store.exists(digest)}
        assert missing <= shelf.gone(), "no pixels are missing that no row says were collected"
        shelf.run()
        assert shelf.gone() == set(digests) and not any(map(shelf.store.exists, digests))
        assert shelf.store.get(kept) == b"image 4"


def consented(shelf, count=2):
    with shelf.writing() as connection:
        consents.record(connection, "t", consents.ConsentRow("mail-1", "A", "", 0, 0, 0, 0), NOW)
    return [shelf.image(source=CONSENTED, consent="mail-1", days=0) for _ in range(count)]


def derived(shelf, digest):
    path = shelf.home / "cache" / "page" / "small" / digest[:2] / f"{digest}.webp"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"small")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(
    "place",
    [
        "revocation.before_pixels",
        "artifact.after_discard",
        "revocation.after_pixels",
        "revocation.after_caches",
    ],
)
def test_a_revocation_cut_short_by_a_kill_is_ended_at_the_next_start(tmp_path, place):
    with opened(tmp_path) as shelf:
        shelf.taste()
        digests = consented(shelf)
        small = [derived(shelf, digest) for digest in digests]
    dies(tmp_path, "revoke", place)
    with opened(tmp_path) as shelf:
        assert shelf.collecting.finish_revocations() == 2
        assert not any(map(shelf.store.exists, digests)) and not any(path.exists() for path in small)
        assert shelf.collecting.finish_revocations() == 0


def test_the_pixels_of_a_revoked_image_stay_for_another_taste_until_that_lets_go_too(shelf):
    shelf.taste("other")
    (digest,) = consented(shelf, 1)
    shelf.image("other", data=b"image 1", source=IMPORTED, days=0)
    small = derived(shelf, digest)
    for taste, there in (("t", True), ("other", False)):
        with shelf.writing() as connection:
            consents.revoke_images(connection, taste, [digest], "", NOW)
        shelf.collecting.finish_revocations()
        assert (shelf.store.exists(digest), small.exists()) == (there, there)


def test_revocation_takes_an_image_whose_pixels_were_collected_before(shelf):
    digest = shelf.image()
    shelf.run()
    with shelf.writing() as connection:
        consents.revoke_images(connection, "t", [digest], "", NOW)
    shelf.collecting.finish_revocations()
    assert not shelf.gone()
    with pytest.raises(NotFound):
        shelf.store.get(digest)
