"""Images like those a taste likes best: which are meant, what the generator is asked for, what comes back first."""

import pytest

from konomi.errors import FailedPrecondition
from konomi.taste.likeness import MOST, Wish, draw, liked
from konomi.v1 import rater_pb2 as rater

TASTE = "tastes/default"


def graded(stand_in, count: int, grade=rater.GRADE_UR) -> list[str]:
    digests = [f"{grade}{number:063d}" for number in range(count)]
    for number, digest in enumerate(digests):
        stand_in.rater.images[digest] = rater.Image(digest=digest, grade=grade, prompt=f"a cat {number % 3}")
    return digests


def test_a_taste_means_its_ur_and_a_digest_itself(client, stand_in):
    digests = graded(stand_in, 5)
    graded(stand_in, 3, rater.GRADE_SSR)
    gone = stand_in.rater.images[digests[0]]
    gone.pixels_collected = True
    found = liked(client, ["default", "f" * 64, "tastes/default"], 1)
    assert found.digests == ("f" * 64, *digests[1:])
    assert set(found.prompts) == {"a cat 0", "a cat 1", "a cat 2"}


def test_of_many_a_sample_is_taken_that_the_seed_says(client, stand_in):
    digests = graded(stand_in, 40)
    first, again, other = (liked(client, ["default"], seed).digests for seed in (1, 1, 2))
    assert first == again != other and len(first) == MOST and set(first) < set(digests)
    assert len(liked(client, ["default", "e" * 64], 1).digests) == MOST


def test_a_taste_without_ur_says_what_to_do(client, stand_in):
    graded(stand_in, 3, rater.GRADE_SSR)
    with pytest.raises(
        FailedPrecondition, match="no image graded UR to be like; grade some with konomi label"
    ) as caught:
        liked(client, ["default"], 1)
    assert caught.value.reason == "NOTHING_LIKED"


def test_the_generator_is_asked_once_and_the_best_come_first(client, stand_in):
    wish = Wish("sd15", ("a cat", "a dog"), 5, 7, ("a" * 64, "b" * 64), 0.4, draft=True)
    made: list[int] = []
    sketches = draw(client, TASTE, wish, made.append)
    (request,) = stand_in.generator.requests
    assert [(one.prompt, one.seed) for one in request.images] == [
        ("a cat", 7), ("a dog", 8), ("a cat", 9), ("a dog", 10), ("a cat", 11)
    ]  # fmt: skip
    assert (request.draft, request.unit, request.image_prompt.scale) == (True, "base", 0.4)
    assert list(request.image_prompt.digests) == ["a" * 64, "b" * 64]
    bounds = [sketch.score.lower_bound for sketch in sketches]
    assert bounds == sorted(bounds, reverse=True) and made == [1, 2, 3, 4, 5]
    assert {sketch.digest for sketch in sketches} <= {path.name for path in stand_in.artifacts.folder.iterdir()}
    assert not stand_in.rater.images, "none of them becomes an image of the taste"


def test_without_images_to_be_like_words_alone_are_asked_for_and_a_refusal_comes_through(client, stand_in):
    draw(client, TASTE, Wish("sd15", (), 1, 0))
    assert not stand_in.generator.requests[0].HasField("image_prompt") and not stand_in.generator.requests[0].draft
    with pytest.raises(FailedPrecondition, match="need an IP-Adapter") as caught:
        draw(client, TASTE, Wish("blind", (), 1, 0, ("a" * 64,)))
    assert caught.value.reason == "IMAGE_PROMPT_ADAPTER_MISSING"
