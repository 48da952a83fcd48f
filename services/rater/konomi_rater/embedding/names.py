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
IN_FOLDER = "open_clip_model.safetensors"
"""Weights in a folder of their own, as they are published."""
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
    """Returns where the weights of a name lie; the first of its places where none has a file.

    They may lie in the model's own folder, in a folder of the tag with a configuration beside them, or beside all
    other models.
    """
    file = name.file if name.file.endswith(".safetensors") else f"{name.file}.safetensors"
    own = folder(models, name)
    places = (own / file, own / name.file / IN_FOLDER, models / file)
    return next((place for place in places if place.is_file()), places[0])


def open_clip_names(models: Path) -> list[tuple[EmbedderName, Path]]:
    """Returns the open_clip weights of a home with their names, the largest first."""
    single, whole = models.glob("open_clip/*/*.safetensors"), models.glob(f"open_clip/*/*/{IN_FOLDER}")
    candidates = [(EmbedderName("open_clip", path.parent.name, path.stem), path) for path in single]
    candidates += [(EmbedderName("open_clip", path.parents[1].name, path.parent.name), path) for path in whole]
    usable = [(name, path) for name, path in candidates if NAME.fullmatch(name.model) and NAME.fullmatch(name.file)]
    return sorted(usable, key=lambda pair: (-pair[1].stat().st_size, pair[0].text))
