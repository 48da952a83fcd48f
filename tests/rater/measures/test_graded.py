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
    likes = np.arange(60) < 20
    same = graded_measures(cloud(0, 200, 2), graded, likes)
    other = graded_measures(cloud(5, 200, 3), graded, likes)
    assert same.typical > 0.85 and same.near_liked > 0.85
    assert same.liked_distance == pytest.approx(same.usual_distance, rel=0.2)
    assert (other.typical, other.near_liked) == (0.0, 0.0)
    assert other.liked_distance > 10 * other.usual_distance
    assert (same.graded_n, same.liked_n) == (60, 20)


def test_what_lies_where_disliked_pictures_lie_is_known_and_farther_from_the_likes():
    liked, disliked = cloud(0, 40, 1), cloud(5, 40, 2)
    graded, likes = np.concatenate([liked, disliked]), np.arange(80) < 40
    far = graded_measures(cloud(9, 100, 3), graded, likes)
    disliked_again = graded_measures(cloud(5, 100, 3), graded, likes)
    assert disliked_again.typical > 0.85 and far.typical == 0.0
    assert disliked_again.near_liked > 0.85, "what was graded lies there too: a base that draws it is no stranger"
    assert disliked_again.liked_distance > 10 * graded_measures(cloud(0, 100, 4), graded, likes).liked_distance


def test_a_liked_image_is_not_its_own_neighbour():
    rows = cloud(0, 40, 1)
    measured = graded_measures(rows[:10], rows, np.arange(40) < 10)
    assert measured.liked_distance == 0.0 < measured.usual_distance


def test_a_base_is_never_held_against_its_own_images():
    """A set that is all alike is near itself, and nothing of that is asked."""
    alike = np.repeat(cloud(5, 1, 3), 50, axis=0)
    assert graded_measures(alike, cloud(0, 60, 1), np.arange(60) < 20).typical == 0.0


@pytest.mark.parametrize(("graded", "liked"), [(LEAST_GRADED - 1, LEAST_LIKED), (LEAST_GRADED, LEAST_LIKED - 1)])
def test_of_too_few_nothing_is_said(graded, liked):
    assert graded_measures(cloud(0, 16, 1), cloud(0, graded, 2), np.arange(graded) < liked) is None
    enough = np.arange(LEAST_GRADED) < LEAST_LIKED
    assert graded_measures(cloud(0, 16, 1), cloud(0, LEAST_GRADED, 2), enough) is not None
