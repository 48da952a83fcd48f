"""Images of any origin become known to a taste: stored, added, and graded as their owner rated them elsewhere.

The two durable steps of an image, adding and grading, are decided by what stands and not by each other: an import that
was killed between them is finished by the same command, and a second copy's rating counts.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field

from konomi.client import Client, refusals
from konomi.client.services import taste_name
from konomi.datasets.beside import told
from konomi.datasets.captions import making_of, seed_of
from konomi.datasets.media import ImageFile
from konomi.datasets.png_metadata import (
    NEEDS_EXTRA,
    UNDECODABLE,
    Origin,
    origin_of,
)
from konomi.datasets.prompts import MAX_PROMPT_BYTES
from konomi.datasets.tally import Complaint, Tally
from konomi.datasets.xmp import rating_inside
from konomi.errors import KonomiError, PermissionDenied, Unauthenticated, Unavailable, from_item
from konomi.host.extras import pip_line
from konomi.i18n.catalogue import text
from konomi.v1 import rater_pb2 as rater

BATCH = 32
AHEAD = 2
"""Batches the rater has at once: while it writes one down, the next is decoded and embedded, and a third is stored."""
PAGE = 1000


@dataclass
class ImportSummary:
    """What became of the images."""

    added: int = 0
    already_known: int = 0
    foreign: int = 0
    """Images among them that the starter model did not make."""
    rated: int = 0
    """Ratings taken over as grades."""
    failed: list[dict[str, str]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    """What was there and not understood, and what was passed over."""

    @property
    def images(self) -> int:
        """How many images were met, those that were refused too."""
        return self.added + self.already_known + len(self.failed)

    def fail(self, name: str, error: KonomiError) -> None:
        """Notes an image that was refused."""
        self.failed.append({"path": name, "reason": error.reason, "message": refusals.told(error)})

    def counts(self) -> dict[str, object]:
        """Returns it as JSON has it."""
        return {
            "added": self.added,
            "rated": self.rated,
            "already_known": self.already_known,
            "failed": self.failed,
            "unread": [unread.as_dict() for unread in self.tally.unread],
            "passed_over": dict(sorted(self.tally.passed_over.items())),
        }


@dataclass(frozen=True)
class _Added:
    """One image on its way: its file, what it says of itself, and what is asked of the rater."""

    file: ImageFile
    origin: Origin
    request: rater.AddImagesRequest

    @property
    def digest(self) -> str:
        return self.request.image.digest


@dataclass(frozen=True)
class _Underway:
    """A batch the rater is making known, and what it will say of each image."""

    items: Sequence[_Added]
    results: Future[list[rater.AddImagesResponse]]


class GradedImages:
    """The images of a taste that someone graded, or whose grade they took back: read as far as the log has grown."""

    def __init__(self, client: Client, taste: str) -> None:
        self._client, self._taste = client, taste
        self._digests: set[str] = set()
        self._token = ""

    def among(self, digests: Iterable[str]) -> set[str]:
        """Returns those images of some that were graded by now."""
        wanted = set(digests)
        if wanted - self._digests:
            self._read_on()
        return wanted & self._digests

    def _read_on(self) -> None:
        while True:
            page = self._client.rater.list_labels(taste=self._taste, page_size=PAGE, page_token=self._token)
            self._digests.update(label.image_digest for label in page.labels)
            if not page.next_page_token:
                return  # the last page is read again next time: it may have grown
            self._token = page.next_page_token


class ImportRun:
    """One import into one taste."""

    def __init__(self, client: Client, taste: str, given: rater.Image, summary: ImportSummary) -> None:
        """Begins an import.

        Args:
            client: the services.
            taste: "tastes/{taste}" or the id.
            given: what holds for all images: source, licence, consent.
            summary: takes what became of them.
        """
        self._client, self._taste, self._given, self._summary = client, taste_name(taste), given, summary
        self._graded = GradedImages(client, self._taste)
        self._recorded: dict[str, int] = {}
        self._underway: deque[_Underway] = deque()

    def add_all(self, files: Iterable[ImageFile], report: Callable[[int], None]) -> None:
        """Stores images and makes them known, some dozens at a time; a bad image is noted and passed over.

        Args:
            files: the images.
            report: told how many are done.
        """
        batch: list[ImageFile] = []
        with ThreadPoolExecutor(AHEAD, "konomi-import") as pool:
            try:
                for number, file in enumerate(files, start=1):
                    if file.error is not None:
                        self._summary.fail(file.name, file.error)
                    else:
                        batch.append(file)
                    if len(batch) == BATCH:
                        self._add(batch, pool)
                        report(number)
                        batch = []
                self._add(batch, pool)
            except KonomiError:
                while self._underway:  # what was sent is known, and has its ratings, whatever ends the import
                    with suppress(KonomiError):
                        self._finish()
                raise
            while self._underway:
                self._finish()

    def _add(self, batch: Sequence[ImageFile], pool: Executor) -> None:
        """Stores a batch while the rater embeds those before, then sends it there."""
        items = [item for file in batch if (item := self._stored(file)) is not None]
        if len(self._underway) == AHEAD:
            self._finish()
        if items:
            requests = [item.request for item in items]
            results = pool.submit(copy_context().run, self._client.rater.add_images.exchange, requests)
            self._underway.append(_Underway(items, results))

    def _finish(self) -> None:
        """Waits for the first batch under way, and records its ratings; it is counted once, however it ends."""
        underway = self._underway.popleft()
        known: list[_Added] = []
        fresh: list[_Added] = []
        for item, result in zip(underway.items, underway.results.result(), strict=True):
            if result.HasField("error"):
                error = result.error
                self._summary.fail(item.file.name, from_item(error.code, error.reason, error.message))
                continue
            self._summary.already_known += result.already_known
            self._summary.added += not result.already_known
            self._summary.foreign += not item.origin.starter
            (known if result.already_known else fresh).append(item)
        self._grade([*fresh, *known], {item.digest for item in fresh})

    def _stored(self, file: ImageFile) -> _Added | None:
        """Stores an image and returns it with what is asked of the rater; None where it is refused."""
        try:
            digest = self._client.artifacts.put(file.data, file.media_type).digest
        except (Unavailable, Unauthenticated, PermissionDenied):
            raise  # every other image would be refused as well
        except KonomiError as error:
            self._summary.fail(file.name, error)
            return None
        origin, complain = origin_of(file.data), self._summary.tally.at(file.name)
        prompt = origin.prompt if file.caption is None else file.caption
        _tell_of_prompt(file, origin, complain)
        seed = _seed(file, origin, complain) or 0
        image = rater.Image(digest=digest, prompt=prompt, seed=seed, path=file.path, elsewhere_model=origin.model)
        image.parameters.update({**origin.numbers, **making_of(file.facts)})
        image.MergeFrom(self._given)
        return _Added(file, origin, rater.AddImagesRequest(taste=self._taste, image=image))

    def _grade(self, items: Sequence[_Added], fresh: set[str]) -> None:
        """Records the ratings of images nobody has graded here; a known image keeps the grade its owner gave it."""
        ratings: dict[str, int] = {}
        for item in items:
            complain = self._summary.tally.at(item.file.name)
            rating = item.file.rating
            if rating.silent:
                rating = rating_inside(item.file.data)
                told(rating, complain)
            if not rating.grade:
                continue  # nobody rated it, or someone says that it has no rating
            earlier = self._recorded.get(item.digest, ratings.get(item.digest, rating.grade))
            if earlier != rating.grade:
                line = text("a copy of this image was rated {earlier} before; {got} was not taken over",
                            earlier=earlier, got=rating.grade)  # fmt: skip
                complain("rating", "RATING_CONTRADICTED", line)
            ratings[item.digest] = earlier
        taken = self._graded.among(digest for digest in ratings if digest not in fresh) | set(self._recorded)
        labels = [
            rater.Label(image_digest=digest, grade=rater.Grade.ValueType(grade))
            for digest, grade in ratings.items()
            if digest not in taken
        ]
        if labels:
            self._client.rater.record_labels(taste=self._taste, labels=labels)
            self._recorded |= {label.image_digest: int(label.grade) for label in labels}
            self._summary.rated += len(labels)


def _tell_of_prompt(file: ImageFile, origin: Origin, complain: Complaint) -> None:
    """Notes a prompt inside an image that was not read, where nothing beside the image says one."""
    if origin.cut and file.caption is None:
        line = text("its prompt is longer than {most} bytes, and was cut there", most=MAX_PROMPT_BYTES)
        complain("prompt", "PROMPT_CUT", line)
    if not origin.unread or file.caption is not None:
        return
    if origin.unread == NEEDS_EXTRA:
        message = text("it holds a prompt that needs an extra; run: {line}", line=pip_line("files"))
    elif origin.unread == UNDECODABLE:
        message = text("it holds a text that is damaged, too large or in no encoding that is known")
    else:
        message = text("it holds a record of a kind that is not known, which may have its prompt")
    complain("prompt", origin.unread, message)


def _seed(file: ImageFile, origin: Origin, complain: Complaint) -> int | None:
    """Returns the seed an image says, else the one beside it; what is no seed is noted."""
    if origin.seed is not None:
        return origin.seed
    odd = origin.odd_seed
    try:
        seed = seed_of(file.facts)
    except (ValueError, OverflowError):
        seed, odd = None, str(file.facts.get("seed"))[:40]
    if seed is None and odd:
        complain("seed", "SEED_UNKNOWN", text("expected a whole number below 2^63 as its seed, got {got}", got=odd))
    return seed
