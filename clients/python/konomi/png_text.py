"""What a PNG says about its making: A1111 infotext and konomi's own record, read with the standard library alone.

The thin client has no Pillow; only text chunks are looked at, their size is capped, and a malformed file says nothing.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

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
    found = SEED.search(infotext)
    return Origin(clean(infotext[: end.start()] if end else infotext), int(found.group(1)) if found else 0)


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
