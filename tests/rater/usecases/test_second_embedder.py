"""A taste keeps a second embedder: nothing changes over, and held-out grades say which of the two serves it better."""

import time
import uuid
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sqlalchemy import text

from konomi.errors import FailedPrecondition
from konomi.v1 import rater_pb2 as pb
from konomi_rater.embedding.requests import Caller
from konomi_rater.preference import fitting
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.promotion import EmbedderComparison
from konomi_rater.preference.training import Training
from konomi_rater.storage import tastes
from konomi_rater.storage.tastes import SecondEmbedder
from konomi_rater.usecases.embedders import unembedded
from konomi_rater.usecases.embedders.second import compare_embedders
from tests.postgresql import beside
from tests.rater.conftest import grades_of, png, serving
from tests.rater.models_on_disk import SECOND, write_second_model


@pytest.fixture
def second(models):
    """Another embedder among the home's models."""
    return write_second_model(models)


def keep(rater, taste, embedder=SECOND):
    request = pb.ChangeEmbedderRequest(taste=taste, embedder=embedder, second=True, request_id=str(uuid.uuid4()))
    return rater.stream("ChangeEmbedder", request)


def active(rater, taste):
    return rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{taste}/raterVersions/active"))


def rows(home, query, embedder):
    with beside(home).connect() as connection:
        return connection.execute(text(query), {"embedder": embedder}).all()


def seen(home, embedder):
    return {digest for (digest,) in rows(home, "SELECT digest FROM embeddings WHERE embedder = :embedder", embedder)}


def test_images_are_embedded_with_both_and_nothing_changes_over_until_the_own_one_ends_it(rater, fitted, second):
    before = active(rater, fitted.taste)
    assert not before.HasField("embedder_comparison")
    *steps, last = keep(rater, fitted.taste)
    assert {step.progress.phase for step in steps} <= {"embedding", "quality"}
    assert (last.taste.embedder, last.taste.second_embedder, last.taste.next_embedder) == ("starter", second, "")
    assert last.taste.active_rater_version == before.name == last.rater_version.name
    assert seen(rater.home, second) == set(fitted.digests)
    found = active(rater, fitted.taste).embedder_comparison
    assert found == last.rater_version.embedder_comparison
    assert (found.embedder, found.second, found.label_count, found.pending) == ("starter", second, 40, False)
    assert found.gain.value == pytest.approx(found.second_srcc.value - found.srcc.value)
    assert found.gain.low < found.gain.value < found.gain.high and found.srcc.n == found.gain.n == 40
    advice = rater.call("AdviseEmbedder", pb.AdviseEmbedderRequest(taste=fitted.taste))
    assert (advice.embedder, advice.second_embedder) == ("starter", second)
    ended = keep(rater, fitted.taste, "starter")[-1]
    assert ended.taste.second_embedder == "" and not seen(rater.home, second)
    assert ended.rater_version.embedder_comparison == found  # what was found stays with the version


def test_what_came_since_is_looked_at_after_the_next_fit_which_is_compared_anew(rater, fitted, second):
    keep(rater, fitted.taste)
    new = [rater.put(png((9, 200, i), seed=900 + i)) for i in range(3)]
    rater.add(fitted.taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED) for digest in new])
    assert not seen(rater.home, second) & set(new)
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:60]))
    assert rater.fit(fitted.taste).embedder_comparison.pending
    last = keep(rater, fitted.taste)[-1]  # waits for what the fit began
    assert set(new) < seen(rater.home, second)
    assert last.rater_version.name.endswith("/2") and last.rater_version.embedder_comparison.label_count == 60


def test_a_change_over_to_it_needs_no_new_vectors_and_ends_it_and_what_a_version_reads_stays(rater, fitted, second):
    keep(rater, fitted.taste)
    answers = rater.stream("ChangeEmbedder", pb.ChangeEmbedderRequest(taste=fitted.taste, embedder=second))
    done = {a.progress.done for a in answers if a.progress.phase == "embedding"}
    assert done <= {len(fitted.digests)}, "what is over before anybody looks is not told"
    assert (answers[-1].taste.embedder, answers[-1].taste.second_embedder) == (second, "")
    assert not answers[-1].rater_version.HasField("embedder_comparison")
    keep(rater, fitted.taste, "starter")
    keep(rater, fitted.taste, second)
    assert seen(rater.home, "starter") == seen(rater.home, second) == set(fitted.digests)


def test_before_a_rater_is_fitted_the_images_alone_are_looked_at(rater, library, second):
    last = keep(rater, library.taste)[-1]
    assert last.taste.second_embedder == second and not last.HasField("rater_version")
    assert seen(rater.home, second) == set(library.digests)


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_compared_all_the_same(rater, fitted, second):
    lost = fitted.digests[7]
    path = rater.home / "artifacts" / lost[:2] / lost
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(FailedPrecondition) as caught:
        keep(rater, fitted.taste)
    assert caught.value.reason == "IMAGES_UNREADABLE" and lost in caught.value.message
    assert active(rater, fitted.taste).embedder_comparison.label_count == 39
    path.write_bytes(content)
    assert keep(rater, fitted.taste)[-1].rater_version.embedder_comparison.label_count == 40


