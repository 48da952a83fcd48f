"""Checks a diffusers folder before any library reads it: safetensors, JSON and tokenizer text, no code, no pickles."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konomi_chassis.models.families.table import candidates, classes, weighted
from konomi_chassis.models.safetensors_check import Header, check_file, unsafe, unsupported

UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
CODE_KEYS = frozenset(
    {
        "auto_map",
        "custom_pipeline",
        "custom_pipelines",
        "custom_revision",
        "trust_remote_code",
        "quantization_config",
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "use_kernels",
        "kernel_config",
        "adapter_kwargs",
    }
)
"""Configuration keys that make a library fetch or run something; none is ever needed."""
NETWORKS, TEXTS = "diffusion_pytorch_model", "model"
"""What the names of weight files begin with, diffusers' and transformers'."""
TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
SCHEDULER_FILES = ("scheduler_config.json",)
CONFIGURATION = ("config.json",)
INDEX = "model_index.json"
ADAPTER = "adapter_config.json"
"""Where it lies beside a text encoder, transformers would put the adapter it names on the weights."""
DIGESTED = frozenset({".safetensors", ".json", ".txt", ".jinja"})
OTHER_WEIGHTS = frozenset({".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".gguf", ".pkl"})
MAX_JSON_BYTES, MAX_VOCABULARY_BYTES = 32_000_000, 64_000_000
"""Gemma's tokenizer.json, the largest that is about, has 34 million."""
SETTLED_NS = 1_000_000_000
"""Nanoseconds after which a change of a file surely has another time than the one before."""
VOCABULARIES = frozenset({"vocab.json", "tokenizer.json"})


def check_folder(folder: Path) -> dict[str, Header]:
    """Returns the safetensors headers of a diffusers folder by relative path, after checking every file a loader reads.

    What else lies in the folder, for example what hub clients and desktops leave there, is neither read nor judged.

    Raises:
        FailedPrecondition: a file that is read could run code, is not what it seems, or is only there in a format that
            is not read (reason UNSAFE_FORMAT); it is no diffusers folder (MODEL_LAYOUT).
    """
    index = _checked_index(folder)
    headers = {}
    for component in _components(index):
        for path in _visible(folder / component):
            if path.suffix == ".json":
                _check_json(path, f"{component}/{path.name}")
        _check_weights(folder, component)
        for path in weight_files(folder / component):
            if path.suffix == ".safetensors":
                headers[f"{component}/{path.name}"] = check_file(path, f"The file {component}/{path.name}")
    return headers


def needed_files(folder: Path) -> list[Path]:
    """Returns the files that are needed to run a diffusers folder, weights of half precision only where no others are.

    Raises:
        FailedPrecondition: it is no diffusers folder, or one whose index asks for code; see check_folder.
    """
    files = [folder / INDEX]
    for component in _components(_checked_index(folder)):
        names = {path.name: path for path in _visible(folder / component)}
        files += [names[name] for name in _configurations(component) if name in names]
        files += weight_files(folder / component)
    return files


def weight_files(folder: Path) -> list[Path]:
    """Returns the files of a component's folder that hold its weights, with the index that names them."""
    if folder.name not in weighted():
        return []
    stem = TEXTS if folder.name.startswith("text_encoder") else NETWORKS
    files = [path for path in _visible(folder) if path.name.startswith((f"{stem}.", f"{stem}-"))]
    indices = [path for path in files if ".safetensors.index." in path.name and path.suffix == ".json"]
    maps = [read_json(path, f"The file {path.name}").get("weight_map") or {} for path in indices]
    shards = {shard for weight_map in maps for shard in weight_map.values() if Path(shard).name == shard}
    files = [path for path in files if path.suffix == ".safetensors"]
    files += [folder / shard for shard in sorted(shards - {path.name for path in files}) if (folder / shard).is_file()]
    plain = [path for path in files if ".fp16" not in path.name and "non_ema" not in path.name]
    half = [path for path in files if ".fp16" in path.name]
    return [path for path in indices if bool(plain) != (".fp16" in path.name)] + (plain or half)


def model_files(folder: Path) -> Iterator[Path]:
    """Yields the files of a model folder that its digest covers, in order: the index, and what its parts consist of."""
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder).parts
        listed = inner == (INDEX,) or (len(inner) == 2 and inner[0] in {*classes(), *UNUSED, "scheduler"})
        if listed and not path.name.startswith(".") and path.suffix.lower() in DIGESTED and path.is_file():
            yield path


@dataclass(frozen=True)
class Stamps:
    """What is another once a file is another: for each path its place on disk, length and times.

    The time of change is the file system's own: no program that copies or unpacks can set it back.

    Attributes:
        files: the paths and what is known of them; nothing of what is not there.
        changed_ns: when the last of them changed, in nanoseconds since 1970.
    """

    files: tuple[tuple[Path, tuple[int, ...]], ...]
    changed_ns: int

    def settled(self, now_ns: int) -> bool:
        """Says whether another change would show: one at the same moment has the same time, and moments are coarse."""
        return now_ns - self.changed_ns > SETTLED_NS


