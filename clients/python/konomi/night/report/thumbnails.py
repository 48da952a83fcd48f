"""Small pictures for a page, as data URLs."""

import base64
import io
import weakref
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from konomi.errors import InvalidArgument, NotFound
from konomi.host.thumbnails import Shrinker
from konomi.night.report.page import Picture

SIDE = 128
"""Longest side in pixels; smaller images keep their size."""

GONE = base64.b64encode(
    b'<svg xmlns="http://www.w3.org/2000/svg" width="128" height="128"><rect width="128" height="128" fill="#ccc"/>'
    b'<path d="M44 44L84 84M84 44L44 84" stroke="#777" stroke-width="4"/></svg>'
).decode()
"""Stands for an image whose pixels are gone, or that cannot be read."""


class Thumbnails:
    """Makes each thumbnail once, in children: what a person likes may have come from anywhere.

    Args:
        fetch: returns the bytes of an artifact.
    """

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch, self._shrinker = fetch, Shrinker()
        weakref.finalize(self, self._shrinker.close)
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
                small = self._shrinker.shrink(self._fetch(digest), SIDE)
            except (NotFound, InvalidArgument):
                return Picture(f"data:image/svg+xml;base64,{GONE}")
            with Image.open(io.BytesIO(small), formats=("WEBP",)) as image:
                width, height = image.size
            url = "data:image/webp;base64," + base64.b64encode(small).decode()
            self._made[digest] = Picture(url, width=width, height=height)
        return self._made[digest]
