"""Shows an image in a terminal: its file, and its picture where Pillow is installed."""

import base64
import io
import os
import re
import select
import sys
import time
from collections.abc import Callable, Mapping
from enum import Enum
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from konomi.cli.console import note, picture
from konomi.datasets.media import ENDINGS, media_type_of
from konomi.i18n.catalogue import text
from konomi.v1 import rater_pb2 as rater

COLUMNS = 48
"""Width of a drawn image in characters."""

SIDE = 384
"""Longest side in pixels of what kitty and sixel terminals get."""

SIXEL_COLOURS = 128
KITTY_PIECE = 4096
FORMATS = ("PNG", "JPEG", "WEBP")


class Way(Enum):
    """How a terminal shows pictures."""

    KITTY = "kitty"
    SIXEL = "sixel"
    BLOCKS = "blocks"


def draw(data: bytes, way: Way) -> str:
    """Returns an encoded image as what a terminal prints to show it."""
    return _DRAWN[way](data)


def kitty(data: bytes, columns: int = COLUMNS) -> str:
    """Returns the image for kitty's protocol; the terminal is told not to answer."""
    out = io.BytesIO()
    _opened(data, SIDE).save(out, "PNG")
    text = base64.b64encode(out.getvalue()).decode()
    pieces = [text[start : start + KITTY_PIECE] for start in range(0, len(text), KITTY_PIECE)]
    first = f"a=T,f=100,q=2,c={columns},"
    return "".join(
        f"\x1b_G{'' if place else first}m={int(place < len(pieces) - 1)};{piece}\x1b\\"
        for place, piece in enumerate(pieces)
    )


def sixel(data: bytes) -> str:
    """Returns the image as sixels in up to `SIXEL_COLOURS` colours."""
    image = _opened(data, SIDE).quantize(SIXEL_COLOURS)
    width, height = image.size
    palette = image.getpalette() or []
    pixels = image.tobytes()
    used = sorted(set(pixels))
    percent = {colour: [round(value / 2.55) for value in palette[3 * colour : 3 * colour + 3]] for colour in used}
    registers = "".join(f"#{colour};2;" + ";".join(map(str, percent[colour])) for colour in used)
    bands = "-".join(_band(pixels[6 * width * top : 6 * width * (top + 1)], width) for top in range(-(-height // 6)))
    return f'\x1bPq"1;1;{width};{height}{registers}{bands}\x1b\\'


def blocks(data: bytes, columns: int = COLUMNS) -> str:
    """Returns an image as lines of upper half blocks: two pixels, one above the other, in each character."""
    opened = _opened(data)
    height = max(2, round(columns * opened.height / opened.width / 2) * 2)
    pixels = opened.resize((columns, height)).tobytes()

    def colour(x: int, y: int) -> str:
        start = 3 * (y * columns + x)
        return ";".join(str(value) for value in pixels[start : start + 3])

    lines = (
        "".join(f"\x1b[38;2;{colour(x, y)};48;2;{colour(x, y + 1)}m▀" for x in range(columns)) + "\x1b[0m"
        for y in range(0, height, 2)
    )
    return "\n".join(lines)


_DRAWN: Mapping[Way, Callable[[bytes], str]] = {Way.KITTY: kitty, Way.SIXEL: sixel, Way.BLOCKS: blocks}


def _opened(data: bytes, side: int | None = None) -> Any:
    """Returns the first frame in RGB, its longest side at most `side`."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        image = opened.convert("RGB")
    image.info.clear()
    if side is not None:
        image.thumbnail((side, side))
    return image


def _band(pixels: bytes, width: int) -> str:
    """Returns up to six rows of colour numbers as sixels, one colour over the other."""
    drawn: dict[int, bytearray] = {}
    for place, colour in enumerate(pixels):
        row, x = divmod(place, width)
        drawn.setdefault(colour, bytearray(width))[x] |= 1 << row
    return "$".join(f"#{colour}{_run_lengths(bits)}" for colour, bits in sorted(drawn.items()))


def _run_lengths(bits: bytearray) -> str:
    runs = ((chr(63 + value), len(list(same))) for value, same in groupby(bits))
    return "".join(f"!{count}{letter}" if count > 3 else letter * count for letter, count in runs)


QUESTION = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\\x1b[c"
KITTY_ANSWERS = b"\x1b_Gi=31;OK"
ATTRIBUTES = re.compile(rb"\x1b\[\?([0-9;]*)c")
SIXEL = b"4"

SECONDS = 1.0
"""A terminal that has not answered by then, for example because it is far away, gets blocks."""

MUTE = ("", "dumb", "linux")
"""Terminals that would print the question instead of answering it."""


def way_of(terminal: int, environment: Mapping[str, str], seconds: float = SECONDS) -> Way:
    """Returns how a terminal shows pictures.

    Args:
        terminal: descriptor of a terminal whose input is neither echoed nor held back until Enter.
        environment: of this process.
        seconds: how long to wait for an answer.
    """
    if environment.get("TERM", "") in MUTE:
        return Way.BLOCKS
    os.write(terminal, QUESTION)
    answer = b""
    deadline = time.monotonic() + seconds
    while (attributes := ATTRIBUTES.search(answer)) is None:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return Way.KITTY if KITTY_ANSWERS in answer else Way.BLOCKS
        answer += os.read(terminal, 1024)
    if KITTY_ANSWERS in answer:
        return Way.KITTY
    return Way.SIXEL if SIXEL in attributes[1].split(b";") else Way.BLOCKS


DRAWN_KINDS = frozenset({"image/png", "image/jpeg", "image/webp"})
"""What is decoded in this process; of images of other kinds the file alone is named."""


def way_here() -> Way | None:
    """Returns how this process's terminal shows pictures; None where nobody would see them."""
    if not sys.stderr.isatty() or find_spec("PIL") is None:
        return None
    return way_of(sys.stdin.fileno(), os.environ) if sys.stdin.isatty() else Way.BLOCKS


def show(data: bytes, image: rater.Image, folder: Path, way: Way | None) -> None:
    """Writes the image into a folder, says where, and draws it where there is a way."""
    kind = media_type_of(data[:12])
    path = folder / (image.digest[:16] + ENDINGS.get(kind, ".bin"))
    path.write_bytes(data)
    if way is not None and kind in DRAWN_KINDS:
        picture(draw(data, way))
    caption = "".join(f" · {part}" for part in (image.path, image.prompt) if part)
    note(text("image {digest} in {path}{caption}", digest=image.digest[:12], path=path, caption=caption))
