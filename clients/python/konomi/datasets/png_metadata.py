"""What a PNG says about its making: A1111 infotext and konomi's own record, read with the standard library alone.

The thin client has no Pillow; only text chunks are looked at, their size is capped, and a malformed file says nothing.
"""

import importlib
import io
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from konomi.host import extras

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_TEXT_BYTES = 256 * 1024
MAX_PROMPT_BYTES = 4096
MAX_CHUNKS = 10_000
SEED = re.compile(r"(?:^|, )Seed: (\d{1,18})(?:,|$)", re.MULTILINE)
LAST_LINE = re.compile(r"(?:^|\n)(?:Negative prompt:|Steps: \d)")


@dataclass(frozen=True)
class Origin:
    """Prompt and seed an image was made from, as far as it says; `starter` when the starter model made it."""

    prompt: str = ""
    seed: int = 0
    starter: bool = False


def read_origin(data: bytes) -> Origin:
    """Returns what a PNG says about its making; nothing of it is trusted beyond being text."""
    chunks = dict(texts(data))
    own = _record(chunks.get("konomi", ""))
    infotext = chunks.get("parameters", "")
    if own is not None:
        seed = own.get("seed")
        return Origin(
            clean(str(own.get("prompt", ""))),
            seed if isinstance(seed, int) and 0 <= seed < 2**63 else 0,
            own.get("base_model") == "starter",
        )
    return read_infotext(infotext)


def read_infotext(infotext: str) -> Origin:
    """Returns prompt and seed of an infotext as A1111 writes it."""
    end = LAST_LINE.search(infotext)
    match = SEED.search(infotext)
    return Origin(clean(infotext[: end.start()] if end else infotext), int(match.group(1)) if match else 0)


def clean(prompt: str) -> str:
    """Returns a prompt the rater takes: no control characters, at most 4 KiB of UTF-8."""
    printable = "".join(character if character.isprintable() else " " for character in prompt)
    return printable.strip().encode("utf-8", "ignore")[:MAX_PROMPT_BYTES].decode("utf-8", "ignore")


def _record(content: str) -> dict[str, object] | None:
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Yields keyword and text of every text chunk (PNG specification, 11.3.3); nothing for what is no PNG."""
    if not data.startswith(SIGNATURE):
        return
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            return
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind in (b"tEXt", b"zTXt", b"iTXt") and length <= MAX_TEXT_BYTES:
            body = data[position + 8 : position + 8 + length]
            keyword, separator, rest = body.partition(b"\0")
            if separator:
                yield keyword.decode("latin-1"), _text(kind, rest)
        position += 12 + length


def _text(kind: bytes, rest: bytes) -> str:
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _inflate(rest[1:]).decode("latin-1")
    compressed, _, rest = rest[:1], rest[1:2], rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, content = rest.partition(b"\0")
    return (_inflate(content) if compressed == b"\1" else content).decode("utf-8", "replace")


def _inflate(packed: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(packed, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


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
    origin = read_origin(data)
    if origin.prompt or origin.starter or extras.missing("files"):
        return origin
    return _parsed(data) or origin


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
            metadata = library.ParserManager(eagerness=eagerness).parse(image)
        return None if metadata is None else _origin(metadata)
    except (*FAULTS, pillow.DecompressionBombError):
        return None


def _origin(metadata: Any) -> Origin:
    parameters: dict[str, object] = {}
    for sampler in metadata.samplers:
        parameters = {**{str(name).lower(): value for name, value in sampler.parameters.items()}, **parameters}
    seed = next((_number(parameters[name]) for name in ("seed", "noise_seed") if name in parameters), 0)
    return Origin(clean(str(metadata.full_prompt)), int(seed) if 0 <= seed < 2**63 else 0)


def _number(value: Any) -> float:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0
