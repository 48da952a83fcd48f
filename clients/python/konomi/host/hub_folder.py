"""A diffusers folder on a hub, file by file: what of it a model of it consists of, as its own index files say.

Nothing is known here of how its weights are cut: each part's index names the files, or there is one.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from konomi.errors import FailedPrecondition, NotFound
from konomi.host.hub_models import Remote
from konomi.i18n.catalogue import text

INDEX = "model_index.json"
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""What a tokenizer may consist of, of which a hub has those it needs; a template of chats, a program, is not asked for.
"""
STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Library → what the names of its weights' files begin with."""
UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
MOST_FILES = 200
Bring = Callable[[Remote], Path]
"""Has a file of the repository here, and returns where; raises NotFound where the hub has none."""


def bring_folder(bring: Bring, folder: str) -> list[Remote]:
    """Brings a diffusers folder and returns its files, in the order in which they came.

    Args:
        bring: brings one file.
        folder: where it goes, among the home's models.

    Raises:
        NotFound: the hub lacks a file that is needed.
        FailedPrecondition: an index names what is no file of its folder (reason UNSAFE_FORMAT).
    """
    files: list[Remote] = []

    def have(path: str) -> Path:
        if len(files) >= MOST_FILES:
            raise _strange(INDEX)
        files.append(Remote(path, f"{folder}/{path}"))
        return bring(files[-1])

    def have_if_there(path: str) -> Path | None:
        try:
            return have(path)
        except NotFound:
            files.pop()
            return None

    for part, library in _parts(_read(have(INDEX))):
        if part == "scheduler":
            have("scheduler/scheduler_config.json")
        elif part.startswith("tokenizer"):
            if not [name for name in TOKENIZER_FILES if have_if_there(f"{part}/{name}")]:
                raise NotFound(text("{path} is not there, or not for everyone ({status})", path=part, status=404))
        else:
            have(f"{part}/config.json")
            stem = f"{part}/{STEMS[library]}.safetensors"
            index = have_if_there(f"{stem}.index.json")
            for name in [stem] if index is None else _shards(part, _read(index)):
                have(name)
    return files


def _parts(index: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yields the parts a model_index.json names, and the library of each."""
    for name, pair in index.items():
        if name.startswith("_") or name in UNUSED or not isinstance(pair, list) or pair[:1] in ([], [None]):
            continue
        if not name.replace("_", "").isalnum() or not name.isascii() or pair[0] not in STEMS:
            raise _strange(INDEX)
        yield name, str(pair[0])


def _shards(part: str, index: Mapping[str, object]) -> list[str]:
    """Returns the files that an index of weights names."""
    named = index.get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise _strange(f"{part}/*.index.json")
    return [f"{part}/{name}" for name in names]


def _read(path: Path) -> Mapping[str, object]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _strange(path.name)
    return value


def _strange(name: str) -> FailedPrecondition:
    return FailedPrecondition(
        text("{file} of the hub names what is no part of a diffusers folder; nothing more was fetched", file=name),
        reason="UNSAFE_FORMAT",
    )
