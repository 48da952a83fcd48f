"""Images and texts to unit vectors by open_clip or timm models; weights are safetensors only."""

import json
import re
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import open_clip
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import center_crop, resize, to_pil_image

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.decode_process import Fit

FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.safetensors")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
KINDS = '"starter", "open_clip:NAME/PRETRAINED-or-file" or "timm:NAME/file"'


class Embedder(Protocol):
    """What turns images, and where it can texts, into unit vectors."""

    dimensions: int
    reads_text: bool
    fit: Fit

    def embed(self, images: Sequence[np.ndarray], *, keep: bool) -> np.ndarray:
        """Maps RGB images (H, W, 3) uint8 to (N, D) float32; `keep` makes each row independent of the others.

        An image decoded with `fit` goes in as it is; one of any other size is brought to it first.
        """

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps texts to (N, D) float32 in the space of the images."""


@dataclass(frozen=True)
class Placement:
    """Where and in what portions a model runs."""

    device: str
    threads: int
    batch: int


@dataclass(frozen=True)
class Preparation:
    """How pixels become what a tower takes.

    Attributes:
        fit: the size.
        mean, std: of the three channels, on the scale 0..1.
    """

    fit: Fit
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: Sequence[np.ndarray]) -> torch.Tensor:
        """Maps images (H, W, 3) uint8 to (N, 3, height, width) float32."""
        stacked = np.stack([self._fitted(image) for image in images])
        pixels = torch.from_numpy(stacked).permute(0, 3, 1, 2).float().div_(255)  # in the order of ToTensor, Normalize
        mean, std = (torch.tensor(list(numbers)).view(1, 3, 1, 1) for numbers in (self.mean, self.std))
        return pixels.sub_(mean).div_(std)

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        size = (self.fit.height, self.fit.width)
        if image.shape[:2] == size:
            return image
        way = InterpolationMode(self.fit.resampling)
        if self.fit.squash:
            return np.asarray(resize(to_pil_image(image), list(size), way))
        return np.asarray(center_crop(resize(to_pil_image(image), [self.fit.edge], way), list(size)))


KEPT = 16
"""Images in a pass whose result is kept: one size for ever, because another size rounds otherwise."""


class TorchEmbedder:
    """A torch image tower, and a text tower where there is one; one pass at a time."""

    def __init__(
        self,
        image: Callable[[torch.Tensor], torch.Tensor],
        prepare: Preparation,
        placement: Placement,
        text: Callable[[list[str]], torch.Tensor] | None,
    ) -> None:
        self._image, self._prepare, self._placement, self._text = image, prepare, placement, text
        self._lock = threading.Lock()
        self.fit = prepare.fit
        self.reads_text = text is not None
        self.dimensions = self.embed([np.zeros((8, 8, 3), np.uint8)], keep=False).shape[1]

    def embed(self, images: Sequence[np.ndarray], *, keep: bool) -> np.ndarray:
        """Maps RGB images (H, W, 3) uint8 of any size to (N, D) float32.

        Args:
            images: the pixels.
            keep: pad every pass to KEPT images. Matrix products of another shape round otherwise; with one
                shape a row is the same bits whatever its neighbours, so a resumed night finds what it left.
        """
        size, parts = KEPT if keep else self._placement.batch, []
        for start in range(0, len(images), size):
            pixels = self._prepare(images[start : start + size])
            real = len(pixels)
            if keep and real < size:
                pixels = torch.cat([pixels, pixels.new_zeros((size - real, *pixels.shape[1:]))])
            parts.append(self._run(self._image, pixels.to(self._placement.device))[:real])
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Maps texts to (N, D) float32.

        Raises:
            InvalidArgument: the model has no text tower.
        """
        if self._text is None:
            raise InvalidArgument(
                "expected an image: this taste's embedder has no text tower", reason="NO_TEXT_TOWER", field="text"
            )
        return self._run(self._text, list(texts))

    def _run(self, tower: Callable[[Any], torch.Tensor], given: Any) -> np.ndarray:
        with self._lock, torch.inference_mode():
            torch.set_num_threads(self._placement.threads)
            vectors = torch.nn.functional.normalize(tower(given).float(), dim=-1)
        return vectors.cpu().numpy()


