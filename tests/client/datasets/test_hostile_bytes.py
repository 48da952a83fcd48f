"""Every parser of foreign bytes on some hundred cut, turned and filled examples, and on what once made one fall."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.chaos.parsers import PARSERS

EXAMPLES = 40
ODD = [b"\0" * 4, b"\xff" * 4, b"-1", b"1e999", b"null", b'"', b"[", b"\\ud800", b"NaN", b"{}"]


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with bytes changed, cut out, doubled or put in; or bytes of nothing at all."""
    data = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        way, size = draw(st.integers(0, 4)), draw(st.integers(1, 40))
        if way == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif way == 1:
            del data[at : at + size]
        elif way == 2:
            data[at:at] = data[at : at + size]
        elif way == 3:
            data[at:at] = draw(st.sampled_from(ODD))
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_answers_damaged_bytes_or_refuses_them(name):
    parser = PARSERS[name]
    seeds = list(parser.seeds())

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(damaged(seeds))
    def hold(data: bytes) -> None:
        parser.answer(data)

    for seed in seeds:
        parser.answer(seed)
        parser.read()(seed)  # whole, it is no refusal
    hold()


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_answers_beginnings_of_its_seeds_and_turned_bytes(name):
    parser, draw = PARSERS[name], random.Random(0)
    seeds = list(parser.seeds())
    for seed in seeds:
        some = min(len(seed), 60 // len(seeds))
        for length in draw.sample(range(len(seed)), some):
            parser.answer(seed[:length])
        for at in draw.sample(range(len(seed)), some):
            parser.answer(seed[:at] + bytes([seed[at] ^ draw.randrange(1, 256)]) + seed[at + 1 :])


FELL: list[tuple[str, bytes]] = []
"""Parser, and bytes that once made it fall."""


@pytest.mark.parametrize(("name", "data"), FELL)
def test_what_once_made_a_parser_fall_does_so_no_more(name, data):
    PARSERS[name].answer(data)
