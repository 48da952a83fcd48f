"""Lists and searches the images of a taste."""

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy

from konomi.errors import InvalidArgument, KonomiError
from konomi_rater import catalogue, tastes
from konomi_rater.catalogue import Filter, ImageRow
from konomi_rater.errands import Caller
from konomi_rater.memory import View
from konomi_rater.novelties import Novelties
from konomi_rater.scoring import Score, Scoring
from konomi_rater.suggesting import EVERY_ROW
from konomi_rater.tastes import TasteRow
from konomi_rater.vectors import ImageInput
from konomi_rater.workspace import Workspace

ORDERS = ("create_time", "utility", "novelty", "digest")


@dataclass(frozen=True)
class Listing:
    """What is asked for: a filter, an order and a page, `skip` images further on."""

    wanted: Filter
    order_by: str
    size: int
    token: str
    with_scores: bool
    skip: int = 0


@dataclass(frozen=True)
class Page:
    """Images with their scores where they were asked for, the next page's token, and how many there are in all."""

    images: list[tuple[ImageRow, Score | None]]
    next_token: str
    total: int


class Browsing:
    """The use cases behind ListImages, GetImage and SearchImages."""

    def __init__(self, workspace: Workspace, scoring: Scoring) -> None:
        self._workspace, self._scoring, self._novelties = workspace, scoring, Novelties(workspace.archive)

    def get(self, taste_id: str, digest: str) -> tuple[ImageRow, Score | None]:
        """Returns one image, with its score where a rater is fitted."""
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            image = catalogue.read(connection, taste_id, digest)
        return image, self.scores(taste, view, [image])[0]

    def page(self, taste_id: str, listing: Listing) -> Page:
        """Returns a page; the pages of one listing show the images known when it began."""
        field, descending = _order(listing.order_by)
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            mark = hashlib.sha256(
                json.dumps([taste_id, asdict(listing.wanted), field, descending]).encode()
            ).hexdigest()[:16]
            offset, below = _read_token(listing.token, mark) if listing.token else (0, _last(view))
            rows = self._ordered(connection, taste, view, listing.wanted, field, below)
            rows = rows[::-1] if descending else rows
            offset += listing.skip
            page = rows[offset : offset + listing.size]
            images = catalogue.read_rows(connection, taste_id, page.tolist())
        scores = self.scores(taste, view, images) if listing.with_scores else [None] * len(images)
        more = offset + len(page) < len(rows)
        token = _token(offset + len(page), below, mark) if more else ""
        return Page(list(zip(images, scores, strict=True)), token, len(rows))

    def search(
        self, taste_id: str, query: ImageInput | str, count: int, caller: Caller
    ) -> Sequence[tuple[ImageRow, float]]:
        """Returns the images nearest to an image or a text, with their cosine similarity.

        Raises:
            InvalidArgument: the image cannot be read, or the embedder has no text tower.
        """
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            if isinstance(query, str):
                vector = self._workspace.embedder(taste).embed_texts([query])
            else:
                vectors = self._workspace.vectors
                found = vectors.collect(vectors.request(taste.embedder, view, [query], caller))[0]
                if isinstance(found, KonomiError):
                    raise found
                vector = found[None]
            similarities, positions = self._workspace.archive(taste, view).search(vector, count)
            inside = positions[0] >= 0
            images = catalogue.read_rows(connection, taste_id, view.rows[positions[0][inside]].tolist())
        return list(zip(images, similarities[0][inside].tolist(), strict=True))

    def scores(self, taste: TasteRow, view: View, images: Sequence[ImageRow]) -> list[Score | None]:
        """Returns the score of each image, None throughout where no rater is fitted."""
        if not taste.active or not images:
            return [None] * len(images)
        return list(self._scoring.score_known(taste, view, view.indices(np.array([image.row for image in images]))))

    def _ordered(
        self, connection: sqlalchemy.Connection, taste: TasteRow, view: View, wanted: Filter, field: str, below: int
    ) -> np.ndarray:
        if wanted.by_facts:
            rows = catalogue.select(connection, taste.id, wanted, min(below, EVERY_ROW))
        else:
            rows = view.rows[: np.searchsorted(view.rows, below, side="right")]  # all of them: no need to ask
        positions = view.indices(rows)
        if wanted.min_utility is not None or field == "utility":
            utility = self._scoring.predict_known(taste, view).utility[positions]
            if wanted.min_utility is not None:
                kept = utility >= wanted.min_utility
                rows, positions, utility = rows[kept], positions[kept], utility[kept]
            if field == "utility":
                order = np.argsort(utility, kind="stable")
                rows, positions = rows[order], positions[order]
        if wanted.min_novelty is not None or field == "novelty":
            novelty = self._novelties.of(taste, view, positions)
            if wanted.min_novelty is not None:
                kept = novelty >= wanted.min_novelty
                rows, positions, novelty = rows[kept], positions[kept], novelty[kept]
            if field == "novelty":
                return rows[np.argsort(novelty, kind="stable")]
        if field == "digest":
            return rows[np.argsort(np.array([view.digests[at] for at in positions]), kind="stable")]
        return rows


def _order(text: str) -> tuple[str, bool]:
    field, _, direction = (text or "create_time").partition(" ")
    if field not in ORDERS or direction not in ("", "asc", "desc"):
        raise InvalidArgument(
            f'expected an order ({", ".join(ORDERS)}, with " desc" for descending), found {text[:80]!r}',
            reason="ORDER_UNKNOWN",
            field="order_by",
        )
    return field, direction == "desc"


def _last(view: View) -> int:
    return int(view.rows[-1]) if len(view) else 0


def _token(offset: int, below: int, mark: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([offset, below, mark]).encode()).decode()


def _read_token(token: str, mark: str) -> tuple[int, int]:
    try:
        offset, below, found = json.loads(base64.urlsafe_b64decode(token.encode()))
        if found != mark or not (0 <= offset < 2**62 and 0 <= below < 2**62):
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidArgument(
            "expected the page token of the last answer to this very listing, found another; start again without one",
            reason="PAGE_TOKEN_INVALID",
            field="page_token",
        ) from error
    return offset, below
