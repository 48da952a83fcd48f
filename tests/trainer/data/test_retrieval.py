"""Regularisation images by FAISS: the captions a brute-force search finds, no concept, no copies, honest warnings."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from konomi.errors import FailedPrecondition
from konomi_trainer.data import retrieval
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.data.retrieval import Query, retrieve


class Towers:
    """A caption "at 0.9" lies at that cosine to the prompt "at 1"; an image of one colour n at angle n degrees."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        cosines = np.array([float(text.split()[-1]) for text in texts])
        return np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1).astype(np.float32)

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        angles = np.deg2rad([float(image[0, 0, 0]) for image in images])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def item(number: int, caption: str) -> ManifestItem:
    return ManifestItem(f"{number:064x}", caption, 1.0, "prior")


def pixels(digest: str) -> np.ndarray:
    return np.full((2, 2, 3), int(digest, 16), np.uint8)


def test_it_finds_what_a_search_by_hand_finds() -> None:
    rng = np.random.default_rng(0)
    items = [item(n, f"at {cosine:.4f}") for n, cosine in enumerate(rng.uniform(-1, 1, 500))]
    found = retrieve(items, Query(["at 1", "at 0.2"], limit=1000), Towers(), pixels)
    vectors, prompts = Towers().texts([i.caption for i in items]), Towers().texts(["at 1", "at 0.2"])
    best = (vectors @ prompts.T).max(1)
    assert {hit.item.digest for hit in found.hits} == {i.digest for i, b in zip(items, best, strict=True) if b >= 0.85}
    assert [hit.text for hit in found.hits] == sorted((hit.text for hit in found.hits), reverse=True)
    assert found.hits[0].text == pytest.approx(best.max(), abs=1e-6)


def test_the_concepts_own_images_and_bare_candidates_are_left_out() -> None:
    items = [item(1, "at 1"), item(2, "at 0.99"), item(3, "")]
    found = retrieve(items, Query(["at 1"], concepts=[items[0].digest]), Towers(), pixels)
    assert [hit.item for hit in found.hits] == [items[1]]
    assert "fewer than the 200" in found.warnings[0]


def test_images_are_near_but_no_copies() -> None:
    concept = item(0, "at 1")
    items = [item(n, "at 1") for n in (0, 5, 25, 26, 40, 80)]
    query = Query(["at 1"], concepts=[concept.digest], limit=2, min_image=0.7)
    found = retrieve(items, query, Towers(), pixels)
    # 5 degrees is the concept again, 26 a copy of 25, 80 too far
    assert [int(hit.item.digest, 16) for hit in found.hits] == [25, 40] and not found.warnings
    assert found.hits[0].image == pytest.approx(np.cos(np.deg2rad(25)), abs=1e-6)


def test_the_limit_holds_and_nothing_found_says_what_to_do() -> None:
    items = [item(n, "at 0.9") for n in range(30)]
    assert len(retrieve(items, Query(["at 1"], limit=10), Towers(), pixels).hits) == 10
    nothing = retrieve(items, Query(["at 1"], min_text=0.95), Towers(), pixels)
    assert not nothing.hits and "None of 30" in nothing.warnings[0] and "not put in their place" in nothing.warnings[0]
    assert not retrieve([], Query(["at 1"]), Towers(), pixels).hits


def test_where_faiss_is_missing_it_is_named_with_the_line_that_installs_it(monkeypatch):
    retrieval.faiss.cache_clear()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FailedPrecondition) as caught:
        retrieve([item(1, "at 0.9")], Query(["at 1"]), Towers(), pixels)
    assert caught.value.reason == "EXTRA_MISSING" and "pip install faiss-cpu" in caught.value.message
    monkeypatch.undo()
    assert retrieve([item(1, "at 0.9")], Query(["at 1"]), Towers(), pixels).hits
