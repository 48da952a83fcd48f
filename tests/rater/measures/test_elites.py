"""Elites, spread sets and the findings of ExploreNovelty against what they are by definition."""

import itertools

import numpy as np
import pytest
from safetensors.numpy import save_file

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_rater.measures.diversity import facility_location, farthest_points, vendi
from konomi_rater.measures.elites import BOUND, find_elites, learn_behaviour
from konomi_rater.selection.selection import POLICIES, SelectionLimits, select
from konomi_rater.usecases.embedders.advice import Advice, foreign_share
from tests.rater.selection.test_selection import plain


def unit(count: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)) * np.linspace(2, 0.3, dimensions)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.slow
def test_each_cell_keeps_the_candidate_of_the_highest_objective():
    rows = unit(500)
    measures = learn_behaviour(rows)(rows)
    assert measures.shape == (500, 4) and np.allclose(measures.std(axis=0), 1, atol=0.05)
    objectives = np.random.default_rng(1).uniform(0, 5, 500)
    found = find_elites(measures, objectives, 24, seed=3)
    one = [find_elites(measures[i : i + 1], objectives[i : i + 1], 24, seed=3).cells[0] for i in range(0, 500, 10)]
    for row, cell in zip(range(0, 500, 10), one, strict=True):
        elite = found.rows[found.cells.tolist().index(cell)]
        assert max(objectives[elite], 1) >= max(objectives[row], 1)
    assert found.coverage == len(found.rows) / 24 and len(set(found.cells.tolist())) == len(found.cells)
    assert found.qd_score == pytest.approx(sum(max(0, objectives[row] - 1) for row in found.rows), abs=1e-3)


@pytest.mark.slow
def test_new_territory_grows_coverage_and_better_elites_grow_the_score():
    rows = unit(300)
    learnt = learn_behaviour(rows)
    middle = rows[np.abs(learnt(rows)).max(axis=1) < 1]
    narrow = find_elites(learnt(middle), np.full(len(middle), 2.0), 64, seed=0)
    wide = find_elites(learnt(rows), np.full(300, 2.0), 64, seed=0)
    better = find_elites(learnt(rows), np.full(300, 3.0), 64, seed=0)
    assert narrow.coverage < wide.coverage and narrow.qd_score < wide.qd_score
    assert better.coverage == wide.coverage and better.qd_score == pytest.approx(2 * wide.qd_score)


def test_measures_are_bounded_and_few_images_are_enough():
    assert np.abs(learn_behaviour(unit(100))(100 * unit(5, seed=1))).max() <= BOUND
    same = np.repeat(unit(1), 5, axis=0)
    found = find_elites(learn_behaviour(same)(same), np.arange(5.0), 4, seed=0)
    assert found.rows.tolist() == [4]
    assert find_elites(np.zeros((0, 4)), np.zeros(0), 4, seed=0).coverage == 0


def test_farthest_points_keep_half_of_the_best_possible_distance():
    rows = unit(12, 3)
    picks = farthest_points(rows, 4)
    assert len(set(picks)) == 4

    def smallest(chosen):
        angles = np.arccos((rows[list(chosen)] @ rows[list(chosen)].T).clip(-1, 1))
        return angles[np.triu_indices(len(chosen), 1)].min()

    best = max(smallest(chosen) for chosen in itertools.combinations(range(12), 4) if 0 in chosen)
    assert smallest(picks) >= best / 2
    assert farthest_points(rows, 99) and len(farthest_points(rows, 99)) == 12
    assert farthest_points(rows[:0], 3) == []


def test_facility_location_is_greedy_and_near_the_best_possible():
    rows = unit(12, 4, seed=2)
    similar = 1 + rows @ rows.T

    def served(chosen):
        return similar[list(chosen)].max(axis=0).sum()

    picks = facility_location(rows, 3)
    assert served(picks) >= 0.63 * max(served(chosen) for chosen in itertools.combinations(range(12), 3))
    assert picks[0] == int(np.argmax(similar.sum(axis=1)))
    second = max((row for row in range(12) if row != picks[0]), key=lambda row: served([picks[0], row]))
    assert served(picks[:2]) == pytest.approx(served([picks[0], second]), abs=1e-5)
    heavy = facility_location(rows, 1, weights=np.eye(12)[7] * 100 + 1e-3)
    assert heavy == [7]
    assert len(set(facility_location(rows, 50))) == 12


