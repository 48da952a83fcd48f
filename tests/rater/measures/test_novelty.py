"""Neighbours, typicality, cells and diversity against what they are by definition."""

import json
import subprocess
import sys

import numpy as np
import pytest

from konomi.errors import FailedPrecondition
from konomi_rater.measures import novelty
from konomi_rater.measures.cells import divide
from konomi_rater.measures.diversity import vendi
from konomi_rater.measures.novelty import NeighbourIndex, reference_of


def unit(count: int, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_distance_is_the_mean_over_the_nearest_others():
    rows = unit(50)
    index = NeighbourIndex(8)
    index.add(np.arange(50), rows)
    expected = np.sort(np.where(np.eye(50, dtype=bool), np.inf, 1 - rows @ rows.T), axis=1)[:, :15].mean(axis=1)
    assert index.distance(rows, np.arange(50)) == pytest.approx(expected, abs=1e-5)
    stranger = np.sort(1 - rows @ rows.T, axis=1)[:, :15].mean(axis=1)
    assert index.distance(rows, np.full(50, -1)) == pytest.approx(stranger, abs=1e-5)


def test_ids_can_be_removed_and_others_stay():
    rows = unit(10)
    index = NeighbourIndex(8)
    index.add(np.arange(100, 110), rows)
    assert index.remove(np.array([100, 101, 999])) == 2
    assert index.search(rows[2:3], 1)[1].tolist() == [[102]]
    assert len(index) == 8


def test_an_empty_index_and_no_queries_are_fine():
    index = NeighbourIndex(8)
    assert index.distance(unit(3), np.full(3, -1)).tolist() == [0, 0, 0]
    index.add(np.arange(3), unit(3))
    assert index.distance(unit(0), np.zeros(0)).shape == (0,)


def test_typicality_is_one_inside_and_zero_far_away():
    rows = unit(300)
    rows[:, 0] += 3
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    reference = reference_of(np.arange(300), rows)
    inside = reference.typicality(reference.index.distance(rows, np.arange(300)))
    assert 0.45 < (inside == 1).mean() < 0.55
    assert (inside == 0).mean() <= 0.02
    assert reference.typicality(reference.index.distance(-rows[:5], np.full(5, -1))).tolist() == [0] * 5
    assert (reference.index.distance(rows, np.arange(300)) <= reference.cut(95)).mean() == pytest.approx(0.95, abs=0.01)
    assert reference.cut(100) == np.inf


def test_vendi_counts_distinct_images():
    assert vendi(np.eye(8, dtype=np.float32)) == pytest.approx(8)
    assert vendi(np.repeat(np.eye(8, dtype=np.float32)[:2], 20, axis=0)) == pytest.approx(2)
    assert vendi(unit(1)) == pytest.approx(1)
    assert vendi(unit(0)) == 0
    assert 5 < vendi(unit(500)) <= 8


def test_cells_hold_their_shares():
    base = np.concatenate([np.tile(np.eye(8)[0], (30, 1)), np.tile(np.eye(8)[1], (10, 1))]).astype(np.float32)
    cells = divide(base, 12, seed=0)
    assert sorted(cells.shares.tolist()) == [0.25, 0.75]
    assert cells.shares[cells.of(base[-1:])[0]] == 0.25
    assert np.array_equal(divide(unit(60), 5, seed=1).centres, divide(unit(60), 5, seed=1).centres)


WITHOUT = """
import json, sys
sys.modules["faiss"] = None  # as on a machine that lacks it
from konomi_rater.__main__ import build, limit_threads
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from pathlib import Path
limit_threads(1)
home = Path(sys.argv[1])
(service,) = build(ServerSettings(home=home), ArtifactStore(StoreSettings(home=home)))
import konomi_trainer.data.retrieval
print(json.dumps([service.name]))
"""


@pytest.mark.slow
def test_a_service_runs_without_faiss_until_somebody_needs_it(tmp_path):
    answer = subprocess.run([sys.executable, "-c", WITHOUT, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert json.loads(answer.stdout or "null") == ["konomi.v1.RaterService"], answer.stderr


def test_where_faiss_is_missing_it_is_named_with_the_line_that_installs_it(monkeypatch):
    novelty.faiss.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FailedPrecondition) as caught:
        NeighbourIndex(8)
    assert caught.value.reason == "EXTRA_MISSING" and "pip install faiss-cpu" in caught.value.message
    monkeypatch.undo()
    assert len(NeighbourIndex(8)) == 0
