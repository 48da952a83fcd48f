"""Shows an image in a terminal: its file, and its picture where Pillow is installed."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from konomi.console import note
from konomi.image_files import media_type_of
from konomi.messages import text
from konomi.terminal_images import Way, draw
from konomi.terminal_query import way_of
from konomi.v1 import rater_pb2 as rater

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


def way_here() -> Way | None:
    """Returns how this process's terminal shows pictures; None where nobody would see them."""
    if not sys.stderr.isatty() or find_spec("PIL") is None:
        return None
    return way_of(sys.stdin.fileno(), os.environ) if sys.stdin.isatty() else Way.BLOCKS


def show(data: bytes, image: rater.Image, folder: Path, way: Way | None) -> None:
    """Writes the image into a folder, says where, and draws it where there is a way."""
    path = folder / (image.digest[:16] + SUFFIXES.get(media_type_of(data[:12]), ".bin"))
    path.write_bytes(data)
    if way is not None:
        note(draw(data, way))
    caption = f" · {image.prompt}" if image.prompt else ""
    note(text("image {digest} in {path}{caption}", digest=image.digest[:12], path=path, caption=caption))
