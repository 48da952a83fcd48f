"""Wildcards: drawn by the image's seed, nothing else is special, hostile text is refused or kept as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from konomi.errors import InvalidArgument
from konomi_generator.prompts import check_wildcards, fill

WORDS = {"hair": ["red", "blue", "green"], "extra": ["", "smiling"]}


def test_each_place_draws_by_itself_from_the_seed() -> None:
    template = "portrait, {hair} hair, {hair} shirt, {extra}"
    filled = [fill(template, WORDS, seed) for seed in range(200)]
    assert filled == [fill(template, WORDS, seed) for seed in range(200)]
    pairs = {tuple(word for word in prompt.replace(",", "").split() if word in WORDS["hair"]) for prompt in filled}
    assert len(pairs) == 9
    assert any(prompt.endswith(", ") for prompt in filled) and any(prompt.endswith("smiling") for prompt in filled)


def test_a_place_does_not_depend_on_words_of_other_names() -> None:
    assert fill("{hair}", WORDS, 3) == fill("{hair}", {"hair": WORDS["hair"]}, 3)


@given(st.text(max_size=300).filter(lambda t: len(t.encode("utf-8", "ignore")) < 1000), st.integers())
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
    assert fill("{a}", {"a": ["{a}{a}"]}, 1) == "{a}{a}"


@pytest.mark.parametrize("wildcards", [{"a": []}, {"a/b": ["x"]}, {"": ["x"]}, {"a": ["x\n"]}, {"a": ["x" * 5000]}])
def test_bad_wildcards_are_refused_by_name(wildcards: dict) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_wildcards(wildcards)
    assert caught.value.field.startswith("wildcards[")


def test_a_prompt_that_grows_too_long_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        fill("{a}" * 5, {"a": ["x" * 1000]}, 1)
