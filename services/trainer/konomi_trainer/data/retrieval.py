"""Real regularisation images, found on this machine: near the prompts by caption and, where asked, near images.

Kumari et al. 2023 (2212.04488), section 3.2, take 200 real images whose captions have a cosine above 0.85 to the
prompt in CLIP's text space; the service they asked is gone, so the owner's own candidates are searched here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from konomi.errors import FailedPrecondition
from konomi_trainer.data.manifest import ManifestItem

LIMIT, MIN_TEXT = 200, 0.85
NEAR_COPY, DUPLICATE = 0.95, 0.97
"""Cosines above which an image is the concept itself, or another candidate once more."""


class Towers(Protocol):
    """A dual encoder: texts and images to unit vectors of one space."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """N texts → (N, D) float32, unit length."""

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """N images (H, W, 3) uint8 → (N, D) float32, unit length."""


@dataclass(frozen=True)
class Query:
    """What to look for.

    Attributes:
        prompts: what the concepts are one of, in words.
        concepts: digests of the concepts' own images.
        limit: most images.
        min_text: least cosine between caption and prompt.
        min_image: least cosine to an image of the concepts, or None to leave images out of it.
    """

    prompts: Sequence[str]
    concepts: Sequence[str] = ()
    limit: int = LIMIT
    min_text: float = MIN_TEXT
    min_image: float | None = None


@dataclass(frozen=True)
class Hit:
    """A candidate that was found, with its highest cosines."""

    item: ManifestItem
    text: float
    image: float | None = None


@dataclass(frozen=True)
class RetrievedImages:
    """The images, nearest caption first, and what to know about them."""

    hits: tuple[Hit, ...]
    warnings: tuple[str, ...]


@cache
def faiss() -> Any:
    """Returns the library, loaded when images are first retrieved: training itself runs without it.

    Raises:
        FailedPrecondition: it is not installed (EXTRA_MISSING).
    """
    try:
        import faiss as library
    except ImportError as error:
        raise FailedPrecondition(
            "expected the library faiss, which finds captions near a prompt, found none; pip install faiss-cpu",
            reason="EXTRA_MISSING",
        ) from error
    return library


def retrieve(
    items: Sequence[ManifestItem], query: Query, towers: Towers, pixels: Callable[[str], np.ndarray]
) -> RetrievedImages:
    """Returns regularisation images among candidates.

    Args:
        items: the candidates; every digest once.
        query: what to look for.
        towers: the dual encoder.
        pixels: digest → (H, W, 3) uint8; asked only where images are looked at.
    """
    own = set(query.concepts)
    candidates = [item for item in items if item.digest not in own and item.caption]
    hits = by_caption(candidates, query, towers)
    if query.min_image is not None and query.concepts:
        hits = by_image(hits, query, towers, pixels)
    return RetrievedImages(tuple(hits[: query.limit]), _warnings(hits, candidates, query))


def by_caption(items: Sequence[ManifestItem], query: Query, towers: Towers) -> list[Hit]:
    """Returns the candidates whose captions are near a prompt, nearest first, ties by digest."""
    captions = sorted({item.caption for item in items})
    if not captions:
        return []
    index = _index(towers.texts(captions))
    best: dict[str, float] = {}
    limits, scores, rows = index.range_search(towers.texts(list(query.prompts)), query.min_text - 1e-6)
    for row, score in zip(rows[: limits[-1]].tolist(), scores[: limits[-1]].tolist(), strict=True):
        best[captions[row]] = max(score, best.get(captions[row], -1.0))
    hits = [Hit(item, best[item.caption]) for item in items if item.caption in best]
    return sorted(hits, key=lambda hit: (-hit.text, hit.item.digest))


def by_image(hits: Sequence[Hit], query: Query, towers: Towers, pixels: Callable[[str], np.ndarray]) -> list[Hit]:
    """Returns the hits that look like the concepts' kind, without copies of the concepts and of each other."""
    if not hits:
        return []
    own = _index(towers.images([pixels(digest) for digest in query.concepts]))
    vectors = towers.images([pixels(hit.item.digest) for hit in hits])
    nearest = own.search(vectors, 1)[0][:, 0]
    kept: list[Hit] = []
    taken = faiss().IndexIDMap2(faiss().IndexFlatIP(vectors.shape[1]))
    for row, hit in enumerate(hits):
        near = float(nearest[row])
        if not (query.min_image or -1.0) <= near <= NEAR_COPY:
            continue
        vector = vectors[row : row + 1]
        if taken.ntotal and taken.search(vector, 1)[0][0, 0] > DUPLICATE:
            continue
        taken.add_with_ids(vector, np.array([row]))
        kept.append(Hit(hit.item, hit.text, near))
    return kept


def _index(vectors: np.ndarray) -> Any:
    """Returns an exact index over (N, D) unit vectors; ids are rows."""
    index = faiss().IndexIDMap2(faiss().IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(vectors, np.arange(len(vectors)))
    return index


def _warnings(hits: Sequence[Hit], candidates: Sequence[ManifestItem], query: Query) -> tuple[str, ...]:
    if not hits:
        return (
            f"None of {len(candidates)} captioned candidates is near a prompt (cosine {query.min_text:g} or more): "
            "train without regularisation, or give other captions; generated images are not put in their place.",
        )
    if len(hits) < query.limit:
        return (
            f"{len(hits)} images were found, fewer than the {query.limit} asked for: they will be used more often.",
        )
    return ()
