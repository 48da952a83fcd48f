"""The catalogue of base models in a home: ids to checked folders and files, their layout, size and digest."""

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi_chassis.models.diffusers_folder import check_folder, model_files, read_json
from konomi_chassis.models.safetensors_check import Header, check_file

Layout = Literal["sd1", "sd2", "sdxl", "unknown"]
ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
STARTER = "starter"
OTHERS = frozenset({"open_clip", "population", "timm", "tiny_vae"})
"""Folders among the home's models that hold no base models."""
SINGLE_FILE_KEYS: Mapping[Layout, str] = {
    "sdxl": "conditioner.embedders.1.model.transformer.resblocks.",
    "sd2": "cond_stage_model.model.transformer.resblocks.",
    "sd1": "cond_stage_model.transformer.",
}
"""A tensor name prefix only this layout has, most particular first."""
SINGLE_FILE_PARTS = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
V_PREDICTION_KEY = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
V_PREDICTION_SPREAD = 0.09


@dataclass(frozen=True)
class BaseModel:
    """One base model that passed the checks.

    Attributes:
        id: the name of its folder or file among the home's models, or "starter".
        path: the folder or file; what another program calls it where that program holds it.
        layout: which pipeline it is; unknown where another program holds it.
        format: "diffusers" for a folder, "single_file" for one .safetensors, "sdapi" for another program's.
        size_bytes: size on disk.
        resolution: side of the images it was trained for, in pixels.
        prediction_type: "epsilon" or "v_prediction".
        parameters: number of weights per component.
    """

    id: str
    path: Path
    layout: Layout
    format: Literal["diffusers", "single_file", "sdapi"]
    size_bytes: int
    resolution: int
    prediction_type: str
    parameters: Mapping[str, int]


