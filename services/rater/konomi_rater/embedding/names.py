"""Names of embedders: their parts, the files they mean in a home, and the space their vectors are kept under.

A name may end in the precision its tower computes in, "@bf16" or "@fp16"; without one it is float32. Vectors of two
precisions are near but not equal, so they are of two embedders: what rests on a name (vectors, indices, heads,
bundles) never mixes them, and a taste keeps the precision it began with on whatever machine it is opened.

"#early" behind a model of timm adds statistics of its early layers; the number behind "vlm:FOLDER" is that of a layer
of a vision-language model. Two names joined by "+" are one embedder, whose
vectors are those of both side by side; the precision behind them is that of both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from konomi.errors import InvalidArgument

STARTER = "starter"
LITE = "timm:tf_efficientnet_lite0"
"""The one embedder whose weights come inside a package."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
EARLY = "early"
"""Layers a name may ask for of a model of timm, besides its last."""
VLM = "vlm"
LAYER = re.compile(r"0|[1-9][0-9]{0,2}")
FORMS = (
    f'"{STARTER}", "open_clip:NAME/PRETRAINED-or-file", "timm:NAME/file" (with "#{EARLY}" for its early layers too), '
    f'"{LITE}", "{VLM}:FOLDER#layer" or two of these joined by "+"'
)
FP32, HALVES = "fp32", ("bf16", "fp16")
"""Precisions of a tower; the first is in no name."""
AUTO = "auto"
MOST_JOINED = 2
IN_FOLDER = "open_clip_model.safetensors"
"""Weights in a folder of their own, as they are published."""
CONFIG = "open_clip_config.json"
"""Beside weights of a model open_clip does not know."""
SPACES: Mapping[str, str] = {LITE: f"{LITE}#224-bicubic-0.875+early3-0.75/1"}
"""Embedder to the space of its vectors, where weights, preparation or pooling are konomi's own choice: another choice
is another space, so no vector of the one is ever taken for one of the other."""
EARLY_SPACE = "-0.75/1"
"""Behind "#early" in the name of a space: the weight of the early part, and the number of the way it is made."""
VLM_SPACE = "-mean/1"
"""Behind the layer of a vision-language model: how its states become one vector, and the number of that way."""


@dataclass(frozen=True)
class EmbedderName:
    """The parts of a name: kind, model, and tag or file, empty where there is none.

    Attributes:
        kind: "starter", "open_clip", "timm" or "vlm".
        precision: what the tower computes in: "fp32", "bf16" or "fp16".
        layers: "early" where those are looked at too; of a vision-language model the number of the layer.
        joined: the two embedders this one joins; then kind, model, file and layers are empty.
    """

    kind: str
    model: str = ""
    file: str = ""
    precision: str = FP32
    layers: str = ""
    joined: tuple["EmbedderName", ...] = ()

    @property
    def plain(self) -> str:
        """The name without its precision."""
        if self.joined:
            return "+".join(name.plain for name in self.joined)
        whole = ":".join(part for part in (self.kind, "/".join(p for p in (self.model, self.file) if p)) if part)
        return f"{whole}#{self.layers}" if self.layers else whole

    @property
    def singles(self) -> tuple["EmbedderName", ...]:
        """The embedders it is made of, each with its precision: itself, or the two it joins."""
        return tuple(replace(name, precision=self.precision) for name in self.joined) or (self,)

    @property
    def text(self) -> str:
        """The name as it is written."""
        return self.plain if self.precision == FP32 else f"{self.plain}@{self.precision}"


def parse(name: str) -> EmbedderName:
    """Returns the parts of a name.

    Raises:
        InvalidArgument: it has none of the known forms.
    """
    plain, mark, precision = name.partition("@")
    found = [_single(part) for part in plain.split("+")]
    singles = [part for part in found if part is not None]
    whole = len(singles) == len(found) <= MOST_JOINED and len(set(singles)) == len(singles)
    if not whole or (mark and precision not in (FP32, *HALVES)):
        raise InvalidArgument(
            f"expected an embedder {FORMS}, weights as safetensors, each maybe with @bf16 or @fp16 behind it, found "
            f"{name[:80]!r}",
            reason="EMBEDDER_UNKNOWN",
            field="taste.embedder",
        )
    if len(singles) == 1:
        return replace(singles[0], precision=precision or FP32)
    return EmbedderName("", precision=precision or FP32, joined=tuple(singles))


def _single(plain: str) -> EmbedderName | None:
    """Returns the parts of a name that joins nothing, without a precision; None where it has none of the forms."""
    if plain == STARTER:
        return EmbedderName(STARTER)
    bare, mark, layers = plain.partition("#")
    kind, _, rest = bare.partition(":")
    model, _, file = rest.partition("/")
    if kind == VLM:
        whole = bool(NAME.fullmatch(rest) and LAYER.fullmatch(layers))
        return EmbedderName(kind, rest, layers=layers) if whole else None
    whole = bool(NAME.fullmatch(model) and (NAME.fullmatch(file) or plain == LITE))
    whole &= kind in ("open_clip", "timm") and not file.endswith((".pt", ".pth", ".bin", ".ckpt", ".pkl"))
    whole &= not mark or (kind == "timm" and layers == EARLY)
    return EmbedderName(kind, model, file, layers=layers) if whole else None


def in_precision(name: str, precision: str) -> str:
    """Returns a name with a precision where it says none itself, as it is written: "x@fp32" becomes "x".

    Raises:
        InvalidArgument: it has none of the known forms.
    """
    parts = parse(name)
    return parts.text if "@" in name else replace(parts, precision=precision).text


def plain(embedder: str) -> str:
    """Returns an embedder's name without its precision."""
    return embedder.partition("@")[0]


def space_of(embedder: str) -> str:
    """Returns the name under which an embedder's vectors are kept: another precision is another space."""
    name, mark, precision = embedder.partition("@")
    return "+".join(map(_space, name.split("+"))) + mark + precision


def _space(single: str) -> str:
    made = VLM_SPACE if single.startswith(f"{VLM}:") else EARLY_SPACE if single.endswith(f"#{EARLY}") else ""
    return SPACES.get(single, single) + made


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
