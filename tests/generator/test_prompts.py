"""Wildcards: drawn by the image's seed, nothing else is special, hostile text is refused or kept as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konomi.errors import InvalidArgument
from konomi_generator.prompts import Wildcard, check_wildcards, fill

WORDS = {"hair": Wildcard(["red", "blue", "green"]), "extra": Wildcard(["", "smiling"])}


def test_each_place_draws_by_itself_from_the_seed() -> None:
    template = "portrait, {hair} hair, {hair} shirt, {extra}"
    filled = [fill(template, WORDS, seed) for seed in range(200)]
    assert filled == [fill(template, WORDS, seed) for seed in range(200)]
    pairs = {
        tuple(word for word in prompt.replace(",", "").split() if word in WORDS["hair"].words) for prompt in filled
    }
    assert len(pairs) == 9
    assert any(prompt.endswith(", ") for prompt in filled) and any(prompt.endswith("smiling") for prompt in filled)


def test_a_place_does_not_depend_on_words_of_other_names() -> None:
    assert fill("{hair}", WORDS, 3) == fill("{hair}", {"hair": WORDS["hair"]}, 3)


@given(st.text(max_size=300).filter(lambda t: len(t.encode("utf-8", "ignore")) < 1000), st.integers())
@pytest.mark.slow
def test_without_wildcards_text_stays_as_it_is_or_is_refused(text: str, seed: int) -> None:
    try:
        assert fill(text, {}, seed) == text
    except InvalidArgument as error:
        assert error.reason == "TEXT"


@pytest.mark.parametrize(
    "text", ["__file__", "{../../etc/passwd}", "{a|b}", "%s {0.__class__}", "$(touch x)", "{unknown}"]
)
def test_no_other_syntax_means_anything(text: str) -> None:
    assert fill(text, WORDS, 1) == text


def test_words_are_not_templates() -> None:
    assert fill("{a}", {"a": Wildcard(["{a}{a}"])}, 1) == "{a}{a}"


def test_weights_say_how_often_a_word_is_drawn() -> None:
    words = {"hair": Wildcard(["red", "blue", "green"], [6, 3, 0]), "plain": Wildcard(["red", "blue"], [1, 1])}
    drawn = [fill("{hair}", words, seed) for seed in range(3000)]
    assert 0.63 < drawn.count("red") / 3000 < 0.70 and drawn.count("green") == 0
    assert drawn == [fill("{hair}", words, seed) for seed in range(3000)]


@pytest.mark.parametrize(
    "wildcards",
    [
        {"a": Wildcard([])},
        {"a/b": Wildcard(["x"])},
        {"": Wildcard(["x"])},
        {"a": Wildcard(["x\n"])},
        {"a": Wildcard(["x" * 5000])},
        {"a": Wildcard(["x", "y"], [1])},
        {"a": Wildcard(["x"], [0])},
        {"a": Wildcard(["x", "y"], [2, -1])},
        {"a": Wildcard(["x", "y"], [float("nan"), 1])},
        {"a": Wildcard(["x", "y"], [float("inf"), 1])},
    ],
)
def test_bad_wildcards_are_refused_by_name(wildcards: dict) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_wildcards(wildcards)
    assert caught.value.field.startswith("wildcards[")


def test_a_prompt_that_grows_too_long_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        fill("{a}" * 5, {"a": Wildcard(["x" * 1000])}, 1)
