"""The typical start: one image of every region, the densest, and none where something was graded already."""

import numpy as np
import pytest

from konomi_rater.selection.acquisition import typical

NOTHING = np.zeros((0, 6), np.float32)


def regions(sizes: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows about far corners, and the corner of each."""
    rng = np.random.default_rng(seed)
    corners = np.repeat(np.arange(len(sizes)), sizes)
    rows = 5 * np.eye(6)[corners] + 0.3 * rng.standard_normal((len(corners), 6))
    return rows.astype(np.float32), corners


def test_every_region_gives_one_and_the_largest_comes_first():
    rows, corners = regions((10, 40, 25, 5))
    chosen = corners[typical(rows, NOTHING, 4, seed=1)]
    assert chosen[0] == 1
    assert set(chosen.tolist()) == {0, 1, 2, 3}


def test_the_chosen_image_lies_in_the_thick_of_its_region():
    rows, corners = regions((60, 60))
    centres = np.array([rows[corners == c].mean(axis=0) for c in (0, 1)])
    gaps = np.linalg.norm(rows - centres[corners], axis=1)
    for row in typical(rows, NOTHING, 2, seed=0):
        assert gaps[row] < np.quantile(gaps[corners == corners[row]], 0.25)


def test_regions_with_a_graded_image_come_last():
    rows, corners = regions((30, 30, 30, 30))
    graded = rows[[0, 30]]  # of the first two regions
    assert set(corners[typical(rows, graded, 2, seed=3)].tolist()) == {2, 3}


@pytest.mark.parametrize(("count", "found"), [(0, 0), (3, 3), (9, 3)])
def test_a_small_pool_gives_what_it_has(count, found):
    assert len(set(typical(regions((3,))[0], NOTHING, count, seed=0).tolist())) == found


def test_equal_images_are_still_distinct_rows():
    rows = np.ones((30, 6), np.float32)
    assert len(set(typical(rows, NOTHING, 1, seed=0).tolist())) == 1
