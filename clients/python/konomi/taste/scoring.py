"""Scores many files: two batches on their way, what is known from before taken over, a busy server waited for."""

import contextlib
import hashlib
import json
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from google.protobuf.json_format import MessageToDict, ParseDict

from konomi.client import Client
from konomi.client.messages import GRADES, plain
from konomi.client.refusals import told
from konomi.client.services import BATCH_BYTES, taste_name
from konomi.datasets.reader import ImageFile
from konomi.errors import ResourceExhausted, from_item
from konomi.v1 import rater_pb2 as rater

KEEP_SECONDS = 7 * 24 * 3600.0


class Fault(TypedDict):
    """Why an image has no score."""

    reason: str
    message: str


class Outcome(TypedDict, total=False):
    """What was said of a file: its score as the contract's JSON has it, or the fault."""

    score: dict[str, Any]
    error: Fault


class Entry(TypedDict):
    """One line of a journal, less its path."""

    digest: str
    version: str
    result: Outcome


class ScoreJournal:
    """One append-only file a command; a line that was cut off by a kill is dropped, everything before it counts."""

    def __init__(self, folder: Path, taste: str, paths: Sequence[Path]) -> None:
        """Opens the journal of this command; those of commands nobody went on with for a week are removed."""
        key = json.dumps([taste, sorted(str(path.absolute()) for path in paths)])
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.jsonl"
        for old in folder.glob("*.jsonl"):
            with contextlib.suppress(OSError):
                if old.stat().st_mtime < time.time() - KEEP_SECONDS:
                    old.unlink()
        self.entries = self._read()
        self._file = self._path.open("a", encoding="utf-8")

    def find(self, path: str, digest: str, version: str) -> Outcome | None:
        """Returns what was said of a file, if its bytes and the rater version are still the same."""
        entry = self.entries.get(path)
        if entry is None or entry["digest"] != digest or entry["version"] not in ("", version):
            return None
        return entry["result"]

    def add(self, path: str, digest: str, version: str, result: Outcome) -> None:
        """Notes what was said of a file; `version` is empty where the file itself is at fault."""
        entry = {"path": path, "digest": digest, "version": version, "result": result}
        self._file.write(json.dumps({**entry, "crc32": checksum(entry)}) + "\n")

    def flush(self) -> None:
        """Hands what was noted to the system; it outlives this process from then on."""
        self._file.flush()

    def close(self, *, finished: bool) -> None:
        """Closes the file; one that is finished is of no use any more."""
        self._file.close()
        if finished:
            self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        if not self._path.exists():
            return entries
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
                entry = json.loads(line)
                if entry.pop("crc32", None) != checksum(entry):
                    continue  # a damaged line is asked for again
                entries[entry["path"]] = Entry(digest=entry["digest"], version=entry["version"], result=entry["result"])
        if len(whole) < len(text):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        return entries


def checksum(entry: Mapping[str, Any]) -> int:
    """Returns what guards a line of a journal against a flipped bit."""
    return zlib.crc32(json.dumps(entry, sort_keys=True).encode())


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
        return {"path": self.path, "grade": self.grade} | plain(self.score)


@dataclass(frozen=True)
class _Item:
    file: ImageFile
    digest: str
    earlier: Scored | None


class ScoreRun:
    """One command's work; iterate it for the results in the order of the files."""

    def __init__(self, client: Client, taste: str, journal: ScoreJournal, stopped: threading.Event) -> None:
        self._client, self._taste, self._journal, self._stopped = client, taste_name(taste), journal, stopped
        active = client.rater.get_rater_version(name=f"{self._taste}/raterVersions/active")
        self._version = active.name

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
        entry = self._journal.find(file.name, digest, self._version)
        if entry is None:
            return None
        if "error" in entry:
            return Scored(file.name, error=entry["error"])
        return Scored(file.name, score=ParseDict(entry["score"], rater.Score()))

    def _ask(self, batch: Sequence[_Item]) -> Sequence[rater.ScoreResult]:
        inputs = [self._input(item.file) for item in batch if item.earlier is None]
        for _ in range(MOST_WAITS if inputs else 0):
            try:
                return self._client.rater.score_images(taste=self._taste, images=inputs).results
            except ResourceExhausted as error:
                if error.retry_after is None or self._stopped.wait(min(error.retry_after, LONGEST_WAIT)):
                    raise
        return self._client.rater.score_images(taste=self._taste, images=inputs).results if inputs else ()

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


def _scored(path: str, result: rater.ScoreResult) -> Scored:
    if result.HasField("error"):
        refused = from_item(result.error.code, result.error.reason, result.error.message)
        return Scored(path, error={"reason": refused.reason, "message": told(refused)})
    return Scored(path, score=result.score)
