"""Shows an image in a terminal: its file, and coloured half blocks where Pillow is installed."""

import io
import sys
from importlib.util import find_spec
from pathlib import Path

from konomi.console import note
from konomi.image_files import media_type_of
from konomi.messages import text
from konomi.v1 import rater_pb2 as rater

COLUMNS = 48
SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def show(data: bytes, image: rater.Image, folder: Path) -> None:
    """Writes the image into a folder, says where, and draws it where the terminal can."""
    path = folder / (image.digest[:16] + SUFFIXES.get(media_type_of(data[:12]), ".bin"))
    path.write_bytes(data)
    if sys.stderr.isatty() and find_spec("PIL"):
        note(blocks(data))
    caption = f" · {image.prompt}" if image.prompt else ""
    note(text("image {digest} in {path}{caption}", digest=image.digest[:12], path=path, caption=caption))


def blocks(data: bytes, columns: int = COLUMNS) -> str:
    """Returns an image as lines of upper half blocks: two pixels, one above the other, in each character."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
        height = max(2, round(columns * opened.height / opened.width / 2) * 2)
        small = opened.convert("RGB").resize((columns, height))
    pixels = small.tobytes()

    def colour(x: int, y: int) -> str:
        start = 3 * (y * columns + x)
        return ";".join(str(value) for value in pixels[start : start + 3])

    lines = (
        "".join(f"\x1b[38;2;{colour(x, y)};48;2;{colour(x, y + 1)}m▀" for x in range(columns)) + "\x1b[0m"
        for y in range(0, height, 2)
    )
    return "\n".join(lines)
