"""A small server with Immich's HTTP shapes, as its OpenAPI document of version 3.1.0 has them, over real sockets.

It checks keys and permissions, pages its searches, and keeps stars and tags as Immich does; its refusals are Immich's:
{"message", "error", "statusCode", "correlationId"}.
"""

import base64
import hashlib
import json
import threading
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

KEY = "-".join(("made", "up", "key", "of", "a", "test"))
READ = frozenset({"asset.read", "asset.view", "album.read"})
ALL = READ | {"asset.download", "asset.update", "tag.create", "tag.asset"}
PAGE = 3
"""Pictures of a page, however many are asked for: so small that every test turns some."""


def identity(number: int) -> str:
    """Returns an id as Immich makes them."""
    return str(uuid.UUID(int=number, version=4))


@dataclass
class Picture:
    """An asset."""

    id: str
    data: bytes
    name: str = "IMG.jpg"
    kind: str = "IMAGE"
    rating: int | None = None
    favourite: bool = False
    trashed: bool = False
    tags: set[str] = field(default_factory=set)

    def plain(self) -> dict[str, Any]:
        """Returns the AssetResponseDto."""
        when = "2026-01-01T00:00:00.000Z"
        return {
            "id": self.id,
            "type": self.kind,
            "originalFileName": self.name,
            "originalMimeType": "image/png",
            "originalPath": f"/data/upload/{self.name}",
            "checksum": base64.b64encode(hashlib.sha1(self.data, usedforsecurity=False).digest()).decode(),
            "isFavorite": self.favourite,
            "isTrashed": self.trashed,
            "isArchived": False,
            "isOffline": False,
            "isEdited": False,
            "hasMetadata": True,
            "visibility": "timeline",
            "ownerId": identity(999),
            "exifInfo": {"rating": self.rating, "make": None, "description": ""},
            **dict.fromkeys(("createdAt", "updatedAt", "fileCreatedAt", "fileModifiedAt", "localDateTime"), when),
            **dict.fromkeys(("width", "height"), 64),
            **dict.fromkeys(("thumbhash", "duplicateId", "libraryId", "livePhotoVideoId", "duration")),
        }


class Immich:
    """The server; `asked` holds (method, path, body) of each call.

    Attributes:
        permissions: of the one key.
        fail: path → status it answers with, whatever is asked.
    """

    def __init__(self) -> None:
        self.pictures: dict[str, Picture] = {}
        self.albums: dict[str, tuple[str, list[str]]] = {}
        self.tags: dict[str, str] = {}
        self.permissions: set[str] = set(ALL)
        self.asked: list[tuple[str, str, Any]] = []
        self.fail: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Immich":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, number: int, data: bytes, **about: Any) -> Picture:
        """Adds a picture."""
        made = Picture(identity(number), data, about.pop("name", f"IMG_{number:04}.jpg"), **about)
        self.pictures[made.id] = made
        return made

    def fetched(self) -> int:
        """Returns how many pictures' bytes were asked for."""
        return sum("/thumbnail" in path or "/original" in path for _, path, _ in self.asked)

    def writes(self) -> list[tuple[str, str, Any]]:
        """Returns the calls that change something."""
        return [call for call in self.asked if call[0] in ("PUT", "DELETE")]

    def answer(self, method: str, path: str, body: Any) -> tuple[int, object]:
        """Returns status and answer of a call."""
        parts = path.split("/")[2:]
        match (method, *parts):
            case ("GET", "server", "version"):
                return 200, {"major": 3, "minor": 1, "patch": 0}
            case ("POST", "search", "metadata"):
                return self._allowed("asset.read") or self._search(body)
            case ("GET", "albums"):
                said = [{"id": one, "albumName": name} for one, (name, _) in self.albums.items()]
                return self._allowed("album.read") or (200, said)
            case ("GET", "assets", one, "thumbnail" | "original" as what):
                refused = self._allowed("asset.view" if what == "thumbnail" else "asset.download")
                return refused or (200, self.pictures[one].data) if one in self.pictures else _refused(404, "Not found")
            case ("PUT", "assets"):
                return self._allowed("asset.update") or self._rate(body)
            case ("PUT", "tags"):
                return self._allowed("tag.create") or self._upsert(body)
            case ("PUT", "tags", "assets"):
                return self._allowed("tag.asset") or self._tag(body)
            case ("DELETE", "tags", tag, "assets"):
                return self._allowed("tag.asset") or self._untag(tag, body)
        return _refused(404, f"Cannot {method} {path}")

    def _allowed(self, permission: str) -> tuple[int, object] | None:
        if permission in self.permissions:
            return None
        return _refused(403, f"Missing required permission: {permission}")

    def _search(self, body: dict[str, Any]) -> tuple[int, object]:
        found = list(self.pictures.values())
        if body.get("albumIds"):
            wanted = {one for album in body["albumIds"] for one in self.albums[album][1]}
            found = [picture for picture in found if picture.id in wanted]
        if body.get("isFavorite"):
            found = [picture for picture in found if picture.favourite]
        page, size = body.get("page", 1), min(PAGE, body["size"])
        some = found[(page - 1) * size : page * size]
        more = str(page + 1) if page * size < len(found) else None
        items = [picture.plain() for picture in some]
        assets = {"total": len(items), "count": len(items), "items": items, "facets": [], "nextPage": more}
        return 200, {"albums": {"total": 0, "count": 0, "items": [], "facets": []}, "assets": assets}

    def _rate(self, body: dict[str, Any]) -> tuple[int, object]:
        for one in body["ids"]:
            self.pictures[one].rating = body["rating"]
        return 204, None

    def _upsert(self, body: dict[str, Any]) -> tuple[int, object]:
        for value in body["tags"]:
            self.tags.setdefault(value, identity(5000 + len(self.tags)))
        when = "2026-01-01T00:00:00.000Z"
        return 200, [
            {
                "id": self.tags[value],
                "name": value.rpartition("/")[2],
                "value": value,
                "createdAt": when,
                "updatedAt": when,
            }
            for value in body["tags"]
        ]

    def _tag(self, body: dict[str, Any]) -> tuple[int, object]:
        values = {one: value for value, one in self.tags.items()}
        for one in body["assetIds"]:
            self.pictures[one].tags |= {values[tag] for tag in body["tagIds"]}
        return 200, {"count": len(body["assetIds"])}

    def _untag(self, tag: str, body: dict[str, Any]) -> tuple[int, object]:
        values = {one: value for value, one in self.tags.items()}
        for one in body["ids"]:
            self.pictures[one].tags.discard(values[tag])
        return 200, [{"id": one, "success": True} for one in body["ids"]]


def _refused(status: int, message: str) -> tuple[int, object]:
    names = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 500: "Internal Server Error"}
    about = {"message": message, "error": names.get(status, "Error"), "statusCode": status, "correlationId": "x1y2z3"}
    return status, about


def _handler(immich: Immich) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body, path = (json.loads(raw) if raw else None), urlsplit(self.path).path
            immich.asked.append((self.command, self.path, body))
            if path in immich.fail:
                status, said = _refused(immich.fail[path], "made to fail")
            elif path != "/api/server/version" and self.headers.get("x-api-key") != KEY:
                status, said = _refused(401, "Invalid API key")
            else:
                status, said = immich.answer(self.command, path, body)
            data = said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
            self.send_response(status)
            if status in (301, 302):
                self.send_header("Location", f"{immich.address}/elsewhere")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    return Handler
