"""Columns of a library in memory: what was handed out stays as it was, and every digest is found, sorted in or not."""

import hashlib

import numpy as np
import pytest

from konomi_rater.storage.columns import LEAST_RECENT, Column, DigestIndex, Digests, Names, Shared


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_column_grows_and_leaves_what_was_handed_out_alone():
    column = Column(np.float32, 2)
    column.extend(np.ones((3, 2)))
    before = column.head(3)
    for _ in range(2000):
        column.extend(np.zeros((1, 2)))
    assert len(column) == 2003 and before.sum() == 6
    other = column.kept(np.array([0, 2002]))
    other.extend(np.full((1, 2), 9))
    assert other.head(3).tolist() == [[1, 1], [0, 0], [9, 9]]
    assert len(column) == 2003 and column.head(2003).sum() == 6


def test_every_digest_is_found_however_many_came_how():
    rng, index, known = np.random.default_rng(0), DigestIndex(), []
    for size in (1, 10, LEAST_RECENT, 3 * LEAST_RECENT, 7, 0, LEAST_RECENT // 2):
        fresh = [digest(len(known) + i) for i in range(size)]
        index.extend(fresh)
        known += fresh
        some = rng.integers(0, len(known), 50)
        for _ in range(2):  # the second time from memory
            assert index.places([known[at] for at in some]).tolist() == some.tolist()
        assert index.places([digest(-1), known[0], "", "0" * 63, known[0].upper(), "é" * 64]).tolist() == [
            -1,
            0,
            -1,
            -1,
            0 if known[0] == known[0].upper() else -1,
            -1,
        ]
    view = Digests(index, 100)
    assert view[7] == known[7] and view[-1] == known[99] and view[:3] == known[:3] and list(view) == known[:100]
    assert view.at(known[99]) == 99 and view.at(known[100]) is None
    assert view.order().tolist() == sorted(range(100), key=known.__getitem__)
    kept = index.kept(np.array([5, 9]))
    assert kept.places([known[9], known[5], known[0]]).tolist() == [1, 0, -1]
    assert view[7] == known[7], "a view taken earlier stays valid"


def test_digests_that_share_a_key_are_told_apart():
    # the key folds four words by exclusive or: swapping two of them leaves it alone
    words = [f"{number:016x}" for number in (11, 22, 33, 44)]
    swapped = ["".join(words[at] for at in order) for order in ((0, 1, 2, 3), (1, 0, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1))]
    index = DigestIndex([*swapped, *(digest(i) for i in range(LEAST_RECENT + 10))])
    assert index.places(list(reversed(swapped))).tolist() == [3, 2, 1, 0]
    assert index.places(["".join(words[at] for at in (1, 3, 2, 0))]).tolist() == [-1]


def test_names_are_numbered_once_and_shared():
    names: Names[str] = Names()
    numbers = np.array([names.number(name) for name in "abcab"], np.int32)
    shared = Shared(numbers, names.names)
    assert list(shared) == list("abcab") and shared[3] == "a" and list(shared[1:3]) == ["b", "c"] and len(shared) == 5
    assert names.names == ["a", "b", "c"]


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_asked_of_few(count):
    index = DigestIndex([digest(0)][:count])
    assert index.places([]).tolist() == []
    assert index.places([digest(0)]).tolist() == [count - 1]
