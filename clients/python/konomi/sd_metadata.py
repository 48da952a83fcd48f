"""Prompts of other programs' images (A1111, ComfyUI, NovelAI, InvokeAI, Fooocus): the only file that knows sd-parsers.

Only headers are read, no pixel is decoded. Without the library an image says what `png_text` alone reads of it.
"""

import importlib
import io
import struct
from typing import Any

from konomi import extras
from konomi.png_text import Origin, clean, read_origin, texts

KEYWORDS = frozenset(
    {"prompt", "workflow", "Comment", "invokeai_metadata", "sd-metadata", "dream", "Dream", "parameters"}
)
FAULTS = (
    OSError,
    ValueError,
    SyntaxError,
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What Pillow and sd-parsers raise on files that are not what they seem."""


def origin_of(data: bytes) -> Origin:
    """Returns what an image says about its making: konomi's own record and infotext as they stand, else sd-parsers."""
    found = read_origin(data)
    if found.prompt or found.starter or extras.missing("files"):
        return found
    return _parsed(data) or found


def says_more(data: bytes) -> bool:
    """Says whether an image seems to hold a prompt that only sd-parsers reads."""
    if data[:3] == b"\xff\xd8\xff" or data[:4] == b"RIFF":
        return b"Exif" in data[:65536] or b"EXIF" in data
    return bool(KEYWORDS & {keyword for keyword, _ in texts(data)})


def _parsed(data: bytes) -> Origin | None:
    library, pillow = importlib.import_module("sd_parsers"), importlib.import_module("PIL.Image")
    eagerness = importlib.import_module("sd_parsers.extractors").Eagerness.FAST
    try:
        with pillow.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            found = library.ParserManager(eagerness=eagerness).parse(image)
        return None if found is None else _origin(found)
    except (*FAULTS, pillow.DecompressionBombError):
        return None


def _origin(found: Any) -> Origin:
    parameters: dict[str, Any] = {}
    for sampler in found.samplers:
        parameters = {**{str(name).lower(): value for name, value in sampler.parameters.items()}, **parameters}
    seed = next((_number(parameters[name]) for name in ("seed", "noise_seed") if name in parameters), 0)
    return Origin(clean(str(found.full_prompt)), int(seed) if 0 <= seed < 2**63 else 0)


def _number(value: Any) -> float:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