@pytest.mark.parametrize("spread", ["farthest_point", "facility_location"])
def test_a_spread_set_is_more_diverse_and_still_from_the_best(spread):
    rows = unit(120, seed=4)
    rows[90:] = rows[90:91] + 0.05 * rows[90:]  # the best thirty look alike
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    candidates = plain(120, embeddings=rows)
    limits = {"count": 20, "duplicate_cosine": 1.0, "cell_caps": np.array([120]), "prompt_caps": np.array([120])}
    best = select(POLICIES["converge"], candidates, SelectionLimits(**limits))
    wide = select(POLICIES["converge"], candidates, SelectionLimits(**limits, spread=spread))
    assert best.selected == list(range(119, 99, -1))
    assert len(wide.selected) == 20 and min(wide.selected) >= 60
    assert wide.selected == sorted(wide.selected, reverse=True)
    assert vendi(rows[wide.selected]) > 1.5 * vendi(rows[best.selected])
    assert sorted([*wide.selected, *wide.rejected]) == list(range(120))


def test_explore_says_how_each_stands_and_shows_elites(rater, fitted):
    far = pb.ExploreNoveltyRequest(taste=fitted.taste, count=8, cells=16, seed=1)
    found = rater.call("ExploreNovelty", far)
    assert [image.digest for image in found.images] == [row.digest for row in found.findings]
    assert all(0 <= row.local_rank <= 1 and 0 < row.novelty <= 2 for row in found.findings)
    archive = found.archive
    assert archive.cells == 16 and archive.coverage == len(archive.elites) / 16 > 0.2
    bounds = [elite.image.score.lower_bound for elite in archive.elites]
    assert archive.qd_score == pytest.approx(sum(max(0.0, bound - 1) for bound in bounds), abs=1e-3)
    assert [elite.cell for elite in archive.elites] == sorted(elite.cell for elite in archive.elites)
    assert archive.diversity.n == len(archive.elites)
    assert rater.call("ExploreNovelty", far) == found
    top = max(bounds)
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=fitted.taste, page_size=200, with_scores=True)).images
    assert top == pytest.approx(max(image.score.lower_bound for image in listed), abs=1e-6)


def test_without_a_rater_there_is_novelty_but_no_rank_and_no_elite(rater, library):
    found = rater.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=library.taste, count=3, cells=4))
    assert len(found.findings) == 3 and not found.HasField("archive")
    assert not any(row.HasField("local_rank") for row in found.findings)
    with pytest.raises(InvalidArgument):
        rater.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=library.taste, cells=5000))


def test_foreign_is_what_lies_beyond_every_portrait(tmp_path):
    portraits, others = unit(200), unit(40, seed=9)
    path = tmp_path / "realism.safetensors"
    save_file({"renders": portraits.astype(np.float16), "threshold": np.array([0.01], np.float32)}, path)
    assert foreign_share(portraits[:50], path) == 0
    assert foreign_share(others, path) > 0.9
    assert foreign_share(np.concatenate([portraits[:40], others]), path) == pytest.approx(0.5, abs=0.05)
    assert foreign_share(unit(5, 8), path) == 0
    assert foreign_share(others, tmp_path / "missing") == 0


def test_advice_names_what_is_at_hand(rater, library):
    found = rater.call("AdviseEmbedder", pb.AdviseEmbedderRequest(taste=library.taste))
    assert (found.embedder, found.n, found.change) == ("starter", 0, False)
    assert found.offers[-1].embedder == "timm:tf_efficientnet_lite0" and not found.offers[-1].reads_text


@pytest.mark.parametrize(
    ("share", "n", "change"), [(0.4, 20, True), (1.0, 2, True), (1.0, 1, False), (0.1, 500, False)]
)
def test_a_few_strange_images_may_be_chance(share, n, change):
    assert Advice("starter", share, n, [], True).change is change
