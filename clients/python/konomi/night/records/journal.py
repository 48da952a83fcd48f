"""What every finished step of a night left, one line a step, each with its own sha256.

The workflow's database says the same; where it is lost or damaged, the night goes on from this journal, and no step
that is in it runs again.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from konomi.files import canonical, write_atomically
from konomi.night.records.sealed import Json, set_aside

NAME = "steps.jsonl"


class Occurrences:
    """Numbers steps of one name, so that the second of them is none the first left."""

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()

    def key(self, step: str) -> str:
        """Returns the name of a step, from its second time on with a number."""
        self._count[step] += 1
        return step if self._count[step] == 1 else f"{step}#{self._count[step]}"


class StepJournal:
    """The journal of one night; one process writes it."""

    def __init__(
        self, folder: Path, schema: str, also: Callable[[int, bytes], None] = lambda _number, _line: None
    ) -> None:
        """Takes the night's folder, the schema of its steps, and who else keeps each line, by its number from 0.

        Lines of another schema are kept apart.
        """
        self._path, self._schema, self._also = folder / NAME, schema, also
        self._entries: dict[str, Json] | None = None
        self._count = 0
        self.foreign = False

    def get(self, step: str) -> Json | None:
        """Returns what a step left, None where it is not in the journal."""
        return self._read().get(step)

    def entries(self) -> Mapping[str, Json]:
        """Returns what each step left, by name, in the order the steps finished."""
        return self._read()

    def append(self, step: str, envelope: Mapping[str, Any]) -> None:
        """Notes what a step left, durably; what is there already stays as it is.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
            Unavailable: who else keeps it cannot be reached.
        """
        entries = self._read()
        if step in entries:
            return
        line = _line(self._schema, step, envelope)
        with open(self._path, "ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._also(self._count, line)
        self._count += 1
        entries[step] = json.loads(canonical(envelope))

    def _read(self) -> dict[str, Json]:
        """Returns the entries up to the first damaged line; what follows it is cut off, for it may rest on it."""
        if self._entries is None:
            if os.path.lexists(self._path) and not self._path.is_file():
                set_aside(self._path)
            data = self._path.read_bytes() if self._path.exists() else b""
            self._entries, self._count, sound = {}, 0, 0
            for line in data.splitlines(keepends=True):
                entry = _entry(line)
                if entry is None:
                    break
                sound, self._count = sound + len(line), self._count + 1
                if entry["schema"] == self._schema:
                    self._entries[entry["step"]] = entry["envelope"]
                else:
                    self.foreign = True
            if sound < len(data):
                write_atomically(self._path, data[:sound], mode=0o600)
        return self._entries


def _line(schema: str, step: str, envelope: Mapping[str, Any]) -> bytes:
    entry = {"schema": schema, "step": step, "envelope": envelope}
    return canonical({**entry, "sha256": hashlib.sha256(canonical(entry)).hexdigest()}) + b"\n"


def _entry(line: bytes) -> Json | None:
    """Returns the entry of a line, None where it is damaged or was never finished."""
    with suppress(ValueError, RecursionError, AttributeError, KeyError, TypeError):
        entry = json.loads(line.decode("utf-8"))
        digest = entry.pop("sha256")
        sound = line.endswith(b"\n") and digest == hashlib.sha256(canonical(entry)).hexdigest()
        if sound and isinstance(entry["step"], str) and isinstance(entry["envelope"], dict) and "schema" in entry:
            return dict(entry)
    return None
