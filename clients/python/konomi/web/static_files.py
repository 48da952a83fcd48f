"""The page's own files, read once at the start; a request names one of them or gets nothing."""

import hashlib
import re
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).with_name("static")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".png": "image/png",
}
AT_ROOT = ("sw.js", "manifest.webmanifest")
VERSION = b"%VERSION%"
LIST = b"%FILES%"


class StaticFiles:
    """What an installed page keeps for when there is no network."""

    def __init__(self, folder: Path = FOLDER) -> None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in KINDS)
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        whole = hashlib.sha256(b"".join(name.encode() + data for name, data in files.items()))
        self.version = whole.hexdigest()[:16]
        names = [_address(name) for name in files if name != "sw.js"]
        worker = files["sw.js"].replace(VERSION, self.version.encode())
        files["sw.js"] = worker.replace(LIST, ",".join(f'"{name}"' for name in names).encode())
        self._answers = {
            _address(name): (data, KINDS[Path(name).suffix], hashlib.sha256(data).hexdigest()[:32])
            for name, data in files.items()
        }

    async def serve(self, request: Request) -> Response:
        """Answers with a file, or with nothing where the browser has it already."""
        file = self._answers.get(request.url.path)
        if file is None:
            return Response("not found", 404, media_type="text/plain")
        data, kind, digest = file
        headers = {"etag": f'"{digest}"', "cache-control": "no-cache"}
        if request.url.path == "/sw.js":
            headers["service-worker-allowed"] = "/"
        if digest in re.findall(r'"([0-9a-f]{32})"', request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        return Response(data, media_type=kind, headers=headers)


def _address(name: str) -> str:
    if name == "index.html":
        return "/"
    return f"/{name}" if name in AT_ROOT or name.startswith("icon-") else f"/static/{name}"
