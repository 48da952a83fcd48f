"""The main directions of a taste's images: as scikit-learn finds them, in any order, and of almost nothing."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from konomi_rater.measures import principal_axes as module
from konomi_rater.measures.principal_axes import principal_axes


def units(count: int, width: int = 24) -> np.ndarray:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((count, width)) * np.linspace(3, 0.2, width) + 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_they_are_those_of_scikit_learn(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 17)  # several chunks
    rows = units(200)
    axes, reference = principal_axes(rows, np.arange(200), 4), PCA(4, svd_solver="full").fit(rows.astype(np.float64))
    assert axes.explained == pytest.approx(reference.explained_variance_ratio_, rel=1e-9)
    assert np.abs(np.sum(axes.basis.T * reference.components_, axis=1)) == pytest.approx(1, abs=1e-9)
    assert np.abs(axes(rows)) == pytest.approx(np.abs(reference.transform(rows)[:, :2]), abs=1e-5)
    assert axes(rows).mean(axis=0) == pytest.approx(0, abs=1e-6)
    assert axes.spread == pytest.approx(axes(rows, 4).std(axis=0), rel=1e-4)


def test_the_order_of_the_rows_changes_nothing_and_rows_left_out_do_not_count():
    rows = units(100)
    turned = rows[::-1].copy()
    one, other = principal_axes(rows, np.arange(100), 2), principal_axes(turned, np.arange(100), 2)
    assert one(rows) == pytest.approx(other(rows), abs=1e-6)
    assert (one.basis[np.abs(one.basis).argmax(axis=0), [0, 1]] > 0).all()
    part = principal_axes(rows, np.arange(50), 2)
    assert part.mean == pytest.approx(rows[:50].mean(axis=0), abs=1e-6)
    assert principal_axes(rows, np.arange(50), 2).basis.tobytes() == part.basis.tobytes()


@pytest.mark.parametrize(("rows", "directions"), [(units(1), 0), (np.repeat(units(1), 5, axis=0), 0), (units(2), 1)])
def test_images_that_hardly_differ_lie_where_they_are(rows, directions):
    axes = principal_axes(rows, np.arange(len(rows)), 2)
    assert (axes.explained > 0).sum() == directions
    assert (axes.explained == pytest.approx([1, 0])) if directions else (axes.explained == 0).all()
    places = axes(rows)
    assert np.isfinite(places).all() and (places[:, 1] == 0).all()
    assert (np.abs(places[:, 0]) > 0.01).all() if directions else np.abs(places).max() < 1e-6


def test_there_may_be_fewer_dimensions_than_directions():
    rows = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]], np.float32)
    axes = principal_axes(rows, np.arange(4), 4)
    assert axes.basis.shape == (3, 4) and axes.explained[3] == 0
    assert axes.explained.sum() == pytest.approx(1)
