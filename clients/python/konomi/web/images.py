"""Image bytes by digest: originals under a fixed media type, thumbnails re-encoded and kept in the home's cache."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cachetools import LRUCache
from starlette.requests import Request
from starlette.responses import Response

from konomi.client import Client
from konomi.datasets.media import media_type_of
from konomi.errors import GONE, InvalidArgument, KonomiError, NotFound
from konomi.files import write_quickly
from konomi.host.thumbnails import Shrinker
from konomi.i18n.catalogue import text
from konomi.web.responses import failure, in_worker

DIGEST = re.compile(r"[0-9a-f]{64}")
SIDES = {"thumb": 320, "small": 160, "large": 2048}
"""Longest sides in pixels; "large" stands for an original no browser shows."""

UNSHOWN = frozenset({"image/heic", "image/heif", "image/tiff"})
"""Media types that browsers do not draw."""

LASTING = {"cache-control": "private, max-age=31536000, immutable"}
SANDBOX = {"content-security-policy": "default-src 'none'; sandbox", "content-disposition": "inline"}
EMPTY_TILE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="320" height="320" viewBox="0 0 320 320">'
    '<rect width="320" height="320" fill="#888" fill-opacity=".16"/>'
    '<path d="M140 140L180 180M180 140L140 180" stroke="#888" stroke-width="4"/></svg>'
)
"""Stands for pixels that are gone, on a light page and on a dark one."""
KEPT = 64
"""Originals kept in memory: those prefetched and about to be asked for again."""


class ImageEndpoints:
    """Serves /image/DIGEST, /thumb/DIGEST and /small/DIGEST.

    Args:
        client: returns the client of now.
        cache: folder of the thumbnails.
    """

    def __init__(self, client: Callable[[], Client], cache: Path) -> None:
        self._client, self._cache = client, cache
        self._shrinker = Shrinker()
        self._workers = ThreadPoolExecutor(6, "page-images")
        self._lock = threading.Lock()
        self._kept: LRUCache[str, bytes] = LRUCache(KEPT)
        self._workers.submit(self._shrinker.warm)

    async def image(self, request: Request) -> Response:
        """Answers with the stored bytes; as a WebP where no browser draws them."""
        return await self._answer(request.path_params["digest"], self._original)

    async def thumb(self, request: Request) -> Response:
        """Answers with a thumbnail for a grid."""
        return await self._answer(request.path_params["digest"], lambda digest: self._thumbnail(digest, "thumb"))

    async def small(self, request: Request) -> Response:
        """Answers with a small thumbnail."""
        return await self._answer(request.path_params["digest"], lambda digest: self._thumbnail(digest, "small"))

    def close(self) -> None:
        """Ends the children and lets go of the workers."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._shrinker.close()

    async def _answer(self, digest: str, find: Callable[[str], tuple[bytes, str]]) -> Response:
        try:
            if not DIGEST.fullmatch(digest):
                message = text("expected a sha256 digest of 64 lower-case hexadecimal digits")
                raise InvalidArgument(message, field="digest")
            data, kind = await in_worker(self._workers, find, digest)
        except NotFound as error:
            return _placeholder() if error.reason in GONE else failure(error)
        except KonomiError as error:
            return failure(error)
        return Response(data, media_type=kind, headers=LASTING | SANDBOX)

    def _original(self, digest: str) -> tuple[bytes, str]:
        with self._lock:
            data = self._kept.get(digest)
        if data is None:
            data = self._client().artifacts.get(digest)
            with self._lock:
                self._kept[digest] = data
        kind = media_type_of(data[:12])
        if not kind:
            message = text("expected the digest of an image, got another artifact's")
            raise InvalidArgument(message, reason="NOT_AN_IMAGE")
        return self._thumbnail(digest, "large") if kind in UNSHOWN else (data, kind)

    def _thumbnail(self, digest: str, size: str) -> tuple[bytes, str]:
        path = self._cache / size / digest[:2] / f"{digest}.webp"
        try:
            return path.read_bytes(), "image/webp"
        except FileNotFoundError:
            small = self._shrinker.shrink(self._client().artifacts.get(digest), SIDES[size])
        write_quickly(path, small)
        return small, "image/webp"


def _placeholder() -> Response:
    """Answers for an image whose pixels are gone: a plain tile without words, under the status that says so."""
    return Response(EMPTY_TILE, 404, media_type="image/svg+xml", headers={"cache-control": "no-store"} | SANDBOX)