class Embedders:
    """Opens embedders by name, once each."""

    def __init__(self, models: Path, placement: Placement) -> None:
        self._models, self._placement = models, placement
        self._lock = threading.Lock()
        self._open: dict[str, Embedder] = {}

    def check(self, name: str) -> None:
        """Raises InvalidArgument for a name of no known form, FailedPrecondition where its files are missing."""
        kind, model, file = _parse(name)
        if kind == "starter":
            _present(self._models / "starter" / "embedder" / "model.safetensors", "starter")
        elif kind == "open_clip" and model not in open_clip.list_models():
            raise InvalidArgument(
                f"expected an open_clip model, found {model!r}; see open_clip.list_models()",
                reason="EMBEDDER_UNKNOWN",
                field="taste.embedder",
            )
        elif kind == "timm" and not timm.is_model(model):
            raise InvalidArgument(
                f"expected a timm model, found {model!r}; see timm.list_models()",
                reason="EMBEDDER_UNKNOWN",
                field="taste.embedder",
            )
        elif kind == "timm" or file not in open_clip.list_pretrained_tags_by_model(model):
            _present(self._file(file), name)

    def open(self, name: str) -> Embedder:
        """Returns the embedder of that name, loaded at its first use.

        Raises:
            InvalidArgument: a name of no known form.
            FailedPrecondition: files are missing, unreadable or not safetensors.
        """
        with self._lock:
            if name not in self._open:
                self.check(name)
                try:
                    self._open[name] = self._load(*_parse(name))
                except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
                    raise FailedPrecondition(
                        f"expected the embedder {name!r} to load, but its files do not fit "
                        f"({type(error).__name__}); install it again",
                        reason="EMBEDDER_UNREADABLE",
                    ) from error
            return self._open[name]

    def _load(self, kind: str, model: str, file: str) -> Embedder:
        device = (
            ("cuda" if torch.cuda.is_available() else "cpu")
            if self._placement.device == "auto"
            else self._placement.device
        )
        placement = Placement(device, self._placement.threads, self._placement.batch)
        if kind == "starter":
            return _starter(self._models / "starter" / "embedder", placement)
        if kind == "timm":
            return _timm(model, self._file(file), placement)
        if file in open_clip.list_pretrained_tags_by_model(model):
            path = Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(model, file), prefer_hf_hub=True))
        else:
            path = self._file(file)
        return _open_clip(model, path, placement)

    def _file(self, name: str) -> Path:
        if not FILE.fullmatch(name):
            raise InvalidArgument(
                f"expected a pretrained tag or a .safetensors file in the home's models folder, found {name[:80]!r}",
                reason="EMBEDDER_UNKNOWN",
                field="taste.embedder",
            )
        return self._models / name


def _parse(name: str) -> tuple[str, str, str]:
    if name == "starter":
        return "starter", "", ""
    kind, _, rest = name.partition(":")
    model, _, file = rest.partition("/")
    if kind not in ("open_clip", "timm") or not NAME.fullmatch(model) or not NAME.fullmatch(file):
        raise InvalidArgument(
            f"expected an embedder {KINDS}, found {name[:80]!r}", reason="EMBEDDER_UNKNOWN", field="taste.embedder"
        )
    return kind, model, file


def _present(path: Path, name: str) -> None:
    if not path.is_file():
        raise FailedPrecondition(
            f"expected the files of the embedder {name!r} in the home's models folder, found none; install them, "
            'for the starter with "python -m konomi_starter install"',
            reason="EMBEDDER_MISSING",
        )


def _starter(folder: Path, placement: Placement) -> Embedder:
    config = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    config = config.get("model_cfg", config)
    config["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": str(folder / "bpe.txt.gz")}
    with tempfile.TemporaryDirectory() as scratch:  # open_clip reads the tokenizer's path from its configuration file
        (Path(scratch) / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": {}}), encoding="utf-8"
        )
        (Path(scratch) / "open_clip_model.safetensors").symlink_to((folder / "model.safetensors").resolve())
        return _open_clip(f"local-dir:{scratch}", None, placement)


def _open_clip(name: str, weights: Path | None, placement: Placement) -> Embedder:
    if weights is not None and weights.suffix != ".safetensors":
        raise FailedPrecondition(
            f"expected safetensors weights, found {weights.suffix!r}; konomi loads no pickles", reason="UNSAFE_FORMAT"
        )
    model = open_clip.create_model(name, pretrained=str(weights) if weights else None, device=placement.device)
    model.eval()
    tokenize = open_clip.get_tokenizer(name)
    return TorchEmbedder(
        model.encode_image,
        _like_open_clip(model.visual.preprocess_cfg),
        placement,
        lambda texts: model.encode_text(tokenize(texts).to(placement.device)),
    )


def _timm(name: str, weights: Path, placement: Placement) -> Embedder:
    model = timm.create_model(name, pretrained=False)
    model.reset_classifier(0)
    missing = model.load_state_dict(load_file(weights), strict=False).missing_keys
    if missing:  # the file's own classifier may be left over; a tower without its weights may not
        raise ValueError(f"{len(missing)} tensors are missing")
    model.eval().to(placement.device)
    return TorchEmbedder(model, _like_timm(timm.data.resolve_model_data_config(model)), placement, None)


def _like_open_clip(found: Mapping[str, Any]) -> Preparation:
    """Returns the preparation open_clip's own evaluation transform makes."""
    size = found["size"]
    height, width = (size, size) if isinstance(size, int) else size
    way = "bicubic" if found["interpolation"] in ("bicubic", "random") else found["interpolation"]
    if found["resize_mode"] not in ("shortest", "squash") or (height != width and found["resize_mode"] == "shortest"):
        raise ValueError(f"resize mode {found['resize_mode']} to {height} x {width}")
    return Preparation(
        Fit(min(height, width), width, height, found["resize_mode"] == "squash", way), found["mean"], found["std"]
    )


def _like_timm(found: Mapping[str, Any]) -> Preparation:
    """Returns the preparation timm's own evaluation transform makes."""
    _, height, width = found["input_size"]
    if height != width or found["crop_mode"] not in ("center", "squash"):
        raise ValueError(f"crop mode {found['crop_mode']} to {height} x {width}")
    squash = found["crop_mode"] == "squash" and found["crop_pct"] == 1.0
    if found["crop_mode"] == "squash" and not squash:
        raise ValueError(f"squashing to more than the {found['crop_pct']} that is kept")
    edge = int(height / found["crop_pct"])
    return Preparation(Fit(edge, width, height, squash, found["interpolation"]), found["mean"], found["std"])
