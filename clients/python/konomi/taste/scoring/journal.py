"""What a command that scores has learnt so far, on disk: whoever runs it again goes on from there."""

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from konomi.files import write_atomically

KEEP_SECONDS = 7 * 24 * 3600.0
MOST_STALE = 2
"""Lines of a kept journal for each one that is of use, at most."""


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
        self._lines = self._fresh = 0
        self.entries = self._read()
        with contextlib.suppress(OSError):
            os.utime(self._path)  # what is used is not removed
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
        self._lines += 1
        self._fresh += 1

    def flush(self) -> None:
        """Hands what was noted to the system; it outlives this process from then on."""
        self._file.flush()

    def close(self, *, finished: bool) -> None:
        """Closes the file; one that is finished is of no use any more."""
        self._file.close()
        if finished:
            self._path.unlink(missing_ok=True)

    def keep(self, version: str) -> None:
        """Closes the file and keeps it for the same command, without other versions' lines once these prevail.

        Args:
            version: the rater version whose scores are of use from now on.
        """
        self._file.close()
        if not self._lines > MOST_STALE * max(1, self._of(version)):
            return
        kept = []
        for line in self._path.read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                if json.loads(line)["version"] in ("", version):
                    kept.append(line + b"\n")
        write_atomically(self._path, b"".join(kept))

    def _of(self, version: str) -> int:
        return self._fresh + sum(entry["version"] in ("", version) for entry in self.entries.values())

    def _read(self) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        if not self._path.exists():
            return entries
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._lines += 1
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
