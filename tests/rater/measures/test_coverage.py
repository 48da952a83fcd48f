"""What a set reaches and copies: liked cells, shares, near-copies of training sources."""

import numpy as np
import pytest

from konomi_rater.measures.coverage import covered, near_copies, nearest_source, spread


@pytest.mark.parametrize(
    ("liked", "cells", "share"),
    [([], [1, 2], 1.0), ([3, 3, 3], [1, 3], 1.0), ([1, 2, 3, 4], [1, 1, 4], 0.5), ([1], [2], 0.0)],
)
def test_a_liked_cell_counts_once_however_often_it_is_liked(liked, cells, share):
    assert covered(np.array(liked, np.int64), np.array(cells)) == share


def test_spread_names_the_largest_cell_and_how_even_all_are():
    even = spread(np.array([0, 1, 2, 3]), 4)
    assert (even.largest, even.entropy) == (0.25, pytest.approx(1.0))
    assert spread(np.array([2, 2, 2, 2]), 4).entropy == 0.0
    assert spread(np.array([2, 2, 2, 0]), 4).largest == 0.75


def row(degrees: float) -> list[float]:
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def test_only_later_images_that_are_no_source_themselves_can_be_copies():
    candidates = np.array([row(0), row(2), row(40), row(41), row(90)])
    order, sources = np.array([0, 1, 2, 3, 4]), np.array([row(0), row(40), row(91)])
    found = near_copies(candidates, order, sources, np.array([0, 2, 9]), 0.95)
    assert found.tolist() == [False, True, False, True, False]  # the last is older than the source it resembles
    assert not near_copies(candidates, order, np.zeros((0, 2)), np.zeros(0), 0.95).any()


def test_the_nearest_source_is_found_and_none_is_minus_one():
    found = nearest_source(np.array([row(0), row(60)]), np.array([row(60), row(180)]))
    assert found == pytest.approx([0.5, 1.0])
    assert nearest_source(np.array([row(0)]), np.zeros((0, 2))).tolist() == [-1.0]
