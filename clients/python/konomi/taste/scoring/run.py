"""Scores many files: two batches on their way, what is known from before taken over, a busy server waited for."""

import hashlib
import threading
from base64 import b64decode
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict

from konomi.client import Client
from konomi.client.messages import GRADES, plain
from konomi.client.refusals import told
from konomi.client.services import BATCH_BYTES, taste_name
from konomi.datasets.reader import ImageFile
from konomi.errors import ResourceExhausted, from_item
from konomi.taste.scoring.journal import Fault, Outcome, ScoreJournal
from konomi.v1 import rater_pb2 as rater

BATCH_IMAGES = 32
AHEAD = 2
LONGEST_WAIT = 30.0
MOST_WAITS = 60


@dataclass(frozen=True)
class Scored:
    """One image and its score, or why it has none."""

    path: str
    score: rater.Score | None = None
    error: Fault | None = None

    @property
    def grade(self) -> str:
        """The most probable grade."""
        chances = list(self.score.grade_probabilities) if self.score else []
        return GRADES[chances.index(max(chances))] if len(chances) == len(GRADES) else ""

    def as_dict(self) -> Mapping[str, object]:
        """Returns it as JSON has it."""
        if self.score is None:
            return {"path": self.path, "error": self.error}
        said = {"path": self.path, "grade": self.grade} | plain(self.score)
        said.pop("signature", None)  # means nothing to people, and nothing to scripts across embedders
        return said


@dataclass(frozen=True)
class _Item:
    file: ImageFile
    digest: str
    earlier: Scored | None


class ScoreRun:
    """One command's work; iterate it for the results in the order of the files.

    Attributes:
        version: the rater version that was active when it began.
    """

    def __init__(
        self,
        client: Client,
        taste: str,
        journal: ScoreJournal,
        stopped: threading.Event,
        *,
        signatures: bool = False,
    ) -> None:
        """Prepares the work; with `signatures` each score brings what tells near-copies apart."""
        self._client, self._taste, self._journal, self._stopped = client, taste_name(taste), journal, stopped
        self._signatures = signatures
        active = client.rater.get_rater_version(name=f"{self._taste}/raterVersions/active")
        self.version: str = active.name

    def score(self, files: Iterator[ImageFile]) -> Iterator[Scored]:
        """Yields a score or an error per file; ends early, between two batches, once it is told to stop."""
        with ThreadPoolExecutor(AHEAD) as pool:
            ahead: deque[tuple[list[_Item], Future[Sequence[rater.ScoreResult]]]] = deque()
            for batch in self._batches(files):
                if self._stopped.is_set():
                    break
                ahead.append((batch, pool.submit(copy_context().run, self._ask, batch)))
                if len(ahead) >= AHEAD:
                    yield from self._answered(*ahead.popleft())
            while ahead:
                yield from self._answered(*ahead.popleft())

    def _batches(self, files: Iterator[ImageFile]) -> Iterator[list[_Item]]:
        batch: list[_Item] = []
        size = 0
        for file in files:
            digest = hashlib.sha256(file.data).hexdigest()
            item = _Item(file, digest, self._earlier(file, digest))
            weight = len(file.data) if item.earlier is None else 0
            if batch and (len(batch) == BATCH_IMAGES or size + weight > BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(item)
            size += weight
        if batch:
            yield batch

    def _earlier(self, file: ImageFile, digest: str) -> Scored | None:
        if file.error is not None:
            return Scored(file.name, error={"reason": file.error.reason, "message": file.error.message})
        entry = self._journal.find(file.name, digest, self.version)
        if entry is None:
            return None
        if "error" in entry:
            return Scored(file.name, error=entry["error"])
        return Scored(file.name, score=_score(entry["score"]))

    def _ask(self, batch: Sequence[_Item]) -> Sequence[rater.ScoreResult]:
        inputs = [self._input(item.file) for item in batch if item.earlier is None]
        if not inputs:
            return ()
        ask = partial(
            self._client.rater.score_images, taste=self._taste, images=inputs, include_signatures=self._signatures
        )
        for _ in range(MOST_WAITS):
            try:
                return ask().results
            except ResourceExhausted as error:
                if error.retry_after is None or self._stopped.wait(min(error.retry_after, LONGEST_WAIT)):
                    raise
        return ask().results

    def _answered(self, batch: Sequence[_Item], asked: "Future[Sequence[rater.ScoreResult]]") -> Iterator[Scored]:
        results = iter(asked.result())
        fresh = [item.earlier or _scored(item.file.name, next(results)) for item in batch]
        for item, scored in zip(batch, fresh, strict=True):
            if item.earlier is None and scored.score is not None:
                outcome: Outcome = {"score": MessageToDict(scored.score, preserving_proto_field_name=True)}
                self._journal.add(item.file.name, item.digest, scored.score.rater_version, outcome)
            elif item.earlier is None and scored.error is not None:
                self._journal.add(item.file.name, item.digest, "", {"error": scored.error})
        self._journal.flush()
        yield from fresh

    def _input(self, file: ImageFile) -> rater.ImageInput:
        """Returns the image inline, or stored and by its digest where it is larger than a message may be."""
        if len(file.data) > BATCH_BYTES:
            return rater.ImageInput(digest=self._client.artifacts.put(file.data, file.media_type).digest)
        return rater.ImageInput(content=file.data)


def _score(kept: Mapping[str, Any]) -> rater.Score:
    """Returns a score from what the contract's JSON says of it; ParseDict alone takes five times as long."""
    try:
        return rater.Score(**{**kept, "signature": b64decode(kept.get("signature", ""))})
    except (TypeError, ValueError):  # a number that JSON cannot say, or a field of a newer version
        return ParseDict(dict(kept), rater.Score(), ignore_unknown_fields=True)


def _scored(path: str, result: rater.ScoreResult) -> Scored:
    if result.HasField("error"):
        refused = from_item(result.error.code, result.error.reason, result.error.message)
        return Scored(path, error={"reason": refused.reason, "message": told(refused)})
    return Scored(path, score=result.score)
