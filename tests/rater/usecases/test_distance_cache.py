"""The novelty of a whole library: right, measured once for all its pages, anew when images came."""

import threading
import types

import numpy as np
import pytest

from konomi_rater.measures.novelty import NEIGHBOURS
from konomi_rater.storage import embeddings as held
from konomi_rater.storage.embeddings import MatrixView
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases import novelty_index
from konomi_rater.usecases.novelty_index import Archive, Novelties

TASTE = TasteRow("default", "u", "", "starter", "starter", 0.0, 0)


def view_of(count: int) -> MatrixView:
    rows = np.random.default_rng(5).standard_normal((count, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    digests = [f"{number:064x}" for number in range(count)]
    return held.view_of(digests, rows, ["base"] * count, np.ones(count, np.int64))


class Counted:
    """The real index, which counts how many images it was asked about."""

    def __init__(self):
        self.index, self.asked, self.lock = Archive(), 0, threading.Lock()

    def __call__(self, taste, view):
        found = self.index.at(view)

        def distance(embeddings, own):
            with self.lock:
                self.asked += len(own)
            return found.distance(embeddings, own)

        return types.SimpleNamespace(distance=distance)


def expected(view: MatrixView) -> np.ndarray:
    cosines = view.embeddings @ view.embeddings.T
    np.fill_diagonal(cosines, -np.inf)
    return 1 - np.sort(cosines, axis=1)[:, -NEIGHBOURS:].mean(axis=1)


def test_many_pages_cost_one_measurement_and_say_what_each_image_would(monkeypatch):
    monkeypatch.setattr(novelty_index, "FEW", 50)
    monkeypatch.setattr(novelty_index, "CHUNK", 64)
    archive, view = Counted(), view_of(400)
    known = Novelties(archive)
    pages: list[np.ndarray] = []
    wanted = np.arange(399, -1, -1)
    threads = [threading.Thread(target=lambda: pages.append(known.of(TASTE, view, wanted))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert archive.asked == 400, "six pages at once, one measurement"
    for page in pages:
        assert page == pytest.approx(expected(view)[::-1], abs=1e-5)
    assert known.of(TASTE, view, np.arange(10, 100)) == pytest.approx(expected(view)[10:100], abs=1e-5)
    assert archive.asked == 400


def test_new_images_are_measured(monkeypatch):
    monkeypatch.setattr(novelty_index, "FEW", 50)
    known = Novelties(Counted())
    for count in (100, 130, 160, 190, 220, 250):
        view = view_of(count)
        assert known.of(TASTE, view, np.arange(count)) == pytest.approx(expected(view), abs=1e-5)
    assert len(known._measurements) == novelty_index.KEPT


def test_a_few_images_are_measured_alone():
    archive, view = Counted(), view_of(60)
    assert Novelties(archive).of(TASTE, view, np.array([7])) == pytest.approx(expected(view)[[7]], abs=1e-5)
    assert archive.asked == 1
    assert len(Novelties(archive).of(TASTE, view, np.array([], np.int64))) == 0
