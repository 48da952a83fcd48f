"""The images of a taste: added (decoded in a limited child, embedded once, remembered) and listed."""

import base64
import binascii
import hashlib
import json
import re
import threading
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy
from cachetools import LRUCache

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
from konomi_rater.usecases.workspace import Workspace

DIGEST = re.compile(r"[0-9a-f]{64}")
PROMPT_BYTES = 4096
TEXT_BYTES = 400
PATH_BYTES = 1024
OUTSIDE = re.compile(r"^(?:[A-Za-z]:)?[\\/]|(?:^|/)\.\.(?:/|$)")
"""A path of a machine, or one that leads out of the folder it is told of."""
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
            existing = image_records.known(connection, taste.id, [facts.digest for facts in images])
            for place, facts in enumerate(images):
                size = sizes.get(facts.digest)
                error = refused.get(place) or revoked.get(facts.digest)
                if error is None and facts.digest not in existing:
                    error = self._missing(facts.digest)
                if error is not None or size is None:
                    results.append(Added(facts.digest, error=error))
                else:
                    new = image_records.add(connection, taste.id, facts, size, self._workspace.clock())
                    results.append(Added(facts.digest, already_known=not new))
        return results

    def _welcome_back(self, connection: sqlalchemy.Connection, taste: str, images: Sequence[ImageFacts]) -> None:
        """Ends the collected state of images whose pixels were put again."""
        gone = collected.without_pixels(connection, taste, [facts.digest for facts in images])
        back = sorted(digest for digest in gone if self._workspace.store.exists(digest))
        collected.note_returned(connection, taste, back, "added again", self._workspace.clock())

    def _missing(self, digest: str) -> KonomiError | None:
        """Returns why a new image cannot be added where its pixels went while it was embedded; None where it can."""
        store = self._workspace.store
        if not store.is_local:
            return None
        try:
            store.stat(digest)
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
        ("path", PATH_BYTES),
        ("elsewhere_model", TEXT_BYTES),
    ):
        value = getattr(facts, name)
        if len(value.encode()) > limit:
            raise _wrong(name, "TEXT_TOO_LONG", f"at most {limit} bytes of UTF-8, found {len(value.encode())}")
        if any(unicodedata.category(letter) == "Cc" for letter in value):
            raise _wrong(name, "TEXT_CONTROL", "text without control characters, found one")
    if OUTSIDE.search(facts.path):
        raise _wrong("path", "PATH_OUTSIDE", "a path within what was imported, found one that leads out of it")
    if len(facts.parameters) > MOST_PARAMETERS or not all(
        len(k) <= 64 and np.isfinite(v) for k, v in facts.parameters.items()
    ):
        raise _wrong("parameters", "PARAMETERS_INVALID", f"at most {MOST_PARAMETERS} finite numbers under short names")


def _wrong(field: str, reason: str, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"expected {expected}; correct the image's {field} and send it again", reason=reason, field=f"image.{field}"
    )


