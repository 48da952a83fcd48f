"""Checks a safetensors file from anywhere before a library reads it: recognised by parsing, never by its name."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from konomi.errors import FailedPrecondition

MAX_HEADER_BYTES = 8_000_000
MAX_TENSORS = 20_000
MAX_RANK = 8
MAX_NAME = 512
BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
    "BOOL": 8,
}
"""The dtypes konomi reads, and their bits."""
RUN = (
    "Stable Diffusion 1.x, 2.x and XL, and as diffusers folders, or a transformer's file beside one, Stable Diffusion "
    "3 and 3.5, FLUX.1, Chroma, FLUX.2 klein, Qwen-Image, Z-Image and Lumina Image 2.0"
)
"""The base models konomi runs, as refusals say it."""
PREFIXES = {
    b"PK\x03\x04": "a zip archive (a PyTorch pickle, most likely)",
    b"\x80": "a Python pickle",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a rar archive",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x7fELF": "a program",
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the header: dtype name, shape, and its bytes [start, end) counted from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def parameters(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a checked file says of itself: metadata, tensors by name, and where the tensors' bytes begin."""

    metadata: Mapping[str, str]
    tensors: Mapping[str, TensorEntry]
    data_start: int


def check_bytes(data: bytes, what: str = "The file") -> Header:
    """Returns the header of safetensors bytes.

    Args:
        data: the whole file.
        what: how to call it in the message.

    Raises:
        FailedPrecondition: it is anything else, or breaks a limit (reason UNSAFE_FORMAT).
    """
    length = _header_length(data[:8], len(data), what)
    return _parse(data[8 : 8 + length], len(data), what)


def check_file(path: Path, what: str = "") -> Header:
    """Returns the header of a safetensors file, reading nothing but the header.

    Raises:
        FailedPrecondition: it is anything else, or breaks a limit (reason UNSAFE_FORMAT).
    """
    with path.open("rb") as file:
        return _check_stream(file, path.stat().st_size, what or f"The file {path.name}")


def _check_stream(file: BinaryIO, size: int, what: str) -> Header:
    length = _header_length(file.read(8), size, what)
    return _parse(file.read(length), size, what)


def unsafe(what: str, why: str) -> NoReturn:
    """Raises the one error for files konomi will not read."""
    raise FailedPrecondition(
        f"{what} was refused: {why}. Only safetensors files are read; "
        "have its author publish one, or convert a base model with `konomi models import --convert`.",
        reason="UNSAFE_FORMAT",
    )


def unsupported(id: str, why: str) -> NoReturn:
    """Raises the one error for base models konomi does not run."""
    raise FailedPrecondition(
        f'The base model "{id}" cannot be run: {why}. konomi runs {RUN}.',
        reason="MODEL_LAYOUT",
    )


def _header_length(first: bytes, size: int, what: str) -> int:
    for prefix, kind in PREFIXES.items():
        if first.startswith(prefix) and not _plausible(first, size):
            unsafe(what, f"it is {kind}, not safetensors")
    if len(first) < 8:
        unsafe(what, f"it has only {size} bytes")
    if not _plausible(first, size):
        unsafe(
            what,
            f"it is not safetensors, or its header exceeds {MAX_HEADER_BYTES} bytes or the file's own {size} bytes",
        )
    return int.from_bytes(first, "little")


def _plausible(first: bytes, size: int) -> bool:
    length = int.from_bytes(first, "little")
    return len(first) == 8 and 2 <= length <= min(MAX_HEADER_BYTES, size - 8)


def _parse(raw: bytes, size: int, what: str) -> Header:
    try:
        if not raw.startswith(b"{"):
            raise ValueError("no JSON object")
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        unsafe(what, f"its header is not the JSON of safetensors ({str(error)[:80]})")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        unsafe(what, "its metadata are not text")
    if len(header) > MAX_TENSORS:
        unsafe(what, f"it holds {len(header)} tensors, more than {MAX_TENSORS}")
    tensors = {name: _entry(name, entry, what) for name, entry in header.items()}
    _check_layout(tensors, size - 8 - len(raw), what)
    return Header(metadata, tensors, 8 + len(raw))


def _entry(name: str, entry: Any, what: str) -> TensorEntry:
    label = f"tensor {name[:80]!r}"
    if not name or len(name) > MAX_NAME or not name.isprintable():
        unsafe(what, f"{label} has an odd name")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        unsafe(what, f"{label} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        unsafe(what, f"{label} has dtype {str(dtype)[:20]!r}, which is not one of {', '.join(BITS)}")
    if not _counts(shape) or len(shape) > MAX_RANK:
        unsafe(what, f"{label} has no proper shape")
    if not _counts(offsets) or len(offsets) != 2:
        unsafe(what, f"{label} has no proper offsets")
    if offsets[1] - offsets[0] != math.prod(shape) * BITS[dtype] // 8:
        unsafe(what, f"{label} has {offsets[1] - offsets[0]} bytes, which is not what its shape and dtype need")
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _check_layout(tensors: Mapping[str, TensorEntry], data_bytes: int, what: str) -> None:
    position = 0
    for entry in sorted(tensors.values(), key=lambda e: (e.start, e.end)):
        if entry.start != position:
            unsafe(what, f"its tensors overlap or leave a gap at byte {position}")
        position = entry.end
    if position != data_bytes:
        unsafe(what, f"its tensors take {position} bytes but {data_bytes} are there")


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in value)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name comes twice")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
