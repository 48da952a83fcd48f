"""`python -m konomi_generator.model_import.importer`: puts a model from this machine among the home's base models.

A folder or a safetensors file is checked and copied. A pickle is converted once, in a child that may do nothing but
read it (conversion_worker.py); afterwards only the safetensors copy is used. Beside the model stands the file of its
settings, the owner's to change. What stands beside a base model (see beside.py) goes to where it is looked for. The
result is one line of JSON on stdout.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi_chassis.durable_files import make_folder, sync_file, sync_folder
from konomi_chassis.models.catalogue import ID, BaseModel, BaseModels, derived_settings
from konomi_chassis.models.diffusers_folder import check_folder, needed_files
from konomi_chassis.models.model_settings import read_settings, written
from konomi_chassis.models.safetensors_check import check_file, unsafe
from konomi_generator.model_import import beside

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
CHUNK = 1 << 20
WALL_SECONDS = 3600.0
ROOM = 64 << 20
ODD = re.compile(r"[^a-z0-9._-]+")


def put(source: Path, home: Path, id: str, *, convert: bool) -> dict[str, object]:
    """Puts a model among the base models of a home and returns what it is.

    Args:
        source: a diffusers folder, a .safetensors file or, with `convert`, a .ckpt, .pt, .pth or .bin.
        home: home folder.
        id: what to call it; empty takes the name of the source.
        convert: read a pickle, in a child without network, files or privileges.

    Raises:
        NotFound: there is no source.
        InvalidArgument: the id is none.
        AlreadyExists: the home has a model of that id.
        FailedPrecondition: the source could run code, is no model konomi runs, or is a pickle without `convert`, or
            the file of settings that is there cannot be read.

    A few-step adapter, an IP-Adapter or an image encoder goes beside the base models, under its own name.
    """
    if source.name in ("", ".."):
        source = source.resolve()  # else it has no name; a link keeps its own, for what it leads to may have none
    kind = beside.kind_of(source) if source.exists() else None
    if kind is not None:
        return _put_beside(source, home, kind)
    id = id or ODD.sub("-", source.stem.lower() if source.is_file() else source.name.lower()).strip("-._")[:64]
    if not ID.fullmatch(id):
        raise InvalidArgument(f"A name of small letters, digits, '.', '_' and '-' was expected; {id[:80]!r} came.")
    if not source.exists():
        raise NotFound(f"There is no file or folder {source}.", reason="SOURCE_MISSING")
    if id in BaseModels(home).ids():
        raise AlreadyExists(f'This home has a model "{id}" already; choose another name.', reason="MODEL_EXISTS")
    with _staging(home) as stage:
        staged = stage / "models" / (id if source.is_dir() else f"{id}.safetensors")
        _bring(source, staged, convert=convert)
        model = BaseModels(stage, lenders=home).get(id)
        _settle(staged)
        settings = _put_settings(model, source.stem if source.is_file() else source.name, home, stage)
        staged.rename(home / "models" / staged.name)
        sync_folder(home / "models")
    return {**_described(id, model, home), "settings_file": str(settings), "converted": _is_pickle(source)}


def _is_pickle(source: Path) -> bool:
    return source.is_file() and source.suffix.lower() in PICKLES


def _described(id: str, model: BaseModel, home: Path) -> dict[str, object]:
    """Returns what a model that has been put among those of the home is."""
    return {
        "id": id,
        "layout": model.layout,
        "prediction_type": model.prediction_type,
        "size_bytes": model.size_bytes,
        "digest": BaseModels(home).digest(BaseModels(home).get(id)),
    }


def _put_beside(source: Path, home: Path, kind: beside.Kind) -> dict[str, object]:
    """Copies what stands beside base models to where they look for it, under its own name, which says what it is.

    Raises:
        AlreadyExists: there is a file of that name.
        FailedPrecondition: it is no safetensors.
    """
    folder = home / "models" / beside.FOLDERS[kind]
    files = beside.files_of(source)
    taken = next((name for name in files.values() if (folder / name).exists()), None)
    if taken is not None:
        raise AlreadyExists(
            f"This home has models/{folder.name}/{taken} already; rename the file, or remove that one.",
            reason="MODEL_EXISTS",
        )
    with _staging(home) as stage:
        for path, name in files.items():
            if name.endswith(".safetensors"):
                check_file(path, f"The file {path.name}")
            staged = stage / "models" / name
            staged.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, staged)
        _settle(stage / "models")
        for name in files.values():
            make_folder((folder / name).parent)
            (stage / "models" / name).rename(folder / name)
            sync_folder((folder / name).parent)
    weights = folder / next(name for name in files.values() if name.endswith(".safetensors"))
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "id": f"{folder.name}/{next(iter(files.values())).partition('/')[0]}",
        "layout": kind,
        "prediction_type": "",
        "size_bytes": sum((folder / name).stat().st_size for name in files.values()),
        "digest": digest,
        "settings_file": "",
        "converted": False,
    }


def _put_settings(model: BaseModel, source: str, home: Path, stage: Path) -> Path:
    """Writes how a model draws and learns, as far as it and its source's name say; a file that is there already stays.

    Raises:
        FailedPrecondition: the file that is there cannot be read (reason MODEL_SETTINGS).
    """
    path, staged = BaseModels(home).settings_file(model.id), BaseModels(stage).settings_file(model.id)
    settings = derived_settings(model, source)
    if path.exists():
        read_settings(path, settings)
        return path
    staged.write_text(written(settings), "utf-8")
    sync_file(staged)
    staged.rename(path)
    return path


def _bring(source: Path, staged: Path, *, convert: bool) -> None:
    """Copies or converts the source into the staging folder; checked before and, in the copy, by the caller."""
    if source.is_dir():
        check_folder(source)
        for path in needed_files(source):
            target = staged / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        check_folder(staged)
    elif source.suffix.lower() in PICKLES:
        if not convert:
            unsafe(f"The file {source.name}", "it is a pickle, which can run code; --convert reads it in a sandbox")
        _convert(source, staged)
        check_file(staged, f"The conversion of {source.name}")
    else:
        check_file(source, f"The file {source.name}")
        shutil.copyfile(source, staged)


def _convert(source: Path, staged: Path, seconds: float = WALL_SECONDS) -> None:
    """Has the child write what it reads of the source into a new file; stops one that writes or takes too much."""
    length = source.stat().st_size
    command = [sys.executable, "-m", "konomi_generator.model_import.conversion_worker", str(length)]
    environment = {"PATH": os.defpath, "HOME": "/nonexistent", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    with source.open("rb") as checkpoint, staged.open("xb") as out, tempfile.TemporaryDirectory() as folder:
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=checkpoint, stdout=pipe, stderr=pipe, env=environment, cwd=folder)
        until, written = time.monotonic() + seconds, 0
        assert child.stdout is not None and child.stderr is not None
        while chunk := child.stdout.read(CHUNK):
            written += out.write(chunk)
            if written > length + ROOM or time.monotonic() > until:
                child.kill()
                break
        stderr = child.stderr.read(65536).decode(errors="replace")
        child.stdout.close()
        child.stderr.close()
        code = child.wait()
    if code != 0:
        unsafe(f"The file {source.name}", f"it could not be converted ({_reason(stderr, code)})")


def _reason(stderr: str, code: int) -> str:
    for line in reversed(stderr.splitlines()):
        try:
            return str(json.loads(line)["refused"])
        except (ValueError, KeyError, TypeError):
            continue
    return f"the sandboxed child ended by signal {-code}" if code < 0 else "the sandboxed child failed"


@contextmanager
def _staging(home: Path) -> Iterator[Path]:
    """Yields a folder on the home's own disk that is gone afterwards."""
    make_folder(home / "models")
    with tempfile.TemporaryDirectory(prefix=".import-", dir=home) as folder:
        (Path(folder) / "models").mkdir()
        yield Path(folder)


def _settle(path: Path) -> None:
    """Makes every file of a model, and every name in its folders, durable before it gets its own name."""
    for place in [path, *path.rglob("*")]:
        if place.is_dir():
            sync_folder(place)
        elif place.is_file():
            sync_file(place)


def main(argv: Sequence[str]) -> int:
    """Puts one model; prints what it is, or why it is not there."""
    parser = argparse.ArgumentParser(prog="konomi_generator.model_import.importer")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--id", default="")
    parser.add_argument("--convert", action="store_true")
    parser.add_argument("source", type=Path)
    given = parser.parse_args(argv)
    try:
        result = put(given.source, given.home, given.id, convert=given.convert)
    except KonomiError as error:
        print(json.dumps({"code": error.code.value[0], "reason": error.reason, "error": error.message}))
        return 1
    except OSError as error:
        failed = FailedPrecondition(f"{given.source.name} cannot be copied: {error.strerror}.", reason="DISK")
        print(json.dumps({"code": failed.code.value[0], "reason": failed.reason, "error": failed.message}))
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
