"""Unit vectors of images: known to the taste, seen lately, or embedded now together with everybody else's images."""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from konomi.errors import InvalidArgument, KonomiError
from konomi_chassis.storage.artifacts import ArtifactStore, artifact_not_found
from konomi_rater.embedding.batching import Batcher, Lane
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import Caller, Embedded, EmbeddingExecutor, EmbeddingRequest, ImageSource
from konomi_rater.storage.embeddings import MatrixView


@dataclass(frozen=True)
class ImageInput:
    """An image by its bytes or by its digest."""

    content: bytes | None = None
    digest: str = ""


@dataclass(frozen=True)
class VectorRequest:
    """Vectors of images that are asked for: what is known already, and the request for the rest.

    Attributes:
        embedder: name of the embedder.
        results: a vector, an error, or None while it is on its way.
        places: digest to the places it has among the images, in the order of `pending`.
        pending: what is being embedded.
    """

    embedder: str
    results: list[np.ndarray | KonomiError | None]
    places: dict[str, list[int]]
    pending: EmbeddingRequest | None


class Vectors:
    """Finds or makes vectors; strangers' are kept in memory, so that the same image always has the same one.

    Images that join a taste, thousands at a time, may be embedded elsewhere (`EmbeddingExecutor`). Strangers' never
    are: somebody waits for each, their bytes came with the call and would travel a second time, and actors that had to
    be started first would cost more than the image.

    Args:
        store: of the images.
        embedders: of this process.
        batcher: its queue.
        cache: vectors of strangers that are kept at most.
        executor: who embeds the images that join a taste; None for the same queue.
    """

    def __init__(
        self,
        store: ArtifactStore,
        embedders: Embedders,
        batcher: Callable[[], Batcher],
        cache: int,
        executor: EmbeddingExecutor | None = None,
    ) -> None:
        self._store, self._embedders, self._batcher, self._executor = store, embedders, batcher, executor
        self._lock = threading.Lock()
        self._strangers: LRUCache[tuple[str, str], np.ndarray] = LRUCache(cache)

    def request(self, embedder: str, view: MatrixView, inputs: Sequence[ImageInput], caller: Caller) -> VectorRequest:
        """Asks for the vectors of images and returns at once.

        Raises:
            ResourceExhausted: too many images wait already.
            FailedPrecondition: the embedder's files are missing.
        """
        results: list[np.ndarray | KonomiError | None] = [None] * len(inputs)
        places: dict[str, list[int]] = {}
        for place, given in enumerate(inputs):
            try:
                digest = digest_of(given)
            except InvalidArgument as error:
                results[place] = error
                continue
            if caller.confined and given.content is None and view.at(digest) is None:
                results[place] = artifact_not_found(digest)  # as if it were not stored, whether or not it is
                continue
            results[place] = self._vector_at_hand(embedder, view, digest)
            if results[place] is None:
                places.setdefault(digest, []).append(place)
        sources = [self._source(inputs[at[0]], digest, f"images[{at[0]}]") for digest, at in places.items()]
        return VectorRequest(embedder, results, places, self._submit(embedder, sources, caller, keep=False))

    def collect(self, request: VectorRequest) -> list[np.ndarray | KonomiError]:
        """Waits for what was asked for: a vector (D,) for each image, or what is wrong with it.

        Raises:
            Cancelled: the caller went away.
        """
        if request.pending is not None:
            for (digest, at), result in zip(request.places.items(), request.pending.wait(), strict=True):
                vector = result.vector if isinstance(result, Embedded) else result
                if isinstance(result, Embedded):
                    self._remember((request.embedder, digest), result.vector)
                for place in at:
                    request.results[place] = vector
        return [item for item in request.results if item is not None]

    def keepable(self, embedder: str, digests: Sequence[str], caller: Caller) -> list[Embedded | KonomiError]:
        """Embeds stored images so that a vector's bits never depend on what was embedded beside it, nor on where.

        Raises:
            Cancelled: the caller went away.
            Unavailable: the server stops, or no machine of the cluster that embeds answers.
            FailedPrecondition: the embedder's files are missing, or differ on a machine of that cluster.
        """
        if self._executor is not None:
            return self._executor.embed(embedder, digests, caller) if digests else []
        sources = [self._source(ImageInput(digest=digest), digest, "image.digest") for digest in digests]
        pending = self._submit(embedder, sources, caller, keep=True)
        return pending.wait() if pending is not None else []

    def portion(self, alone: int) -> int:
        """Returns how many images are worth embedding at once: `alone` in this process, on many machines more."""
        return alone if self._executor is None else max(alone, self._executor.portion)

    def _submit(
        self, embedder: str, sources: Sequence[ImageSource], caller: Caller, *, keep: bool
    ) -> EmbeddingRequest | None:
        if not sources:
            return None
        return self._batcher().submit(Lane(self._embedders.open(embedder), keep), sources, caller)

    def _source(self, given: ImageInput, digest: str, field: str) -> ImageSource:
        content = given.content
        if content is None:
            return ImageSource(lambda: self._store.get(digest), 0, field)
        return ImageSource(lambda: content, len(content), field)

    def _vector_at_hand(self, embedder: str, view: MatrixView, digest: str) -> np.ndarray | None:
        position = view.at(digest)
        if position is not None:
            return np.asarray(view.embeddings[position])
        with self._lock:
            return self._strangers.get((embedder, digest))

    def _remember(self, key: tuple[str, str], vector: np.ndarray) -> None:
        with self._lock:
            if self._strangers.maxsize:  # a cache of no room takes nothing
                self._strangers[key] = vector


def digest_of(given: ImageInput) -> str:
    """Returns the sha256 digest of an input; InvalidArgument where it carries neither bytes nor digest."""
    if given.content is None:
        if not given.digest:
            raise InvalidArgument(
                "expected the bytes or the digest of an image, found neither", reason="IMAGE_MISSING", field="images"
            )
        return given.digest
    return hashlib.sha256(given.content).hexdigest()
