"""Checks a diffusers folder before any library reads it: safetensors, JSON and tokenizer text, no code, no pickles."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from konomi_chassis.models.safetensors_check import Header, check_file, unsafe

COMPONENTS: Mapping[str, frozenset[tuple[str, str]]] = {
    "unet": frozenset({("diffusers", "UNet2DConditionModel")}),
    "vae": frozenset({("diffusers", "AutoencoderKL"), ("diffusers", "AutoencoderTiny")}),
    "text_encoder": frozenset({("transformers", "CLIPTextModel")}),
    "text_encoder_2": frozenset({("transformers", "CLIPTextModelWithProjection")}),
    "tokenizer": frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")}),
    "tokenizer_2": frozenset({("transformers", "CLIPTokenizer"), ("transformers", "CLIPTokenizerFast")}),
}
"""The components konomi loads and the only classes each may be; the scheduler's class is looked up in its own table."""
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
READ = frozenset({".safetensors", ".json", ".txt"})
IGNORED = frozenset({"", ".md", ".png", ".jpg", ".jpeg", ".webp", ".gitattributes", ".yaml", ".yml", ".gitignore"})
MAX_JSON_BYTES = 32_000_000
VOCABULARIES = frozenset({"vocab.json", "tokenizer.json"})


def check_folder(folder: Path) -> dict[str, Header]:
    """Returns the safetensors headers of a diffusers folder by relative path, after checking every file in it.

    Raises:
        FailedPrecondition: a file could run code, or is not what it seems (reason UNSAFE_FORMAT).
    """
    headers = {}
    for path in model_files(folder, every=True):
        name = path.relative_to(folder).as_posix()
        suffix = path.suffix.lower() if path.suffix else (path.name.lower() if path.name.startswith(".") else "")
        if suffix == ".safetensors":
            headers[name] = check_file(path, f"The file {name}")
        elif suffix == ".json":
            _check_json(path, name)
        elif suffix not in READ and suffix not in IGNORED:
            unsafe(f"The model {folder.name}", f"the file {name} may hold code; remove it")
    _check_index(folder)
    return headers


def model_files(folder: Path, *, every: bool = False) -> Iterator[Path]:
    """Yields the regular files of a model folder in order; without `every`, only those a loader reads."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (every or path.suffix.lower() in READ):
            yield path


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Returns a configuration file as a mapping.

    Raises:
        FailedPrecondition: it is missing, too large or not a JSON object (reason UNSAFE_FORMAT).
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            unsafe(what, f"it has more than {MAX_JSON_BYTES} bytes")
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
    if path.name.endswith(".index.json"):
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


def _check_index(folder: Path) -> None:
    index = read_json(folder / "model_index.json", f"The file model_index.json of {folder.name}")
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        pair = tuple(value)
        if len(pair) != 2 or not all(part is None or isinstance(part, str) for part in pair):
            unsafe(f"The model {folder.name}", f'its component "{name[:80]}" is not a library and a class')
        allowed = COMPONENTS.get(name)
        fine = pair == (None, None) or name in UNUSED or (name == "scheduler" and pair[0] == "diffusers")
        if not fine and (allowed is None or pair not in allowed):
            component = ".".join(str(part) for part in pair)[:120]
            unsafe(f"The model {folder.name}", f'its component "{name}" is "{component}", which konomi does not load')
