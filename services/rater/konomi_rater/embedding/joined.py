"""What an embedder is, and two of them as one: the unit vectors of both side by side, each half of the whole."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from konomi_chassis.decoding.worker_process import Decoded

if TYPE_CHECKING:
    from konomi_rater.embedding.tower import ResizeRule


class Embedder(Protocol):
    """What turns images, and where it can texts, into unit vectors."""

    dimensions: int
    reads_text: bool
    fit: "ResizeRule"

    def fitted(self, decoded: Decoded) -> np.ndarray:
        """Brings a decoded image, shrunk or whole, to the size `embed` takes: (H, W, 3) uint8."""

    def embed(self, images: Sequence[np.ndarray], *, keep: bool) -> np.ndarray:
        """Maps RGB images (H, W, 3) uint8 to (N, D) float32; `keep` makes each row independent of the others.

        A fitted image goes in as it is; one of any other size is brought to it first.
        """

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps texts to (N, D) float32 in the space of the images."""


class JoinedEmbedder:
    """The two side by side, (N, D1 + D2). Similarity is the mean of theirs; words are read by those that can.

    A fitted image is the pixels of both sizes in one row, (1, P1 + P2, 3); an image of any other shape goes to both.

    Args:
        parts: the two.
        fit: the size an image must be decoded to, so that each of them still gets what it wants.
    """

    def __init__(self, parts: Sequence[Embedder], fit: "ResizeRule") -> None:
        self._parts, self.fit = parts, fit
        self._shapes = [(part.fit.height, part.fit.width, 3) for part in parts]
        self._ends = np.cumsum([height * width for height, width, _ in self._shapes])
        self.dimensions = sum(part.dimensions for part in parts)
        self.reads_text = any(part.reads_text for part in parts)

    def fitted(self, decoded: Decoded) -> np.ndarray:
        """Brings a decoded image to both sizes: (1, P1 + P2, 3) uint8."""
        return np.concatenate([part.fitted(decoded).reshape(1, -1, 3) for part in self._parts], axis=1)

    def embed(self, images: Sequence[np.ndarray], *, keep: bool) -> np.ndarray:
        """Maps RGB images (H, W, 3) uint8, fitted ones or others, to (N, D1 + D2) float32 unit rows."""
        taken = [self._taken(image) for image in images]
        rows = [part.embed([one[place] for one in taken], keep=keep) for place, part in enumerate(self._parts)]
        return np.concatenate(rows, axis=1) * np.float32(len(rows) ** -0.5)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps texts to (N, D1 + D2) float32 unit rows, zero where a part reads none: order is that of those that do.

        Raises:
            InvalidArgument: neither has a text tower (NO_TEXT_TOWER), or a text is too long for one (TEXT_TOO_LONG).
        """
        readers = [part for part in self._parts if part.reads_text] or list(self._parts)
        read = {id(part): part.embed_texts(texts) for part in readers}
        nothing = [np.zeros((len(texts), part.dimensions), np.float32) for part in self._parts]
        rows = [read.get(id(part), zeros) for part, zeros in zip(self._parts, nothing, strict=True)]
        return np.concatenate(rows, axis=1) * np.float32(len(readers) ** -0.5)

    def _taken(self, image: np.ndarray) -> list[np.ndarray]:
        if image.shape != (1, self._ends[-1], 3):
            return [image] * len(self._parts)
        pieces = np.split(image, self._ends[:-1], axis=1)
        return [piece.reshape(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
