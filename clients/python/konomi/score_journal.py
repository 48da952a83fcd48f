"""What `konomi score` has scored so far, line by line on disk: after a kill the same command goes on where it was."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEEP_SECONDS = 7 * 24 * 3600.0


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
        self.known = self._read()
        self._file = self._path.open("a", encoding="utf-8")

    def find(self, path: str, digest: str, version: str) -> dict[str, Any] | None:
        """Returns what was said of a file, if its bytes and the rater version are still the same."""
        entry = self.known.get(path)
        if entry is None or entry["digest"] != digest or entry["version"] not in ("", version):
            return None
        found: dict[str, Any] = entry["result"]
        return found

    def add(self, path: str, digest: str, version: str, result: dict[str, Any]) -> None:
        """Notes what was said of a file; `version` is empty where the file itself is at fault."""
        entry = {"path": path, "digest": digest, "version": version, "result": result}
        self._file.write(json.dumps(entry) + "\n")

    def flush(self) -> None:
        """Hands what was noted to the system; it outlives this process from then on."""
        self._file.flush()

    def close(self, *, finished: bool) -> None:
        """Closes the file; one that is finished is of no use any more."""
        self._file.close()
        if finished:
            self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if not self._path.exists():
            return found
        text = self._path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                found[entry["path"]] = {name: entry[name] for name in ("digest", "version", "result")}
        if len(whole) < len(text):
            with self._path.open("r+b") as file:
                file.truncate(len(whole))
                os.fsync(file.fileno())
        return found
