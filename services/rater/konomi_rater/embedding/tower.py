"""A torch model as an embedder: pixels prepared as its library does, passed through in batches, unit vectors out.

Pixels are brought to size on the host, cross to the device as bytes, and are normalised there in float32.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import resize, to_pil_image

from konomi.errors import InvalidArgument
from konomi_chassis.decoding.worker_process import LONGEST, Decoded
from konomi_chassis.memory_shortage import give_back, is_shortage, shortage
from konomi_rater.embedding.device import Placement


@dataclass(frozen=True)
class ResizeRule:
    """What an image is brought to.

    Attributes:
        edge: pixels of the shorter side after resizing.
        width, height: of the middle that is kept.
        squash: resize to width x height whatever the shape; `edge` means nothing then.
        resampling: "bicubic" or "bilinear", with antialiasing.
    """

    edge: int
    width: int
    height: int
    squash: bool = False
    resampling: str = "bicubic"

    @property
    def least(self) -> tuple[int, int, bool]:
        """The (width, height) an image must still have when it is resized, and whether it is squashed."""
        return (self.width, self.height, True) if self.squash else (self.edge, self.edge, False)

    def cut(self, width: int, height: int) -> tuple[int, int]:
        """Returns the (width, height) of the middle that is looked at: of a very long image not all of it."""
        if self.squash:
            return width, height
        longest = LONGEST * min(width, height)
        return min(width, longest), min(height, longest)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Returns the (width, height) an image is resized to; rounded as torchvision rounds."""
        if self.squash:
            return self.width, self.height
        if width <= height:
            return self.edge, int(self.edge * height / width)
        return int(self.edge * width / height), self.edge


def covering(rules: Sequence[ResizeRule]) -> ResizeRule:
    """Returns a rule whose `least` is enough for each of some: an image keeps its shape unless all squash it."""
    edge = max(max(rule.width, rule.height) if rule.squash else rule.edge for rule in rules)
    return ResizeRule(edge, edge, edge, all(rule.squash for rule in rules))


