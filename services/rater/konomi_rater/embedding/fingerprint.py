"""What tells two copies of an embedder apart: a digest over the files its vectors depend on."""

import hashlib
import threading
from pathlib import Path

from konomi_rater.embedding import names, packaged
from konomi_rater.embedding.names import LITE, STARTER, VLM, EmbedderName


class Fingerprints:
    """Reads an embedder's files once and remembers what they were, as the embedder itself is loaded once.

    Args:
        models: the home's folder of models.
    """

    def __init__(self, models: Path) -> None:
        self._models, self._lock = models, threading.Lock()
        self._known: dict[str, str] = {}

    def of(self, embedder: str) -> str:
        """Returns the sha256 over names and digests of an embedder's files, empty where one is missing.

        Raises:
            InvalidArgument: a name of no known form.
        """
        with self._lock:
            known = self._known.get(embedder)
            if known is None:
                try:
                    lines = [line for single in names.parse(embedder).singles for line in self._lines(single)]
                except OSError:
                    return ""
                known = self._known[embedder] = hashlib.sha256("".join(lines).encode()).hexdigest()
            return known

    def _lines(self, name: EmbedderName) -> list[str]:
        """Returns a line for each file; raises OSError where there is none."""
        if name.plain == LITE:
            return [f"{LITE} {packaged.SHA256}\n"]  # the one that is ever opened
        if name.kind in (STARTER, VLM):
            folder = self._models / STARTER / "embedder" if name.kind == STARTER else names.folder(self._models, name)
            files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        else:
            weights = names.weights(self._models, name)
            beside = weights.parent / names.CONFIG
            files = [weights, beside] if name.kind == "open_clip" and beside.is_file() else [weights]
        return [f"{path.name} {_digest(path)}\n" for path in files]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
