"""Says whether a taste's embedder knows the taste's images, and which others are at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy  # its statistics are loaded at their first use: they take a second
from safetensors.numpy import load_file

from konomi_chassis.models.safetensors_check import check_file
from konomi_rater.embedding import names
from konomi_rater.embedding.names import STARTER
from konomi_rater.storage import tastes
from konomi_rater.storage.embeddings import SELF
from konomi_rater.usecases.workspace import Workspace

PORTRAITS = Path(STARTER) / "reader" / "realism.safetensors"
MOST_IMAGES = 2000
PORTRAITS_BEYOND = 0.05
"""Share of true portraits that lie beyond the threshold."""
FOREIGN = 0.2
"""Share of foreign images from which another embedder serves better: photographs score about .4, portraits .05."""
DOUBT = 0.01
"""Chance of as many foreign images among portraits above which nothing is advised: a few images may be chance."""


@dataclass(frozen=True)
class Offer:
    """An embedder at hand."""

    embedder: str
    reads_text: bool


@dataclass(frozen=True)
class Advice:
    """What is known of a taste's embedder and of others."""

    embedder: str
    foreign_share: float
    n: int
    offers: Sequence[Offer]
    reads_text: bool
    second: str = ""

    @property
    def change(self) -> bool:
        """Whether another embedder would serve the taste better."""
        beyond = round(self.foreign_share * self.n)
        return (
            self.foreign_share > FOREIGN and float(scipy.stats.binom.sf(beyond - 1, self.n, PORTRAITS_BEYOND)) < DOUBT
        )


class Advising:
    """The use case behind AdviseEmbedder."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def advise(self, taste_id: str) -> Advice:
        """Returns how well the embedder fits the images that were not made here, and which others are at hand."""
        workspace = self._workspace
        with workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = workspace.view(connection, taste)
        imported = np.flatnonzero(view.sources != SELF)[-MOST_IMAGES:]
        share = 0.0
        if taste.embedder == STARTER and len(imported):
            share = foreign_share(view.embeddings[imported], workspace.embedders.folder / PORTRAITS)
        others = [name for name in workspace.embedders.at_hand() if name != names.plain(taste.embedder)]
        reads = workspace.embedders.reads_text
        offers = [Offer(name, reads(name)) for name in others]
        return Advice(taste.embedder, share, len(imported), offers, reads(taste.embedder), taste.second_embedder)


def foreign_share(embeddings: np.ndarray, portraits: Path) -> float:
    """Returns the share of unit rows (N, D) of the starter embedder that are unlike every starter portrait, 0..1.

    0 where the portraits of these embeddings are not installed: nothing is known then.
    """
    if not portraits.is_file():
        return 0.0
    check_file(portraits)
    tensors = load_file(portraits)
    renders = tensors["renders"].astype(np.float32)
    if renders.shape[1] != embeddings.shape[1]:
        return 0.0
    distance = 1.0 - (embeddings @ renders.T).max(axis=1)
    return float((distance > tensors["threshold"][0]).mean())