class BaseModels:
    """The base models of one home; looks at the disk on every call, so a model dropped in is seen at once."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "models"

    def usable(self) -> list[BaseModel]:
        """Returns the usable base models by id; those that would be refused are left out (`get` says why)."""
        models = []
        for id in self.ids():
            try:
                models.append(self.get(id))
            except KonomiError:
                continue
        return models

    def ids(self) -> list[str]:
        """Returns the ids that are there, usable or not."""
        names = set()
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.suffix == ".safetensors" and path.is_file():
                names.add(path.stem)
            elif path.is_dir() and path.name not in OTHERS and (path.name != STARTER or (path / "diffusion").is_dir()):
                names.add(path.name)
        return sorted(name for name in names if ID.fullmatch(name))

    def get(self, id: str) -> BaseModel:
        """Returns a base model, checked.

        Raises:
            InvalidArgument: the id is not an id.
            NotFound, FailedPrecondition: there is no such model (reason MODEL_MISSING).
            FailedPrecondition: it is unsafe (UNSAFE_FORMAT) or of a kind konomi does not run (MODEL_LAYOUT).
        """
        path = self._path(id)
        try:
            return _folder_model(id, path) if path.is_dir() else _file_model(id, path)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            _unsupported(id, f"a value in its configuration is of the wrong kind ({type(error).__name__})")

    def digest(self, model: BaseModel) -> str:
        """Returns the sha256 over the model's files; hashed once, then remembered by size and time of change.

        For a single file it is the file's own sha256; for a folder the sha256 over names and digests of its files.
        """
        if model.format == "single_file":
            return self._file_digest(model.path)
        whole = hashlib.sha256()
        for path in model_files(model.path):
            whole.update(f"{path.relative_to(model.path).as_posix()} {self._file_digest(path)}\n".encode())
        return whole.hexdigest()

    def _path(self, id: str) -> Path:
        if not ID.fullmatch(id):
            raise InvalidArgument(
                f"A base model id of small letters, digits, '.', '_' and '-' was expected; {id[:80]!r} came.",
                reason="BASE_MODEL_INVALID",
                field="base_model",
            )
        folder = self._folder / id / "diffusion" if id == STARTER else self._folder / id
        for path in (folder, self._folder / f"{id}.safetensors"):
            if path.exists():
                return path
        if id == STARTER:
            raise FailedPrecondition(
                "The starter models are not in this home. Run `konomi doctor`, which says how to install them.",
                reason="MODEL_MISSING",
            )
        ids = ", ".join(self.ids()) or "none"
        raise NotFound(
            f'There is no base model "{id}"; there are: {ids}. Put its diffusers folder, or its .safetensors file, '
            "under this name into the folder `models` of the home.",
            reason="MODEL_MISSING",
        )

    def _file_digest(self, path: Path) -> str:
        status = path.stat()
        digests, key = self._known_digests(), str(path.relative_to(self._folder))
        stamp = [status.st_size, status.st_mtime_ns]
        if key in digests and digests[key][:2] == stamp:
            return str(digests[key][2])
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if status.st_size > 64 << 20:
            self._remember(self._known_digests() | {key: [*stamp, digest]})
        return digest

    def _known_digests(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self._folder / ".digests.json").read_text("utf-8")))
        except (OSError, ValueError):
            return {}

    def _remember(self, digests: dict[str, Any]) -> None:
        temporary = self._folder / f".digests.{os.getpid()}.json"
        try:
            temporary.write_text(json.dumps(digests, sort_keys=True), "utf-8")
            temporary.replace(self._folder / ".digests.json")
        except OSError:
            temporary.unlink(missing_ok=True)


def _folder_model(id: str, folder: Path) -> BaseModel:
    headers = check_folder(folder)
    index, unet, vae, scheduler = (
        read_json(folder / name, f"The file {name} of {id}")
        for name in ("model_index.json", "unet/config.json", "vae/config.json", "scheduler/scheduler_config.json")
    )
    layout = _folder_layout(id, index, unet, vae)
    parameters: dict[str, int] = {}
    for part in ("unet", "vae", "text_encoder", "text_encoder_2")[: 4 if layout == "sdxl" else 3]:
        files = [name for name in headers if name.startswith(f"{part}/")]
        plain = [name for name in files if ".fp16." not in name and "non_ema" not in name] or files
        if not plain:
            _unsupported(id, f"its {part} has no safetensors weights")
        parameters[part] = sum(t.parameters for name in plain for t in headers[name].tensors.values())
    scale = 2 ** (len(vae.get("block_out_channels") or vae.get("decoder_block_out_channels") or [0] * 4) - 1)
    return BaseModel(
        id=id,
        path=folder,
        layout=layout,
        format="diffusers",
        size_bytes=sum(path.stat().st_size for path in model_files(folder)),
        resolution=_side(unet.get("sample_size")) * scale,
        prediction_type=str(scheduler.get("prediction_type", "epsilon")),
        parameters=parameters,
    )


def _folder_layout(id: str, index: dict[str, Any], unet: dict[str, Any], vae: dict[str, Any]) -> Layout:
    names = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusionImg2ImgPipeline")
    if index.get("_class_name") not in names:
        _unsupported(id, f"its pipeline is {str(index.get('_class_name'))[:80]!r}")
    if unet.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
        _unsupported(id, "its unet is not a UNet2DConditionModel")
    if vae.get("_class_name") not in ("AutoencoderKL", "AutoencoderTiny"):
        _unsupported(id, f"its vae is {str(vae.get('_class_name'))[:80]!r}")
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        _unsupported(id, "its unet does not take the vae's latents (an inpainting or upscaling model)")
    if unet.get("addition_embed_type") == "text_time":
        if not (index.get("text_encoder") or [None])[0]:
            _unsupported(id, "it has no first text encoder (a refiner)")
        return "sdxl"
    return "sd2" if unet.get("use_linear_projection") else "sd1"


def _file_model(id: str, path: Path) -> BaseModel:
    header = check_file(path, f"The base model {id}")
    layout = next(
        (name for name, key in SINGLE_FILE_KEYS.items() if any(t.startswith(key) for t in header.tensors)), None
    )
    stem = header.tensors.get("model.diffusion_model.input_blocks.0.0.weight")
    if layout is None or stem is None or not any(t.startswith("first_stage_model.") for t in header.tensors):
        _unsupported(id, "it is no Stable Diffusion 1.x, 2.x or XL checkpoint with UNet, VAE and text encoder")
    if len(stem.shape) != 4 or stem.shape[1] != 4:
        _unsupported(id, "its unet does not take 4 latent channels (an inpainting or upscaling model)")
    prediction = _file_prediction(path, header, layout)
    side = 1024 if layout == "sdxl" else 768 if layout == "sd2" and prediction == "v_prediction" else 512
    parameters = {
        part: sum(t.parameters for name, t in header.tensors.items() if name.startswith(prefixes))
        for part, prefixes in SINGLE_FILE_PARTS.items()
    }
    return BaseModel(
        id=id,
        path=path,
        layout=layout,
        format="single_file",
        size_bytes=path.stat().st_size,
        resolution=side,
        prediction_type=prediction,
        parameters={part: count for part, count in parameters.items() if count},
    )


def _file_prediction(path: Path, header: Header, layout: Layout) -> str:
    """Says what the UNet predicts: by the file's own metadata, by a marker tensor, for SD 2.x by a bias's spread.

    The two kinds of SD 2.x have the same tensors; in v-prediction models this bias spreads by more than 0.09.
    """
    declared = header.metadata.get("modelspec.prediction_type", "").lower()
    if declared in ("v", "v_prediction", "epsilon"):
        return "epsilon" if declared == "epsilon" else "v_prediction"
    if "v_pred" in header.tensors:
        return "v_prediction"
    entry = header.tensors.get(V_PREDICTION_KEY)
    if layout != "sd2" or entry is None or entry.dtype not in ("F16", "F32", "BF16") or entry.parameters < 2:
        return "epsilon"
    with path.open("rb") as file:
        file.seek(header.data_start + entry.start)
        raw = file.read(entry.end - entry.start)
    values = _floats(raw, entry.dtype)
    mean = math.fsum(values) / len(values)
    return (
        "v_prediction"
        if math.fsum((v - mean) ** 2 for v in values) / len(values) > V_PREDICTION_SPREAD**2
        else "epsilon"
    )


def _floats(raw: bytes, dtype: str) -> tuple[float, ...]:
    if dtype == "BF16":
        raw = b"".join(b"\0\0" + raw[i : i + 2] for i in range(0, len(raw), 2))
    code = "e" if dtype == "F16" else "f"
    return struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw)


def _side(sample_size: Any) -> int:
    size = sample_size[0] if isinstance(sample_size, list) and sample_size else sample_size
    return size if isinstance(size, int) and 0 < size <= 1024 else 64


def _unsupported(id: str, why: str) -> NoReturn:
    raise FailedPrecondition(
        f'The base model "{id}" cannot be run: {why}. konomi runs Stable Diffusion 1.x, 2.x and XL.',
        reason="MODEL_LAYOUT",
    )
