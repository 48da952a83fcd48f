"""Small pictures for a page, as data URLs."""

import base64
import io
from collections.abc import Callable

from PIL import Image, UnidentifiedImageError

from konomi.errors import NotFound

SIDE = 128
"""Longest side in pixels; smaller images keep their size."""

FORMATS = ("PNG", "JPEG", "WEBP")

GONE = base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128"><rect width="128" height="128" fill="#ccc"/>'
    b'<path d="M44 44L84 84M84 44L44 84" stroke="#777" stroke-width="4"/></svg>'
).decode()
"""Stands for an image whose pixels are gone."""


class Thumbnails:
    """Makes each thumbnail once.

    Args:
        fetch: returns the bytes of an artifact.
    """

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        self._made: dict[str, str] = {}

    def url(self, digest: str) -> str:
        """Returns the image as a WebP data URL; a plain picture where its pixels are gone."""
        if digest not in self._made:
            try:
                data = self._fetch(digest)
            except NotFound:
                return f"data:image/svg+xml;base64,{GONE}"
            try:
                with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                    small = image.convert("RGB")
            except UnidentifiedImageError:  # of a kind that only limited children decode
                return f"data:image/svg+xml;base64,{GONE}"
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            small.save(out, "WEBP", quality=88, method=4)
            self._made[digest] = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
        return self._made[digest]
