"""Puts the bundled models where the services look for them."""

import hashlib
import shutil
from pathlib import Path

from konomi.errors import FailedPrecondition

BUNDLED = Path(__file__).with_name("models")


def digest_of(folder: Path) -> str:
    """Returns one sha256 over the relative names and bytes of every file of a folder."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(folder)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def install(home: Path) -> dict[str, str]:
    """Copies the starter models to `home`/models/starter, complete or not at all; a no-op when they are there.

    Raises:
        FailedPrecondition: this installation carries no bundled models.
    """
    if not (BUNDLED / "diffusion" / "model_index.json").exists():
        raise FailedPrecondition(
            "the bundled models are missing from this installation; reinstall konomi", reason="MODEL_MISSING"
        )
    target = home / "models" / "starter"
    digest = digest_of(BUNDLED)
    if not target.exists() or digest_of(target) != digest:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = target.with_name(".starter.part")
        shutil.rmtree(staging, ignore_errors=True)
        _copy(BUNDLED, staging)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    return {"models": "starter", "digest": digest}


def _copy(source: Path, target: Path) -> None:
    """Copies a folder with the permissions of this process, not with those of an installation others share."""
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir():
            _copy(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)
