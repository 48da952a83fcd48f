"""How a set lies to what was graded: like it, unlike it, and where too little is graded to say."""

import numpy as np
import pytest

from konomi_rater.measures.graded import LEAST_GRADED, LEAST_LIKED, graded_measures


def cloud(centre: int, count: int, seed: int, spread: float = 0.3) -> np.ndarray:
    """Unit rows around one axis of a space of 32 dimensions."""
    rows = spread * np.random.default_rng(seed).standard_normal((count, 32)) / np.sqrt(32)
    rows[:, centre] += 1.0
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_more_of_the_same_is_near_and_another_kind_is_not():
    graded = cloud(0, 60, 1)
    same = graded_measures(cloud(0, 200, 2), graded, graded[:20])
    other = graded_measures(cloud(5, 200, 3), graded, graded[:20])
    assert same.typical > 0.85 and same.near_liked > 0.85
    assert same.liked_distance == pytest.approx(same.usual_distance, rel=0.2)
    assert (other.typical, other.near_liked) == (0.0, 0.0)
    assert other.liked_distance > 10 * other.usual_distance
    assert (same.graded_n, same.liked_n) == (60, 20)


def test_what_is_typical_but_disliked_is_not_near_the_likes():
    liked, disliked = cloud(0, 40, 1), cloud(5, 40, 2)
    measured = graded_measures(cloud(5, 100, 3), np.concatenate([liked, disliked]), liked)
    assert measured.typical > 0.85 and measured.near_liked == 0.0


def test_a_base_is_never_held_against_its_own_images():
    """A set that is all alike is near itself, and nothing of that is asked."""
    alike = np.repeat(cloud(5, 1, 3), 50, axis=0)
    assert graded_measures(alike, cloud(0, 60, 1), cloud(0, 20, 2)).typical == 0.0


@pytest.mark.parametrize(("graded", "liked"), [(LEAST_GRADED - 1, LEAST_LIKED), (LEAST_GRADED, LEAST_LIKED - 1)])
def test_of_too_few_nothing_is_said(graded, liked):
    assert graded_measures(cloud(0, 16, 1), cloud(0, graded, 2), cloud(0, liked, 3)) is None
    assert graded_measures(cloud(0, 16, 1), cloud(0, LEAST_GRADED, 2), cloud(0, LEAST_LIKED, 3)) is not None
