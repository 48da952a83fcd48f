"""An image as a terminal's escape sequences: kitty's graphics protocol, sixel, or coloured half blocks.

kitty: Goyal, "Terminal graphics protocol", kitty's documentation: a PNG in base64, in pieces of at most 4096 bytes.
Sixel: DEC, "VT330/VT340 Programmer Reference Manual", volume 2, chapter 14: bands of six rows, one colour at a time.
Every image is decoded and encoded anew, so that nothing a stranger wrote into its file reaches the terminal.
"""

import base64
import io
from collections.abc import Callable, Mapping
from enum import Enum
from itertools import groupby
from typing import Any

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
