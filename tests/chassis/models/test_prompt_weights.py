"""Emphasis in prompts: brackets, numbers, escapes, BREAK; pieces and weights worked out by hand."""

import pytest

from konomi_chassis.models.prompt_weights import LIFT, MOST_WEIGHT, WeightedText, is_plain, parse


def pieces(prompt):
    """Returns the pieces of a prompt of one part as (text, weight to six digits)."""
    (part,) = parse(prompt)
    return [(piece.text, round(piece.weight, 6)) for piece in part]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", []),
        ("a cat", [("a cat", 1)]),
        ("a (cat)", [("a ", 1), ("cat", 1.1)]),
        ("((cat))", [("cat", 1.21)]),
        ("[cat]", [("cat", round(1 / 1.1, 6))]),
        ("[[cat]]", [("cat", round(1 / 1.21, 6))]),
        ("(cat:1.5)", [("cat", 1.5)]),
        ("(cat: 1.5 )", [("cat", 1.5)]),
        ("(cat:.5)", [("cat", 0.5)]),
        ("(cat:-1)", [("cat", -1)]),
        ("(a (b:1.5):2)", [("a ", 2), ("b", 3)]),
        ("(a [b])", [("a ", 1.1), ("b", 1)]),
        ("[(a)]", [("a", 1)]),
        ("(a:1)", [("a", 1)]),
    ],
)
def test_a_bracket_weighs_what_it_holds(prompt, expected):
    assert pieces(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        (r"lilith \(series\)", "lilith (series)"),
        (r"\[x\]", "[x]"),
        (r"a\\b", r"a\b"),
        (r"a\b", r"a\b"),
        ("a:b", "a:b"),
        ("ratio 16:9, time 10:30", "ratio 16:9, time 10:30"),
        ("a)b]c", "a)b]c"),
        ("smile :)", "smile :)"),
        ("cat:1.5)", "cat:1.5)"),
        ("{hair} eyes", "{hair} eyes"),
        ("()", None),
        ("(:1.5)", None),
    ],
)
def test_what_is_no_emphasis_is_text(prompt, text):
    assert pieces(prompt) == ([] if text is None else [(text, 1)])
    assert is_plain(prompt)


@pytest.mark.parametrize(
    ("prompt", "weight"), [("(cat", LIFT), ("((cat", LIFT * LIFT), ("[cat", 1 / LIFT), ("([cat", 1.0)]
)
def test_what_never_closes_closes_at_the_end(prompt, weight):
    assert pieces(prompt) == [("cat", round(weight, 6))]


def test_a_number_weighs_only_the_round_bracket_it_stands_in():
    assert pieces("(a) (b:2) c") == [("a", 1.1), (" ", 1), ("b", 2), (" c", 1)]
    assert pieces("[a:1.5)") == [("a:1.5)", round(1 / 1.1, 6))]


def test_neighbours_of_one_weight_are_one_piece():
    assert pieces(r"(a\(b\)c:1.2)d") == [("a(b)c", 1.2), ("d", 1)]


@pytest.mark.parametrize("prompt", ["a BREAK b", "a\nBREAK\nb", "a, BREAK, b", "(a) BREAK[b]"])
def test_break_in_capitals_parts_a_prompt(prompt):
    assert len(parse(prompt)) == 2
    assert not is_plain(prompt)


def test_break_is_no_part_of_a_word_and_keeps_weights_on_both_sides():
    assert len(parse("BREAKFAST, break, a_BREAK_b")) == 1
    assert parse("(a BREAK b:2)") == [[WeightedText("a", 2.0)], [WeightedText("b", 2.0)]]
    assert parse("BREAK") == [[], []]


@pytest.mark.parametrize("prompt", ["(a:1e9)", "(a:9999999999)", "(" * 400 + "a", "(a:" + "9" * 400 + ")"])
def test_weights_stay_within_bounds(prompt):
    assert all(abs(piece.weight) <= MOST_WEIGHT for part in parse(prompt) for piece in part)


@pytest.mark.parametrize("mark", ["(", "[", ")", "]", ":", "\\", "(a:", "BREAK ", ": ", "(a)"])
def test_many_marks_are_read(mark):
    assert parse(mark * 1024)
