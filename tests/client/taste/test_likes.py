"""What a person likes, in words: only words that tell the liked from the rest, and with their doubt."""

import random

import pytest

from konomi.taste.likes import EXAMPLES, GradedImage, compared, features


def graded(*groups: tuple[str, int, int]) -> list[GradedImage]:
    """Returns images of (prompt, grade, how many)."""
    images = [(prompt, grade) for prompt, grade, count in groups for _ in range(count)]
    return [GradedImage(f"{place:064x}", prompt, grade) for place, (prompt, grade) in enumerate(images)]


def test_the_words_that_go_with_being_liked_are_told_with_their_doubt_and_their_pictures():
    images = graded(
        ("portrait, pink hair", 5, 24),
        ("portrait, black hair", 4, 14),
        ("portrait, beard", 4, 2),
        ("portrait, pink hair", 2, 10),
        ("portrait, black hair", 1, 110),
        ("portrait, beard", 1, 80),
    )
    likes = compared(images)
    assert (likes.liked, likes.graded) == (40, 240)
    first = likes.words[0]
    assert first.words == "pink hair", "a word that stands with the same images as its phrase is not told twice"
    assert (first.liked, first.rest) == (0.6, 0.05)
    assert first.ratio == pytest.approx(24.5 / 40.5 / (10.5 / 200.5)) and 1 < first.sure < first.ratio
    assert [word.words for word in likes.shunned] == ["beard"] and 0 < likes.shunned[0].sure < 1
    assert len(likes.images) == EXAMPLES and set(likes.images) <= {image.digest for image in images[:40]}


def test_chance_alone_is_hardly_ever_told():
    draw = random.Random(7)
    told = 0
    for _ in range(100):
        prompts = [", ".join(draw.sample([f"word{n}" for n in range(30)], 5)) for _ in range(80)]
        likes = compared([GradedImage(f"{n}", prompt, draw.choice((1, 2, 4))) for n, prompt in enumerate(prompts)])
        told += bool(likes.words or likes.shunned)
    assert told <= 5, "95 % over all words together"


@pytest.mark.parametrize("images", [[], graded(("a cat", 5, 7), ("a dog", 1, 90)), graded(("a cat", 5, 90))])
def test_few_grades_tell_no_word_and_show_what_was_liked(images):
    likes = compared(images)
    assert likes.words == likes.shunned == ()
    assert len(likes.images) == min(EXAMPLES, likes.liked)


def test_a_prompt_is_read_without_its_syntax():
    prompt = "masterpiece, (Pink hair:1.3), [blurry], <lora:style:0.8> BREAK 青い背景、笑顔, the hat of a wizard"
    assert features(prompt) == {
        *("masterpiece", "pink hair", "pink", "hair", "blurry", "青い背景", "笑顔"),
        *("the hat of a wizard", "hat", "wizard"),
    }
    assert features("") == features("  ,, ") == frozenset()
