"""Long prompts cut into chunks of 75 tokens: where they end, what goes with them, what pads them."""

from konomi_chassis.models.prompt_weights import parse
from konomi_chassis.models.text_chunks import LENGTH, LOOK_BACK, chunks

COMMA = 9


def tokenize(text):
    """Stands in for a tokenizer: a comma is 9, every other word its length and 100."""
    return [COMMA if word == "," else 100 + len(word) for word in text.replace(",", " , ").split()]


def cut(prompt):
    return chunks(parse(prompt), tokenize, COMMA)


def lengths(prompt):
    return [len(chunk.tokens) for chunk in cut(prompt)]


def test_a_short_prompt_is_one_chunk_and_an_empty_one_too():
    assert lengths("a cat, a dog") == [5]
    assert lengths("") == [0]
    assert cut("")[0].ids(1, 2, 0) == [1, 2, *[0] * LENGTH]


def test_a_chunk_has_begin_end_padding_and_weights():
    (chunk,) = cut("a (cat:1.5)")
    assert chunk.ids(1, 2, 0) == [1, 101, 103, 2, *[0] * (LENGTH - 2)]
    assert chunk.multipliers() == [1.0, 1.0, 1.5, *[1.0] * (LENGTH - 1)]
    assert len(chunk.ids(1, 2, 0)) == len(chunk.multipliers()) == LENGTH + 2
    assert not chunk.is_plain and cut("a cat")[0].is_plain


def test_a_full_chunk_ends_where_it_is_full():
    assert lengths("a " * LENGTH) == [LENGTH]
    assert lengths("a " * (LENGTH + 1)) == [LENGTH, 1]
    assert lengths("a " * (3 * LENGTH)) == [LENGTH] * 3


def test_a_chunk_ends_at_the_last_comma_near_its_end():
    assert lengths("a " * 70 + ", " + "b " * 10) == [71, 10]
    assert cut("a " * 70 + ", " + "bb " * 10)[1].tokens == [102] * 10


def test_a_comma_far_from_the_end_tears_nothing():
    before = LENGTH - LOOK_BACK - 1
    assert lengths("a " * before + ", " + "b " * 40) == [LENGTH, before + 41 - LENGTH]
    assert lengths("a " * (before + 1) + ", " + "b " * 40) == [before + 2, 40]


def test_a_comma_that_is_one_too_many_begins_the_next_chunk():
    assert lengths("a " * LENGTH + ", b") == [LENGTH, 2]


def test_weights_move_with_their_tokens():
    first, second = cut("a " * 70 + ", (" + "b " * 10 + ":1.5)")
    assert first.is_plain and second.weights == [1.5] * 10


def test_break_ends_a_chunk_and_one_at_the_end_leaves_nothing():
    assert lengths("a b BREAK c") == [2, 1]
    assert lengths("a b BREAK") == [2]
    assert lengths("BREAK a") == [0, 1]
    assert lengths("a BREAK BREAK b") == [1, 0, 1]
