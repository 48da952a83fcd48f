"""The catalogue of base models in a home: ids to checked folders and files, their layout, size and digest."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi_chassis.memory_shortage import is_shortage
from konomi_chassis.models.companions import (
    FEW_STEP,
    IP_ADAPTER,
    Draft,
    LikenessAdapter,
    few_step_file,
    image_prompt_files,
    is_few_step,
)
from konomi_chassis.models.diffusers_folder import (
    INDEX,
    Stamps,
    check_folder,
    model_files,
    needed_files,
    read_json,
    stamps,
    weight_files,
)
from konomi_chassis.models.families.family import Family, FoundFile, FoundFolder
from konomi_chassis.models.families.quantization import BLOCK, quantizable_weights
from konomi_chassis.models.families.table import family, recognised
from konomi_chassis.models.model_settings import (
    STARTER_SETTINGS,
    ModelSettings,
    PartsSettings,
    read_settings,
    settings_of_names,
)
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import unsupported
from konomi_chassis.models.single_file import describe, read, title, transformer_weights

ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
STARTER = "starter"
ALIKE = 5e-4
"""How far the weights of a file's transformer may be from those of a folder's: FLUX.1's guidance is a thousandth."""
OTHERS = frozenset({FEW_STEP, IP_ADAPTER, "open_clip", "population", "timm", "tiny_vae"})
"""Folders among the home's models that hold no base models."""


@dataclass(frozen=True)
class BaseModel:
    """One base model that passed the checks.

    Attributes:
        id: the name of its folder or file among the home's models, or "starter".
        path: the folder or file; what another program calls it where that program holds it.
        layout: name of its family (see families); "unknown" where another program holds it.
        format: "diffusers" for a folder, "single_file" for one .safetensors, "sdapi" for another program's.
        size_bytes: size on disk.
        resolution: side of the images it was trained for, in pixels.
        parameters: number of weights per component.
        schedule: what it says of the noise it was trained with.
        title: what it calls itself, where it does.
        settings: how it draws and learns where nobody says otherwise.
        resident: weights of what denoises that are on a device where its blocks come one by one: those of no block and
            of the largest; 0 where nobody counted them.
        quantizable: weights of what denoises that can be packed in fewer bits; 0 where none can, or nobody counted.
        largest_layer: weights of the largest layer among these.
        lender: of a single file that holds a transformer alone the folder all else comes from; None of any other.
    """

    id: str
    path: Path
    layout: str
    format: Literal["diffusers", "single_file", "sdapi"]
    size_bytes: int
    resolution: int
    parameters: Mapping[str, int]
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    title: str = ""
    settings: ModelSettings = field(default_factory=ModelSettings)
    resident: int = 0
    quantizable: int = 0
    largest_layer: int = 0
    lender: Path | None = None

    @property
    def prediction_type(self) -> str:
        """What its network answers: "epsilon", "v_prediction" or "flow"; empty where another program knows."""
        return self.schedule.prediction_type


