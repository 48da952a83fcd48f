"""Words put into prompts and taken out again."""

import pytest

from konomi.night.draws import ConceptToken, class_of, composed, named, plain

CAT, HAT = ConceptToken("<tama>", "cat"), ConceptToken("<red>", "hat")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("photo of a cat, sunny", "photo of a <tama> cat, sunny"),
        ("photo of a <tama> cat", "photo of a <tama> cat"),
        ("Cat on a roof", "<tama> Cat on a roof"),
        ("a catalogue", "<tama> cat, a catalogue"),
        ("", "<tama> cat"),
    ],
)
def test_a_token_goes_before_its_class_word(prompt, expected):
    assert named(prompt, CAT) == expected
    assert plain(named(prompt, CAT)).replace("cat, a cat", "a cat") == prompt.replace("<tama> ", "") or not prompt


def test_only_what_a_model_does_not_know_is_taken_out():
    prompt = "a <tama> cat in a <red> hat"
    assert plain(prompt) == "a cat in a hat"
    assert plain(prompt, ["<red>"]) == "a cat in a <red> hat"
    assert plain("5 < 6 > 4") == "5 < 6 > 4"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [("ink portrait, red hair", "portrait"), ("photo of a <tama> cat", "cat"), ("", "image"), ("写真 猫", "猫")],
)
def test_what_a_caption_is_of_is_guessed(caption, expected):
    assert class_of(caption) == expected


def test_prompts_call_each_word_alone_and_all_together():
    assert composed(["a cat", "ink"], [CAT]) == ["a <tama> cat", "ink, <tama> cat"]
    assert composed(["a cat"], [CAT, HAT]) == ["a <tama> cat", "a cat, <red> hat", "a <tama> cat, <red> hat"]
    assert composed([""], [CAT]) == ["<tama> cat"]