def stamps(*paths: Path) -> Stamps:
    """Returns the stamps of files, and of whatever lies in folders and in the folders in these."""
    found = [one for path in paths for one in (path, *path.glob("*"), *path.glob("*/*"))]
    files: list[tuple[Path, tuple[int, ...]]] = []
    newest = 0
    for path in sorted(found):
        try:
            status = path.stat()
        except OSError:
            files.append((path, ()))
            continue
        newest = max(newest, status.st_ctime_ns, status.st_mtime_ns)
        values = status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        files.append((path, values))
    return Stamps(tuple(files), newest)


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Returns a configuration file as a mapping.

    Raises:
        FailedPrecondition: it is missing, too large or not a JSON object (reason UNSAFE_FORMAT).
    """
    try:
        most = MAX_VOCABULARY_BYTES if path.name in VOCABULARIES else MAX_JSON_BYTES
        if path.stat().st_size > most:
            unsafe(what, f"it has more than {most} bytes")
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        unsafe(what, "it is missing")
    except (ValueError, RecursionError):
        unsafe(what, "it is not JSON")
    if not isinstance(value, dict):
        unsafe(what, "it is not a JSON object")
    return value


def _check_json(path: Path, name: str) -> None:
    value = read_json(path, f"The file {name}")
    code_key = None if path.name in VOCABULARIES else _code_key(value)
    if code_key:
        unsafe(f"The file {name}", f'its key "{code_key}" asks for code to be run or fetched')
    if ".index." in path.name:
        for shard in (value.get("weight_map") or {}).values():
            if not isinstance(shard, str) or shard in ("", ".", "..") or Path(shard).name != shard:
                unsafe(f"The file {name}", f"it names a weight file {str(shard)[:80]!r} outside its folder")


def _code_key(value: Any) -> str | None:
    """Returns the first key, at any depth, that asks for code; None where there is none."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                if key in CODE_KEYS and inner not in (None, False):
                    return str(key)
                pending.append(inner)
        elif isinstance(item, list):
            pending.extend(item)
    return None


def _checked_index(folder: Path) -> dict[str, Any]:
    """Returns a folder's model_index.json, which names nothing konomi does not load."""
    if not (folder / INDEX).is_file():
        inner = [*folder.glob("*.safetensors"), *(path.parent for path in folder.glob(f"snapshots/*/{INDEX}"))]
        instead = f"; give {sorted(inner)[0].relative_to(folder).as_posix()[:120]} in it" if inner else ""
        unsupported(folder.name, f"it is no diffusers folder, for it has no {INDEX}{instead}")
    index = read_json(folder / INDEX, f"The file {INDEX} of {folder.name}")
    if _code_key(index):
        unsafe(f"The file {INDEX}", f'its key "{_code_key(index)}" asks for code to be run or fetched')
    known = classes()
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        pair = tuple(value)
        if len(pair) != 2 or not all(part is None or isinstance(part, str) for part in pair):
            unsafe(f"The model {folder.name}", f'its component "{name[:80]}" is not a library and a class')
        allowed = known.get(name)
        fine = pair == (None, None) or name in UNUSED or (name == "scheduler" and pair[0] == "diffusers")
        if not fine and (allowed is None or pair not in allowed):
            component = ".".join(str(part) for part in pair)[:120]
            unsafe(f"The model {folder.name}", f'its component "{name}" is "{component}", which konomi does not load')
    return index


def _components(index: Mapping[str, Any]) -> list[str]:
    """Returns the parts that are loaded: those every model of the pipeline has, and others that the index names."""
    own = [family.components for family in candidates(index)]
    names = dict.fromkeys(name for components in own for name in sorted(components, key=_place))
    absent = (None, [None, None])

    def is_needed(name: str) -> bool:
        return all(name in components for components in own) and not name[-1].isdigit()

    return [*(name for name in names if is_needed(name) or index.get(name) not in absent), "scheduler"]


def _place(component: str) -> tuple[bool, bool]:
    """Returns where a component stands in the order in which parts are checked: tokenizers last, second parts after."""
    return component.startswith("tokenizer"), component[-1].isdigit()


def _configurations(component: str) -> tuple[str, ...]:
    """Returns the other files than weights that a loader looks for in a component's folder."""
    if component == "scheduler":
        return SCHEDULER_FILES
    return TOKENIZER_FILES if component.startswith("tokenizer") else CONFIGURATION


def _visible(folder: Path) -> list[Path]:
    """Returns the regular files directly in a folder, by name, without hidden ones."""
    return sorted(p for p in folder.glob("*") if not p.name.startswith(".") and p.is_file())


def _check_weights(folder: Path, component: str) -> None:
    """Refuses a part whose weights are only there in a format that can run code, or that an adapter would change."""
    if component not in weighted():
        return
    if (folder / component / ADAPTER).exists():
        unsafe(f"The model {folder.name}", f"its file {component}/{ADAPTER} names other weights; remove it")
    if not any(path.suffix == ".safetensors" for path in weight_files(folder / component)):
        others = [path.name for path in _visible(folder / component) if path.suffix.lower() in OTHER_WEIGHTS]
        if others:
            unsafe(f"The model {folder.name}", f"its {component} has no safetensors weights, only {others[0][:80]}")
        unsupported(folder.name, f"its {component} has no safetensors weights")
