"""Small pictures for a page, as data URLs."""

import base64
import io
from collections.abc import Callable

from PIL import Image

SIDE = 128
"""Longest side in pixels; smaller images keep their size."""

FORMATS = ("PNG", "JPEG", "WEBP")


class Thumbnails:
    """Makes each thumbnail once.

    Args:
        fetch: returns the bytes of an artifact.
    """

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        self._made: dict[str, str] = {}

    def url(self, digest: str) -> str:
        """Returns the image as a WebP data URL."""
        if digest not in self._made:
            with Image.open(io.BytesIO(self._fetch(digest)), formats=FORMATS) as image:
                small = image.convert("RGB")
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            small.save(out, "WEBP", quality=88, method=4)
            self._made[digest] = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
        return self._made[digest]