def _middle(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    left, top = round((pixels.shape[1] - width) / 2), round((pixels.shape[0] - height) / 2)
    return pixels[top : top + height, left : left + width]


LARGE = 4
"""Pixels per pixel wanted from which on torch resizes: six times faster than PIL, and the same to one level there."""


@dataclass(frozen=True)
class Preparation:
    """How pixels become what a tower takes.

    Attributes:
        fit: the size.
        mean, std: of the three channels, on the scale 0..1.
    """

    fit: ResizeRule
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Maps images (H, W, 3) uint8 to (N, 3, height, width) float32."""
        return self.normalised(self.stacked(images))

    def stacked(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Maps images (H, W, 3) uint8 to (N, height, width, 3) uint8."""
        shape = (self.fit.height, self.fit.width)
        return torch.from_numpy(
            np.stack([i if i.shape[:2] == shape else self.fitted(i, *i.shape[1::-1]) for i in images])
        )

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps (N, height, width, 3) uint8 to (N, 3, height, width) float32, on the device they are on."""
        scaled = pixels.permute(0, 3, 1, 2).float().div_(255)  # in the order of ToTensor, Normalize
        mean, std = (
            torch.tensor(list(numbers), device=pixels.device).view(1, 3, 1, 1) for numbers in (self.mean, self.std)
        )
        return scaled.sub_(mean).div_(std)

    def fitted(self, pixels: np.ndarray, width: int, height: int) -> np.ndarray:
        """Brings an image to the size: (H, W, 3) uint8, as torchvision resizes and cuts it, to a level or so.

        Args:
            pixels: (H, W, 3) uint8, perhaps shrunk already.
            width: of the whole image.
            height: likewise.
        """
        columns, rows = self.fit.resized(*self.fit.cut(width, height))
        pixels = _middle(pixels, *self.fit.cut(*pixels.shape[1::-1]))
        if pixels.shape[:2] != (rows, columns):
            pixels = self._resized(pixels, rows, columns)
        return np.ascontiguousarray(_middle(pixels, self.fit.width, self.fit.height))

    def _resized(self, pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
        if pixels.shape[0] * pixels.shape[1] <= LARGE * rows * columns:
            return np.asarray(resize(to_pil_image(pixels), [rows, columns], InterpolationMode(self.fit.resampling)))
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        image = interpolate(image, size=(rows, columns), mode=self.fit.resampling, antialias=True)
        return image[0].permute(1, 2, 0).numpy()


ADVICE = "close programs that hold memory, or set the rater's embed_batch lower, then try again"


@dataclass(frozen=True)
class TextTower:
    """What turns texts into vectors.

    Attributes:
        encode: maps N texts to (N, D) on the device, not yet of unit length.
        tokens: counts the tokens of a text, with those that mark its begin and end.
        most: tokens it reads; its tokenizer would cut off the rest without a word.
    """

    encode: Callable[[list[str]], torch.Tensor]
    tokens: Callable[[str], int]
    most: int


class TorchEmbedder:
    """A torch image tower, and a text tower where there is one; one pass at a time."""

    def __init__(
        self,
        image: Callable[[torch.Tensor], torch.Tensor],
        prepare: Preparation,
        placement: Placement,
        text: TextTower | None,
    ) -> None:
        self._image, self._prepare, self._placement, self._text = image, prepare, placement, text
        self._lock = threading.Lock()
        self.fit = prepare.fit
        self.reads_text = text is not None
        self.dimensions = self.embed([np.zeros((8, 8, 3), np.uint8)], keep=False).shape[1]

    def embed(self, images: Sequence[np.ndarray], *, keep: bool) -> np.ndarray:
        """Maps RGB images (H, W, 3) uint8 of any size to (N, D) float32.

        Args:
            images: the pixels.
            keep: pad every pass to one size. Matrix products of another shape round otherwise; with one shape a
                row is the same bits whatever its neighbours, so a resumed night finds what it left.

        Raises:
            ResourceExhausted: one image, or a pass to be kept, does not fit into memory (OUT_OF_MEMORY).
        """
        size = self._placement.kept if keep else self._placement.batch
        parts = [
            self._pass(self._prepare.stacked(images[start : start + size]), size if keep else 0)
            for start in range(0, len(images), size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), np.float32)

    def _pass(self, pixels: torch.Tensor, rows: int) -> np.ndarray:
        """Maps (N, H, W, 3) uint8 to (N, D); where memory runs out in halves, unless the size of a pass is to be kept.

        Args:
            pixels: of images of the right size.
            rows: of the pass whatever the number of images; 0 for as many.
        """
        try:
            return self._run(self._image, self._on_device(pixels, rows))[: len(pixels)]
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            if rows or len(pixels) == 1:
                raise shortage(error, f"while embedding {rows or 1} images", ADVICE) from error
        give_back()
        return np.concatenate([self._pass(half, 0) for half in pixels.chunk(2)])

    def _on_device(self, pixels: torch.Tensor, rows: int) -> torch.Tensor:
        """Maps (N, H, W, 3) uint8 on the host to (rows or N, 3, H, W) in the tower's precision on its device."""
        if rows > len(pixels):  # before they are normalised: what is put there later lies otherwise, and rounds so
            pixels = torch.cat([pixels, pixels.new_zeros((rows - len(pixels), *pixels.shape[1:]))])
        if self._placement.on_gpu:
            pixels = pixels.pin_memory().to(self._placement.device, non_blocking=True)
        ready = self._prepare.normalised(pixels)
        return ready.to(self._placement.dtype)

    def fitted(self, decoded: Decoded) -> np.ndarray:
        """Brings a decoded image to the size `embed` takes."""
        return self._prepare.fitted(decoded.pixels, decoded.width, decoded.height)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps texts to (N, D) float32.

        Raises:
            InvalidArgument: the model has no text tower (NO_TEXT_TOWER), or a text has more tokens than it reads
                (TEXT_TOO_LONG).
        """
        tower = self._text
        if tower is None:
            raise InvalidArgument(
                "expected an image: this taste's embedder has no text tower; search by an image, or change to an "
                "embedder that reads text (konomi rater embedder)",
                reason="NO_TEXT_TOWER",
                field="text",
            )
        longest = max(map(tower.tokens, texts), default=0)
        if longest > tower.most:
            raise InvalidArgument(
                f"expected a text of at most {tower.most} tokens, which is what this taste's embedder reads, found "
                f"{longest}; use fewer words",
                reason="TEXT_TOO_LONG",
                field="text",
            )
        return self._run(tower.encode, list(texts))

    def _run(self, tower: Callable[[Any], torch.Tensor], given: Any) -> np.ndarray:
        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._placement.threads)
            vectors = torch.nn.functional.normalize(tower(given).float(), dim=-1)
        return vectors.cpu().numpy()
