"""Names of embedders: their parts, the files they mean in a home, and the space their vectors are kept under."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from konomi.errors import InvalidArgument

STARTER = "starter"
LITE = "timm:tf_efficientnet_lite0"
"""The one embedder whose weights come inside a package."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
FORMS = f'"{STARTER}", "open_clip:NAME/PRETRAINED-or-file", "timm:NAME/file" or "{LITE}"'
SPACES: Mapping[str, str] = {LITE: f"{LITE}#224-bicubic-0.875+early3-0.75/1"}
"""Embedder to the space of its vectors, where weights, preparation or pooling are konomi's own choice: another choice
is another space, so no vector of the one is ever taken for one of the other."""


@dataclass(frozen=True)
class EmbedderName:
    """The parts of a name: kind "starter", "open_clip" or "timm", model, and tag or file, empty where there is none."""

    kind: str
    model: str = ""
    file: str = ""

    @property
    def text(self) -> str:
        """The name as it is written."""
        return ":".join(part for part in (self.kind, "/".join(p for p in (self.model, self.file) if p)) if part)


def parse(name: str) -> EmbedderName:
    """Returns the parts of a name.

    Raises:
        InvalidArgument: it has none of the known forms.
    """
    if name == STARTER:
        return EmbedderName(STARTER)
    kind, _, rest = name.partition(":")
    model, _, file = rest.partition("/")
    whole = NAME.fullmatch(model) and (NAME.fullmatch(file) or name == LITE)
    if kind not in ("open_clip", "timm") or not whole or file.endswith((".pt", ".pth", ".bin", ".ckpt", ".pkl")):
        raise InvalidArgument(
            f"expected an embedder {FORMS}, weights as safetensors, found {name[:80]!r}",
            reason="EMBEDDER_UNKNOWN",
            field="taste.embedder",
        )
    return EmbedderName(kind, model, file)


def space_of(embedder: str) -> str:
    """Returns the name under which an embedder's vectors are kept."""
    return SPACES.get(embedder, embedder)


def folder(models: Path, name: EmbedderName) -> Path:
    """Returns the folder of a model within a home's models."""
    return models / name.kind / name.model


def weights(models: Path, name: EmbedderName) -> Path:
    """Returns where the weights of a name lie: in the model's own folder, or beside all others; it may not exist."""
    file = name.file if name.file.endswith(".safetensors") else f"{name.file}.safetensors"
    own = folder(models, name) / file
    return models / file if not own.is_file() and (models / file).is_file() else own
