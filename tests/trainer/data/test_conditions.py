"""Captions of unequal length in one batch: as long as the longest, masked behind their own end, and no mask else."""

import logging

import pytest
import torch

from konomi_chassis.models import text_chunks
from konomi_chassis.models.families.condition import Condition, choose, join
from konomi_trainer.data import conditions
from konomi_trainer.data.conditions import collect


def states(length: int, value: float) -> torch.Tensor:
    return torch.full((length, 2), value)


TEXTS = collect([{"hidden": states(n, n), "pooled": states(1, n)[0]} for n in (2, 4, 2, 6)])


def test_a_chunk_is_the_generators() -> None:
    assert conditions.CHUNK_TOKENS == text_chunks.LENGTH
    assert len(text_chunks.Chunk().ids(0, 1, 2)) == conditions.CHUNK_STATES


def test_captions_of_one_length_have_no_mask() -> None:
    rows = TEXTS.rows(torch.tensor([2, 0, 2]))
    assert rows.hidden.shape == (3, 2, 2) and rows.mask is None
    assert rows.pooled is not None and rows.pooled.tolist() == [[2, 2]] * 3


def test_captions_of_several_lengths_are_masked_behind_their_end() -> None:
    rows = TEXTS.rows(torch.tensor([1, 0, 1]))
    assert rows.hidden[1].tolist() == [[2, 2], [2, 2], [0, 0], [0, 0]]
    assert rows.mask is not None and rows.mask.tolist() == [[True] * 4, [True, True, False, False], [True] * 4]
    assert TEXTS.rows(torch.tensor([3, 0])).hidden.shape == (2, 6, 2)


def test_parts_are_joined_at_the_longest() -> None:
    short, long = TEXTS.rows(torch.tensor([0, 2])), TEXTS.rows(torch.tensor([3]))
    whole = join([short, long])
    assert whole.hidden.shape == (3, 6, 2) and not whole.hidden[:2, 2:].any() and bool((whole.hidden[2] == 6).all())
    assert whole.mask is not None and whole.mask.sum(1).tolist() == [2, 2, 6]
    assert whole.pooled is not None and whole.pooled[:, 0].tolist() == [2, 2, 6]
    assert join([short, short]).mask is None


def test_a_row_is_one_or_the_other_with_its_own_mask() -> None:
    one, other = TEXTS.rows(torch.tensor([3, 3])), TEXTS.rows(torch.tensor([0]))
    chosen = choose(torch.tensor([True, False]), one, other)
    assert chosen.mask is not None and chosen.mask.sum(1).tolist() == [6, 2]
    assert chosen.hidden[0].eq(6).all() and chosen.hidden[1].tolist() == [[2, 2], [2, 2], *[[0, 0]] * 4]
    assert chosen.pooled is not None and chosen.pooled[:, 0].tolist() == [6, 2]
    assert choose(torch.tensor([True, False]), Condition(one.hidden), Condition(one.hidden)).mask is None


def test_how_many_captions_were_cut_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    texts = collect([{"hidden": states(2, 0), "chunks": torch.tensor(count)} for count in (1, 3, 4, 9)])
    assert texts.cut == 2 and texts.pooled is None
    with caplog.at_level(logging.WARNING):
        assert conditions.figures_of(texts.cut) == {"cut_captions": 2.0}
        assert conditions.figures_of(TEXTS.cut) == {}
    assert [record.getMessage() for record in caplog.records] == [
        "2 captions are longer than the 225 tokens that are read of one"
    ]
