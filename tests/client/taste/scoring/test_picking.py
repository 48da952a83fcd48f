"""Picking: best lower bound first, of near-copies the best, each with its reason; a kept journal stays small."""

import random

import pytest

from konomi.i18n.catalogue import speaking
from konomi.taste.scoring import Scored, ScoreJournal
from konomi.taste.scoring.picking import NEAR_COPY, best, differing, pick
from konomi.v1 import rater_pb2 as rater

BITS = 1024


def scored(path: str, bound: float, bits: int = 0, *, unknown: bool = False, finer: float | None = None) -> Scored:
    chances = [0.05, 0.05, 0.1, 0.6, 0.2]
    signature = bits.to_bytes(BITS // 8)
    score = rater.Score(
        lower_bound=bound,
        grade_probabilities=chances,
        signature=signature,
        unknown=unknown,
        near_copy_utility=finer,
    )
    return Scored(path, score=score)


def flipped(bits: int, count: int, seed: int) -> int:
    for place in random.Random(seed).sample(range(BITS), count):
        bits ^= 1 << place
    return bits


def test_the_best_come_first_and_what_has_no_score_never():
    images = [
        scored("b", 2.0),
        Scored("broken", error={"reason": "X", "message": "x"}),
        scored("a", 2.0),
        scored("c", 3.0),
    ]
    assert [image.path for image in best(images, None)] == ["c", "a", "b"]
    assert [(one.rank, one.image.path, one.alike) for one in pick(images, 2)] == [(1, "c", ()), (2, "a", ())]


def test_of_near_copies_the_best_is_picked_and_names_the_others():
    scenes = [random.Random(scene).getrandbits(BITS) for scene in range(3)]
    near = differing(NEAR_COPY, BITS) // 2
    images = [
        scored(f"{scene}-{frame}", 2 + 0.1 * frame - scene, flipped(bits, near, 10 * scene + frame))
        for scene, bits in enumerate(scenes)
        for frame in range(4)
    ]
    chosen = pick(images, 10, one_per_cluster=True)
    assert [one.image.path for one in chosen] == ["0-3", "1-3", "2-3"]
    assert [image.path for image in chosen[0].alike] == ["0-2", "0-1", "0-0"]
    assert pick(images, 2, one_per_cluster=True)[1].image.path == "1-3"
    assert chosen[0].as_dict()["near_copies"] == ["0-2", "0-1", "0-0"]
    assert "signature" not in chosen[0].as_dict()
    assert chosen[0].reason == "most likely SSR (60 %), lower bound 2.30; best of 4 near-copies, 0.10 ahead"
    with speaking("ja"):
        assert "SSR" in chosen[0].reason and "near-copies" not in chosen[0].reason


def test_among_near_copies_the_ridge_decides_beside_the_lower_bound_and_apart_from_them_the_bound_alone():
    here, there = (random.Random(scene).getrandbits(BITS) for scene in (1, 2))
    images = [
        scored("a/1", 3.0, here, finer=2.0),
        scored("a/2", 2.8, here, finer=2.9),
        scored("a/3", 2.9, here, finer=2.4),
        scored("b/1", 2.9, there, finer=5.0),
    ]
    first, second = pick(images, 9, one_per_cluster=True)
    assert [one.image.path for one in (first, second)] == ["b/1", "a/2"], "clusters stand by the bound of their best"
    assert [image.path for image in second.alike] == ["a/3", "a/1"]
    assert second.lead == pytest.approx((2.8 + 2 * 2.9) / 3 - (2.9 + 2 * 2.4) / 3)
    assert first.lead is None and first.as_dict()["lead"] is None and not first.is_level
    older = [scored("a/1", 3.0, here), scored("a/2", 2.8, here, finer=2.9)]
    (chosen,) = pick(older, 9, one_per_cluster=True)
    assert chosen.image.path == "a/1", "where one was scored without it, the bound alone decides"


def test_a_lead_that_says_nothing_is_said_with_the_file_to_look_at():
    bits = random.Random(5).getrandbits(BITS)
    (close,) = pick([scored("x/1.jpg", 3.0, bits), scored("x/2.jpg", 2.95, bits)], 9, one_per_cluster=True)
    assert close.reason.endswith("best of 2 near-copies, 0.05 ahead; too close to call: look at 2.jpg too")
    assert close.as_dict()["too_close"] and close.as_dict()["lead"] == pytest.approx(0.05)
    (clear,) = pick([scored("x/1.jpg", 3.0, bits), scored("x/2.jpg", 2.8, bits)], 9, one_per_cluster=True)
    assert "too close" not in clear.reason and not clear.as_dict()["too_close"]


def test_small_steps_join_no_ends_and_a_cosine_of_one_joins_equals_alone():
    step = differing(NEAR_COPY, BITS) * 2 // 3
    bits = [0]
    for at in range(4):
        bits.append(bits[-1] | ((1 << step) - 1) << step * at)
    chain = [scored(f"{at}/x", 3 - at, bits[at]) for at in range(5)]
    assert [one.image.path for one in pick(chain, 9, one_per_cluster=True)] == ["0/x", "2/x", "4/x"]
    twice = [*chain, scored("5/twin", 0.5, bits[2])]
    assert len(pick(twice, 9, one_per_cluster=True, cosine=1.0)) == 5


def test_frames_side_by_side_are_one_burst_where_files_elsewhere_would_not_be():
    first = random.Random(1).getrandbits(BITS)
    apart = differing(0.87, BITS)
    blurred = flipped(first, differing(0.7, BITS), 2)  # far from its neighbours, as a shaken frame is
    frames = [first, flipped(first, apart, 3), blurred, flipped(first, apart, 4)]
    burst = [scored(f"shoot/{at}.jpg", 3 - at, bits) for at, bits in enumerate(frames)]
    chosen = pick(burst, 9, one_per_cluster=True)
    assert [(one.image.path, len(one.alike)) for one in chosen] == [
        ("shoot/0.jpg", 1),
        ("shoot/2.jpg", 0),
        ("shoot/3.jpg", 0),
    ]
    steady = [burst[0], burst[1], burst[3]]
    assert [len(one.alike) for one in pick(steady, 9, one_per_cluster=True)] == [2]
    elsewhere = [Scored(f"{at}/{at}.jpg", score=one.score) for at, one in enumerate(steady)]
    assert len(pick(elsewhere, 9, one_per_cluster=True)) == 3


def test_an_image_without_a_signature_is_nobodys_copy_and_a_guess_is_said_to_be_one():
    plain = [Scored(name, score=rater.Score(lower_bound=1)) for name in "ab"]
    assert [one.image.path for one in pick(plain, 9, one_per_cluster=True)] == ["a", "b"]
    assert "this is a guess" in pick([scored("a", 1, unknown=True)], 1)[0].reason


@pytest.mark.parametrize("versions", [1, 2, 5])
def test_a_kept_journal_holds_about_what_is_of_use(tmp_path, versions):
    for version in range(versions):
        journal = ScoreJournal(tmp_path / "picks", "default", [tmp_path])
        for number in range(20):
            journal.add(f"{number}.png", f"d{number}", f"v{version}", {"score": {"utility": 3.0}})
        journal.add("broken.png", "d", "", {"error": {"reason": "IMAGE_TYPE", "message": "none"}})
        journal.flush()
        journal.keep(f"v{version}")
    again = ScoreJournal(tmp_path / "picks", "default", [tmp_path])
    assert again.find("3.png", "d3", f"v{versions - 1}") and again.find("broken.png", "d", "any")
    (file,) = (tmp_path / "picks").iterdir()
    assert file.read_text().count("\n") <= 3 * 21
