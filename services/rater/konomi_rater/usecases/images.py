"""The images of a taste: added (decoded in a limited child, embedded once, remembered), listed and searched."""

import base64
import binascii
import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy

from konomi.errors import InvalidArgument, KonomiError
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater.embedding.requests import Caller, Embedded
from konomi_rater.selection.selection import CONSENTED, IMPORTED, SELF
from konomi_rater.storage import collected, consents, image_records, tastes
from konomi_rater.storage.embeddings import MatrixView
from konomi_rater.storage.image_records import Filter, ImageFacts, ImageRow
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.novelty_index import Novelties
from konomi_rater.usecases.scoring import Score, Scoring
from konomi_rater.usecases.suggestion import EVERY_ROW
from konomi_rater.usecases.vectors import ImageInput
from konomi_rater.usecases.workspace import Workspace

DIGEST = re.compile(r"[0-9a-f]{64}")
PROMPT_BYTES = 4096
TEXT_BYTES = 400
MOST_PARENTS = 16
MOST_PARAMETERS = 64


@dataclass(frozen=True)
class Added:
    """Result of one image."""

    digest: str
    already_known: bool = False
    error: KonomiError | None = None


class Adding:
    """The use case behind AddImages."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def add(self, taste_id: str, images: Sequence[ImageFacts], caller: Caller) -> list[Added]:
        """Adds a batch in one transaction; one bad image is that image's error.

        Raises:
            NotFound: no such taste.
            FailedPrecondition: its embedder is missing.
        """
        workspace = self._workspace
        refused: dict[int, KonomiError] = {}
        for place, facts in enumerate(images):
            try:
                check_facts(facts)
            except InvalidArgument as error:
                refused[place] = error
        with workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            sizes = {
                f.digest: image_records.known_size(connection, f.digest)
                for i, f in enumerate(images)
                if i not in refused
            }
            vectors = image_records.read_embeddings(connection, taste.embedder, list(sizes))
        missing = list(dict.fromkeys(d for d in sizes if d not in vectors or sizes[d] is None))
        embedded = dict(zip(missing, workspace.vectors.keepable(taste.embedder, missing, caller), strict=True))
        fresh: dict[str, np.ndarray] = {}
        for place, facts in enumerate(images):
            result = embedded.get(facts.digest) if place not in refused else None
            if isinstance(result, Embedded):
                fresh[facts.digest], sizes[facts.digest] = result.vector, (result.width, result.height)
            elif result is not None:
                refused[place] = result
        stored = self._store(taste, images, refused, sizes, fresh)
        return stored if stored is not None else self.add(taste_id, images, caller)

    def _store(
        self,
        taste: tastes.TasteRow,
        images: Sequence[ImageFacts],
        refused: dict[int, KonomiError],
        sizes: dict[str, tuple[int, int] | None],
        fresh: dict[str, np.ndarray],
    ) -> list[Added] | None:
        results = []
        with self._workspace.writing() as connection:
            if tastes.read(connection, taste.id).embedder != taste.embedder:
                return None  # its embedder changed meanwhile: these vectors are of the one before
            revoked = consents.refusals(connection, taste.id, images)
            kept = {digest: vector for digest, vector in fresh.items() if digest not in revoked}
            image_records.remember_embeddings(connection, taste.embedder, kept)
            failpoint("images.before_rows")
            self._welcome_back(connection, taste.id, images)
            for place, facts in enumerate(images):
                size = sizes.get(facts.digest)
                error = refused.get(place) or revoked.get(facts.digest) or self._missing(connection, taste.id, facts)
                if error is not None or size is None:
                    results.append(Added(facts.digest, error=error))
                else:
                    new = image_records.add(connection, taste.id, facts, size, self._workspace.clock())
                    results.append(Added(facts.digest, already_known=not new))
        return results

    def _welcome_back(self, connection: sqlalchemy.Connection, taste: str, images: Sequence[ImageFacts]) -> None:
        """Ends the collected state of images whose pixels were put again."""
        gone = collected.without_pixels(connection, taste)
        back = [facts.digest for facts in images if facts.digest in gone and self._workspace.store.exists(facts.digest)]
        collected.note_returned(connection, taste, back, "added again", self._workspace.clock())

    def _missing(self, connection: sqlalchemy.Connection, taste: str, facts: ImageFacts) -> KonomiError | None:
        """Returns why a new image cannot be added where its pixels went while it was embedded; None where it can."""
        store = self._workspace.store
        if not store.is_local or image_records.knows(connection, taste, facts.digest):
            return None
        try:
            store.stat(facts.digest)
        except KonomiError as error:
            return error
        return None


def check_facts(facts: ImageFacts) -> None:
    """Raises InvalidArgument, with the field, for facts the catalogue does not take."""
    if not DIGEST.fullmatch(facts.digest):
        raise _wrong(
            "digest",
            "DIGEST_INVALID",
            f"a sha256 digest of 64 lower-case hexadecimal digits, found {facts.digest[:80]!r}",
        )
    if not SELF <= facts.source <= IMPORTED:
        raise _wrong("source", "SOURCE_REQUIRED", "a source (SELF, CONSENTED, SCRAPED or IMPORTED), found none")
    if facts.source == CONSENTED and not facts.consent:
        raise _wrong(
            "consent", "CONSENT_REQUIRED", "a reference to the consent record of a consented image, found none"
        )
    if len(facts.parents) > MOST_PARENTS or not all(DIGEST.fullmatch(parent) for parent in facts.parents):
        raise _wrong("parents", "DIGEST_INVALID", f"at most {MOST_PARENTS} sha256 digests of parents")
    for name, limit in (
        ("prompt", PROMPT_BYTES),
        ("unit", TEXT_BYTES),
        ("night", TEXT_BYTES),
        ("licence", TEXT_BYTES),
        ("consent", TEXT_BYTES),
    ):
        value = getattr(facts, name)
        if len(value.encode()) > limit:
            raise _wrong(name, "TEXT_TOO_LONG", f"at most {limit} bytes of UTF-8, found {len(value.encode())}")
        if any(unicodedata.category(letter) == "Cc" for letter in value):
            raise _wrong(name, "TEXT_CONTROL", "text without control characters, found one")
    if len(facts.parameters) > MOST_PARAMETERS or not all(
        len(k) <= 64 and np.isfinite(v) for k, v in facts.parameters.items()
    ):
        raise _wrong("parameters", "PARAMETERS_INVALID", f"at most {MOST_PARAMETERS} finite numbers under short names")


def _wrong(field: str, reason: str, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"expected {expected}; correct the image's {field} and send it again", reason=reason, field=f"image.{field}"
    )


ORDERS = ("create_time", "utility", "novelty", "digest")


@dataclass(frozen=True)
class Listing:
    """What is asked for: a filter, an order and a page, `skip` images further on."""

    criteria: Filter
    order_by: str
    size: int
    token: str
    with_scores: bool
    skip: int = 0


@dataclass(frozen=True)
class ImagePage:
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
            image = image_records.read(connection, taste_id, digest)
        return image, self.scores(taste, view, [image])[0]

    def page(self, taste_id: str, listing: Listing) -> ImagePage:
        """Returns a page; the pages of one listing show the images known when it began."""
        field, descending = _order(listing.order_by)
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            view = self._workspace.view(connection, taste)
            mark = hashlib.sha256(
                json.dumps([taste_id, asdict(listing.criteria), field, descending]).encode()
            ).hexdigest()[:16]
            offset, below = _read_token(listing.token, mark) if listing.token else (0, _last(view))
            rows = self._ordered(connection, taste, view, listing.criteria, field, below)
            rows = rows[::-1] if descending else rows
            offset += listing.skip
            page = rows[offset : offset + listing.size]
            images = image_records.read_rows(connection, taste_id, page.tolist())
        scores = self.scores(taste, view, images) if listing.with_scores else [None] * len(images)
        more = offset + len(page) < len(rows)
        token = _token(offset + len(page), below, mark) if more else ""
        return ImagePage(list(zip(images, scores, strict=True)), token, len(rows))

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
                result = vectors.collect(vectors.request(taste.embedder, view, [query], caller))[0]
                if isinstance(result, KonomiError):
                    raise result
                vector = result[None]
            similarities, positions = self._workspace.archive(taste, view).search(vector, count)
            inside = positions[0] >= 0
            images = image_records.read_rows(connection, taste_id, view.rows[positions[0][inside]].tolist())
        return list(zip(images, similarities[0][inside].tolist(), strict=True))

    def scores(self, taste: TasteRow, view: MatrixView, images: Sequence[ImageRow]) -> list[Score | None]:
        """Returns the score of each image, None where no rater is fitted, or none knows an image without pixels."""
        positions = [view.at(image.facts.digest) for image in images]
        known = np.array([at for at in positions if at is not None], dtype=np.int64)
        if not taste.active or not len(known):
            return [None] * len(images)
        scores = iter(self._scoring.score_known(taste, view, known))
        return [None if at is None else next(scores) for at in positions]

    def _ordered(
        self,
        connection: sqlalchemy.Connection,
        taste: TasteRow,
        view: MatrixView,
        criteria: Filter,
        field: str,
        below: int,
    ) -> np.ndarray:
        if criteria.by_facts:
            rows = image_records.select(connection, taste.id, criteria, min(below, EVERY_ROW))
        else:
            rows = view.rows[: np.searchsorted(view.rows, below, side="right")]  # all of them: no need to ask
        positions = view.indices(rows)
        if criteria.min_utility is not None or field == "utility":
            utility = self._scoring.predict_known(taste, view).utility[positions]
            if criteria.min_utility is not None:
                kept = utility >= criteria.min_utility
                rows, positions, utility = rows[kept], positions[kept], utility[kept]
            if field == "utility":
                order = np.argsort(utility, kind="stable")
                rows, positions = rows[order], positions[order]
        if criteria.min_novelty is not None or field == "novelty":
            novelty = self._novelties.of(taste, view, positions)
            if criteria.min_novelty is not None:
                kept = novelty >= criteria.min_novelty
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


def _last(view: MatrixView) -> int:
    return int(view.rows[-1]) if len(view) else 0


def _token(offset: int, below: int, mark: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([offset, below, mark]).encode()).decode()


def _read_token(token: str, mark: str) -> tuple[int, int]:
    try:
        offset, below, marked = json.loads(base64.urlsafe_b64decode(token.encode()))
        if marked != mark or not (0 <= offset < 2**62 and 0 <= below < 2**62):
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidArgument(
            "expected the page token of the last answer to this very listing, found another; start again without one",
            reason="PAGE_TOKEN_INVALID",
            field="page_token",
        ) from error
    return offset, below
