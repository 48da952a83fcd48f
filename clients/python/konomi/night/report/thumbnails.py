"""Small pictures for a page, as data URLs."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace

from PIL import Image, UnidentifiedImageError

from konomi.errors import NotFound
from konomi.night.report.page import Picture

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
        self._made: dict[str, Picture] = {}

    def picture(self, digest: str, alt: str = "", grade: int = 0) -> Picture:
        """Returns the image as a WebP data URL with its size; a plain picture where its pixels are gone.

        Args:
            digest: of the image.
            alt: what it shows, for people who do not see it.
            grade: its true grade 1..5, 0 where that is not known.
        """
        return replace(self._small(digest), alt=alt, grade=grade)

    def _small(self, digest: str) -> Picture:
        if digest not in self._made:
            try:
                data = self._fetch(digest)
            except NotFound:
                return Picture(f"data:image/svg+xml;base64,{GONE}")
            try:
                with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                    small = image.convert("RGB")
            except UnidentifiedImageError:  # of a kind that only limited children decode
                return Picture(f"data:image/svg+xml;base64,{GONE}")
            small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            out = io.BytesIO()
            small.save(out, "WEBP", quality=88, method=4)
            url = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
            self._made[digest] = Picture(url, width=small.width, height=small.height)
        return self._made[digest]