class BaseModels:
    """The base models of one home; looks at the disk on every call, so a model dropped in is seen at once.

    What was read and found good is not read again until any of its files is another (`Stamps`): an actor asks with each
    batch, and checking takes as long as half a small image.
    """

    def __init__(self, home: Path, lenders: Path | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        """Takes the home, another whose folders lend to single files where it is not this one, and the time in ns."""
        self._folder = home / "models"
        self._lenders, self._clock = self if lenders is None else BaseModels(lenders), clock
        self._checked: dict[str, tuple[Stamps, BaseModel]] = {}
        self._digests: dict[Path, tuple[Stamps, str]] = {}

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
            FailedPrecondition: it is unsafe (UNSAFE_FORMAT), of a kind konomi does not run (MODEL_LAYOUT), or its
                files cannot be read (MODEL_BROKEN), the owner's settings of it cannot (MODEL_SETTINGS), or it is a
                transformer alone that no folder lends the rest (MODEL_PARTS).
        """
        path = self._path(id)
        try:
            return self._checked_model(id, path)
        except KonomiError:
            raise
        except OSError as error:
            if is_shortage(error):
                raise
            raise FailedPrecondition(
                f'The base model "{id}" cannot be read: {error.strerror}. Look at the rights of its files.',
                reason="MODEL_BROKEN",
            ) from error
        except Exception as error:  # whatever a hostile configuration makes the code below stumble over
            if is_shortage(error):
                raise
            unsupported(id, f"a value in its configuration is of the wrong kind ({type(error).__name__})")

    def _checked_model(self, id: str, path: Path) -> BaseModel:
        """Returns a model that was checked now, or since when none of its files has changed."""
        seen = stamps(path, self.settings_file(id))
        known = self._checked.get(id)
        if known is not None and known[0] == seen:
            return known[1]
        model = _folder_model(id, path) if path.is_dir() else self._file_model(id, path)
        model = replace(model, settings=read_settings(self.settings_file(id), derived_settings(model)))
        if model.lender is None and seen.settled(self._clock()):  # who lends is looked for anew: one may have come
            self._checked[id] = seen, model
        return model

    def settings_file(self, id: str) -> Path:
        """Returns where the owner's settings of a model stand, whether they are there or not."""
        return self._folder / f"{id}.toml"

    def draft(self, model: BaseModel) -> Draft:
        """Returns how a model draws drafts: with a few-step adapter, or as it always does where it is one of few steps.

        Raises:
            FailedPrecondition: there is no few-step adapter for it (reason DRAFT_ADAPTER_MISSING), or it is unsafe.
        """
        if is_few_step(model.settings) and not model.settings.draft.adapter:
            return Draft(model.settings.drawing)
        kind = (model.layout, model.prediction_type, model.schedule.zero_terminal_snr)
        file = few_step_file(self._folder, model.id, kind, model.settings)
        return Draft(file.drawing, file.path, self._file_digest(file.path), model.settings.draft.scale)

    def likeness(self, model: BaseModel) -> LikenessAdapter:
        """Returns what lets a model take images as prompts.

        Raises:
            FailedPrecondition: its files are not there (reason IMAGE_PROMPT_ADAPTER_MISSING), or are unsafe.
        """
        path, encoder = image_prompt_files(self._folder, model.id, model.layout, model.settings)
        weights = encoder / "model.safetensors"
        return LikenessAdapter(path, self._file_digest(path), encoder, self._file_digest(weights))

    def digest(self, model: BaseModel) -> str:
        """Returns the sha256 over the model's files; hashed once, then remembered by size and time of change.

        For a single file it is the file's own sha256; for a folder the sha256 over names and digests of its files, and
        for a file with a folder that lends it parts the sha256 over the file's and those of what is lent.
        """
        if model.lender is not None:
            lent = self._lenders._names_and_digests(model.lender, but=family(model.layout).network)
            return hashlib.sha256(f"{self._file_digest(model.path)}\n{lent}".encode()).hexdigest()
        if model.format == "single_file":
            return self._file_digest(model.path)
        return hashlib.sha256(self._names_and_digests(model.path).encode()).hexdigest()

    def _names_and_digests(self, folder: Path, but: str = "") -> str:
        """Returns a line for each file of a folder, for weights of one part none."""
        lines = []
        for path in model_files(folder):
            name = path.relative_to(folder).as_posix()
            if not (but and name.startswith(f"{but}/") and path.suffix == ".safetensors"):
                lines.append(f"{name} {self._file_digest(path)}\n")
        return "".join(lines)

    def _file_model(self, id: str, path: Path) -> BaseModel:
        found, kind = read(id, path)
        if kind.transformer_file is None:
            return _checkpoint_model(found, kind)
        asked = read_settings(self._lenders.settings_file(id), ModelSettings()).parts.folder
        lender = choose(found, kind, self._lenders._folders_of(kind), asked)
        counted = {kind.network: transformer_weights(found)}
        return replace(
            lender,
            id=id,
            path=path,
            format="single_file",
            size_bytes=path.stat().st_size,
            parameters=dict(lender.parameters) | counted,
            title=title(found),
            lender=lender.path,
        )

    def _folders_of(self, kind: Family) -> list[BaseModel]:
        """Returns the usable folders of a family, by id."""
        models = []
        for id in self.ids():
            folder = self._folder / id
            if not (folder / INDEX).is_file():
                continue
            try:
                model = _folder_model(id, folder)
            except KonomiError:
                continue
            models += [model] * (model.layout == kind.name)
        return models

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
        seen, known = stamps(path), self._digests.get(path)
        if known is not None and known[0] == seen:
            return known[1]
        digest = self._hashed(path)
        if seen.settled(self._clock()):
            self._digests[path] = seen, digest
        return digest

    def _hashed(self, path: Path) -> str:
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


def derived_settings(model: BaseModel, *names: str) -> ModelSettings:
    """Returns how a model draws and learns by what it says of itself, as its family's models do.

    Args:
        model: from the catalogue.
        names: what else it was called.
    """
    if model.id == STARTER:
        return STARTER_SETTINGS
    usual = family(model.layout).defaults
    settings = settings_of_names([model.id, model.title, *names], model.schedule, usual.drawing, usual.few_step)
    return settings if model.lender is None else replace(settings, parts=PartsSettings(folder=model.lender.name))


def _folder_model(id: str, folder: Path) -> BaseModel:
    headers = check_folder(folder)
    found = _found(id, folder)
    kind = recognised(found)
    sizes: dict[str, dict[str, int]] = {}
    axes: dict[str, int] = {}
    for part in kind.weighted:
        files = [path.name for path in weight_files(folder / part) if path.suffix == ".safetensors"]
        tensors = [pair for name in files for pair in headers[f"{part}/{name}"].tensors.items()]
        sizes[part] = {name: tensor.parameters for name, tensor in tensors}
        if part == kind.network:
            axes = {name: len(tensor.shape) for name, tensor in tensors}
    parameters = {part: sum(counts.values()) for part, counts in sizes.items()}
    schedule, flows = kind.schedule(found), kind.noise == "flow"
    quantizable, largest = quantizable_weights(sizes[kind.network], axes) if flows else (0, 0)
    return BaseModel(
        id=id,
        path=folder,
        layout=kind.name,
        format="diffusers",
        size_bytes=sum(path.stat().st_size for path in needed_files(folder)),
        resolution=kind.side(found, schedule),
        parameters={part: count for part, count in parameters.items() if count},
        schedule=schedule,
        title=str(found.index.get("_name_or_path") or "").rpartition("/")[2][:200],
        resident=resident_weights(sizes[kind.network]) if flows else 0,
        quantizable=quantizable,
        largest_layer=largest,
    )


def resident_weights(sizes: Mapping[str, int]) -> int:
    """Returns how many weights of a transformer are on a device where its blocks come one by one.

    Args:
        sizes: its tensors' names → their numbers of weights; blocks are the numbered members of what it consists of.
    """
    blocks: dict[str, int] = {}
    for name, size in sizes.items():
        match = BLOCK.match(name)
        if match:
            blocks[match[0]] = blocks.get(match[0], 0) + size
    return sum(sizes.values()) - sum(blocks.values()) + max(blocks.values(), default=0)


def _found(id: str, folder: Path) -> FoundFolder:
    """Returns a folder as families look at it: what they ask for is read once."""

    @cache
    def config(part: str) -> Mapping[str, Any]:
        name = f"{part}/{'scheduler_config' if part == 'scheduler' else 'config'}.json"
        return read_json(folder / name, f"The file {name} of {id}")

    index = read_json(folder / "model_index.json", f"The file model_index.json of {id}")
    return FoundFolder(id, index, config)


def _checkpoint_model(found: FoundFile, kind: Family) -> BaseModel:
    checkpoint = describe(found, kind)
    return BaseModel(
        id=found.id,
        path=found.path,
        layout=checkpoint.layout,
        format="single_file",
        size_bytes=found.path.stat().st_size,
        resolution=checkpoint.resolution,
        parameters=checkpoint.parameters,
        schedule=checkpoint.schedule,
        title=checkpoint.title,
    )


def choose(found: FoundFile, kind: Family, folders: Sequence[BaseModel], asked: str) -> BaseModel:
    """Returns the folder that lends a transformer's file its text encoders, autoencoder, scheduler and configuration.

    Args:
        found: the file.
        kind: its family.
        folders: of that family.
        asked: id of the folder the owner's settings name; "" where they name none.

    Raises:
        FailedPrecondition: none fits, or several do and none was named (reason MODEL_PARTS).
    """
    weights, named = transformer_weights(found), [model for model in folders if asked in ("", model.id)]
    fitting = [model for model in named if abs(model.parameters[kind.network] - weights) <= ALIKE * weights]
    if len(fitting) == 1:
        return fitting[0]
    where = f"in the settings {found.id}.toml among the home's models"
    if fitting:
        ids = [model.id for model in fitting]
        why = f'which fits {" and ".join(ids)}: name the one it was made from {where}, as [parts] folder = "{ids[0]}"'
    elif named:
        sizes = ", ".join(f"{model.id} has {model.parameters[kind.network]}" for model in named)
        why = f"of {weights} weights, where {sizes}: put the folder of the model it was made from beside it"
    elif asked:
        why = f"and {where} [parts] names {asked[:64]!r}, which is no usable folder of this family: name one that is"
    else:
        why = (
            "alone: put a diffusers folder of that family among the home's models; its text encoders, autoencoder and "
            "configuration are used"
        )
    raise FailedPrecondition(
        f'The base model "{found.id}" is a single file with the transformer of a {kind.name}, {why}.',
        reason="MODEL_PARTS",
    )