ORDERS = ("create_time", "utility", "novelty", "digest")
FEW = 4096
"""No more images than these are sorted anew for each page."""
ORDERS_KEPT = 8
"""Orders of whole libraries that are kept at most: 8 MB each at a million images."""
Value = int | float | str
"""What images are ordered by: a row or a number, or a digest."""


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
    """The use cases behind ListImages and GetImage."""

    def __init__(self, workspace: Workspace, scoring: Scoring) -> None:
        self._workspace, self._scoring, self._novelties = workspace, scoring, Novelties(workspace.archive)
        self._lock = threading.Lock()
        self._orders: LRUCache[tuple[str, str, str, str, int, int], np.ndarray] = LRUCache(ORDERS_KEPT)

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
            below, last = _read_token(listing.token, mark) if listing.token else (_last(view), None)
            order = self._ordered(connection, taste, view, listing.criteria, field, below)
            start = order.start(last, descending) if last else (len(order.positions) if descending else 0)
            end = start - listing.skip if descending else start + listing.skip
            shown = order.page(max(0, end), listing.size, descending)
            images = image_records.read_rows(connection, taste_id, view.rows[shown].tolist())
            more = len(shown) and shown[-1] != order.positions[0 if descending else -1]
            token = _token(order.key(int(shown[-1])), below, mark) if more else ""
        scores = self.scores(taste, view, images) if listing.with_scores else [None] * len(images)
        return ImagePage(list(zip(images, scores, strict=True)), token, len(order.positions))

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
    ) -> "_Order":
        count = int(np.searchsorted(view.rows, below, side="right"))
        positions = np.arange(count)
        if criteria.by_facts:
            positions = image_records.admit(view, criteria, self._grades(connection, taste, view, criteria))
            positions = positions[: np.searchsorted(positions, count)]
        if criteria.path_contains:
            named = image_records.rows_at_path(connection, taste.id, criteria.path_contains)
            positions = positions[np.isin(view.rows[positions], named)]
        if criteria.min_utility is not None:
            utility = self._scoring.predict_known(taste, view).utility
            positions = positions[utility[positions] >= criteria.min_utility]
        if criteria.min_novelty is not None:
            positions = positions[self._novelties.of(taste, view, positions) >= criteria.min_novelty]
        values = self._values(taste, view, field, positions)
        if field == "create_time" or not len(positions):
            return _Order(view, values, positions)
        if len(positions) <= FEW:
            keys = np.array([values(int(at)) for at in positions])
            return _Order(view, values, positions[np.argsort(keys, kind="stable")])
        whole = self._whole_order(taste, view, field)
        if len(positions) < len(whole):
            kept = np.zeros(len(view), bool)
            kept[positions] = True
            whole = whole[kept[whole]]
        return _Order(view, values, whole)

    def _grades(
        self, connection: sqlalchemy.Connection, taste: TasteRow, view: MatrixView, criteria: Filter
    ) -> np.ndarray:
        """Returns the grade of every image where the filter names one; else nothing is looked up."""
        if not criteria.grades:
            return np.zeros(0, np.int8)
        return self._workspace.grade_column(taste, view, self._workspace.grades(connection, taste.id))

    def _values(self, taste: TasteRow, view: MatrixView, field: str, positions: np.ndarray) -> Callable[[int], Value]:
        """Returns what gives the value of an image at a position of those listed."""
        if field == "utility":
            utility = self._scoring.predict_known(taste, view).utility
            return lambda at: float(utility[at])
        if field == "novelty":
            of_these = self._novelties.of(taste, view, positions)
            if len(positions) == len(view):
                return lambda at: float(of_these[at])
            places = np.zeros(len(view), np.int64)
            places[positions] = np.arange(len(positions))
            return lambda at: float(of_these[places[at]])
        return (lambda at: view.digests[at]) if field == "digest" else (lambda at: int(view.rows[at]))

    def _whole_order(self, taste: TasteRow, view: MatrixView, field: str) -> np.ndarray:
        """Returns the positions of all images in ascending order of a field, kept for the views asked for last."""
        version = self._workspace.artifact(taste.id, taste.active) if field == "utility" else ""
        key = (taste.uid, taste.embedder, field, version, view.generation, len(view))
        with self._lock:
            order = self._orders.get(key)
        if order is None:
            if field == "digest":
                order = view.digests.order()
            else:
                every = np.arange(len(view))
                by_utility = field == "utility"
                novelty = np.zeros(0) if by_utility else self._novelties.of(taste, view, every)
                values = self._scoring.predict_known(taste, view).utility if by_utility else novelty
                order = np.argsort(values, kind="stable")
            with self._lock:
                self._orders[key] = order
        return order


@dataclass(frozen=True)
class _Order:
    """Images in the order of a listing.

    Attributes:
        view: the images.
        value: what they are ordered by, of an image at a position; among equal ones the older comes first.
        positions: (M,) of the images listed, ascending.
    """

    view: MatrixView
    value: Callable[[int], Value]
    positions: np.ndarray

    def key(self, at: int) -> tuple[Value, int]:
        """Returns what places an image in the order: its value, then its row."""
        return (self.value(at), int(self.view.rows[at]))

    def start(self, last: tuple[Value, int], descending: bool) -> int:
        """Returns where the page after the image of key `last` begins: past it, or before it where descending."""
        find = bisect_left if descending else bisect_right
        try:
            return find(self.positions, last, key=lambda at: self.key(int(at)))
        except TypeError as error:
            raise _token_invalid() from error

    def page(self, start: int, size: int, descending: bool) -> np.ndarray:
        """Returns the positions of a page: from `start` on, or backwards below it."""
        if descending:
            return self.positions[max(0, start - size) : start][::-1]
        return self.positions[start : start + size]


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


def _token(key: tuple[Value, int], below: int, mark: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([*key, below, mark]).encode()).decode()


def _read_token(token: str, mark: str) -> tuple[int, tuple[Value, int]]:
    """Returns the newest row a listing shows, and the key of the last image it showed."""
    try:
        value, row, below, marked = json.loads(base64.urlsafe_b64decode(token.encode()))
        if marked != mark or not isinstance(value, int | float | str) or not (0 <= row < 2**62 and 0 <= below < 2**62):
            raise ValueError
    except (ValueError, TypeError, binascii.Error) as error:
        raise _token_invalid() from error
    return below, (value, row)


def _token_invalid() -> InvalidArgument:
    return InvalidArgument(
        "expected the page token of the last answer to this very listing, found another; start again without one",
        reason="PAGE_TOKEN_INVALID",
        field="page_token",
    )