def test_a_killed_rater_goes_on_where_it_was(home, models, monkeypatch):
    embedder = write_second_model(models)
    with serving(home) as running:
        library = grown(running)
    with beside(home).begin() as connection:
        line = text("INSERT INTO second_embedders VALUES ('default', :embedder, 0, 0)")
        connection.execute(line, {"embedder": embedder})
    monkeypatch.setattr(unembedded, "BATCH", 50)
    monkeypatch.setattr(unembedded, "failpoint", die)
    with serving(home):
        wait_for(lambda: len(seen(home, embedder)) == 50)
    monkeypatch.undo()
    with serving(home) as again:
        wait_for(lambda: not active(again, library.taste).embedder_comparison.pending)
        assert active(again, library.taste).embedder_comparison.label_count == 40
    assert seen(home, embedder) == set(library.digests)


def die(name):
    """Ends the thread as a kill would: nothing after it runs, and nobody is told."""
    raise SystemExit


def wait_for(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def world(seed=0, count=120):
    """Returns grades and two spaces: one that shows what is liked, and one of noise."""
    rng = np.random.default_rng(seed)
    clear, blind = rng.standard_normal((2, count, 16)).astype(np.float32)
    clear[:, 0] *= 3
    clear, blind = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (clear, blind))
    grades = 1 + np.searchsorted([-0.5, 0.0, 0.3, 0.5], clear[:, 0])
    groups = [str(row // 2) for row in range(count)]
    drawn = np.ones(count, bool)
    return [Training(rows, grades, groups, drawn, rows) for rows in (clear, blind)]


BOTH = EmbedderComparison("own", "other", "digest", 120)


def test_the_space_that_shows_what_is_liked_serves_better_and_each_is_as_good_whichever_comes_first():
    clear, blind = world()
    found = compare_embedders(BOTH, blind, clear, 3, Caller("test"))
    assert found.gain.low > 0.2 and found.second_srcc.value > 0.8
    held_out = fitting.held_out_order(clear, 3)
    assert found.second_srcc.value == spearman(clear.grades, held_out)
    turned = compare_embedders(BOTH, clear, blind, 3, Caller("test"))
    assert (turned.srcc, turned.second_srcc) == (found.second_srcc, found.srcc)
    assert turned.gain.value == -found.gain.value and turned.gain.high < 0


def test_one_space_beside_itself_is_no_different_at_all():
    clear, _ = world()
    found = compare_embedders(BOTH, clear, clear, 3, Caller("test"))
    assert (found.gain.value, found.gain.low, found.gain.high) == (0, 0, 0)


def test_near_duplicates_are_drawn_together_so_that_they_are_no_evidence_of_their_own():
    clear, blind = world()
    copies = [
        replace(one, embeddings=np.repeat(one.embeddings, 4, 0), grades=np.repeat(one.grades, 4),
                groups=[str(row) for row in np.repeat(np.arange(120), 4)], drawn=np.ones(480, bool))
        for one in (blind, clear)
    ]  # fmt: skip
    alone = [replace(one, groups=[str(row) for row in range(120)]) for one in (blind, clear)]
    doubt = [compare_embedders(BOTH, *pair, 3, Caller("test")).gain for pair in (alone, copies)]
    widths = [gain.high - gain.low for gain in doubt]
    assert widths[1] > 0.7 * widths[0]


@pytest.mark.parametrize("few", [np.arange(19), np.flatnonzero(world()[0].grades == 3)])
def test_too_few_grades_or_all_alike_say_nothing(few):
    found = compare_embedders(BOTH, *(one.take(few) for one in world()), 3, Caller("test"))
    assert found.n == len(few) and (found.srcc, found.second_srcc, found.gain) == (None, None, None)


def test_what_a_second_embedder_has_not_seen_keeps_its_pixels(shelf):
    digest = shelf.image()
    with shelf.writing() as connection:
        tastes.set_second(connection, SecondEmbedder("t", "timm:tf_efficientnet_lite0", 0), 0)
    assert shelf.reason(digest) == "embedder_changing"
    with shelf.writing() as connection:
        tastes.end_second(connection, "t")
    assert digest in shelf.run().digests


def grown(rater):
    """A taste of 120 images, 40 grades and a version."""
    taste, rng = rater.taste(), np.random.default_rng(7)
    colours = [tuple(int(c) for c in rng.integers(0, 255, 3)) for _ in range(120)]
    digests = [rater.put(png(colour, seed=place)) for place, colour in enumerate(colours)]
    rater.add(taste, [pb.Image(digest=d, source=pb.SOURCE_SELF, seed=i, unit="base") for i, d in enumerate(digests)])
    library = SimpleNamespace(
        taste=taste, digests=digests, utility={d: c[0] - c[1] / 2 for d, c in zip(digests, colours, strict=True)}
    )
    rater.label(taste, grades_of(library, digests[:40]))
    rater.fit(taste)
    return library
