"""Everybody gets a turn, however much others ask for."""

import pytest

from konomi_rater.embedding.batching import FairQueue


def test_people_take_turns_and_so_do_their_calls():
    turns: FairQueue[str] = FairQueue()
    for call in ("a", "b"):
        for number in range(3):
            turns.put("tool", call, f"{call}{number}")
    turns.put("owner", "c", "c0")
    turns.put("owner", "c", "c1")
    assert len(turns) == 8
    assert [turns.take() for _ in range(8)] == ["a0", "c0", "b0", "c1", "a1", "b1", "a2", "b2"]
    with pytest.raises(LookupError):
        turns.take()


def test_who_comes_late_is_served_next():
    turns: FairQueue[int] = FairQueue()
    for number in range(1000):
        turns.put("flood", number % 7, number)
    turns.take()
    turns.put("late", "call", -1)
    assert -1 in (turns.take(), turns.take())
